package remedy

import (
	"strings"
)

// problem is an error with remedies in its text.
type problem struct{ parts Advice }

// Problem returns an error whose text are the parts: strings, remedies, and errors, which
// it wraps. Commands are in quotation marks.
func Problem(parts ...any) error { return &problem{parts} }

func (p *problem) Error() string {
	var text strings.Builder
	for _, part := range p.parts {
		switch part := part.(type) {
		case Remedy:
			text.WriteString(part.Quoted())
		case string:
			text.WriteString(part)
		case error:
			text.WriteString(part.Error())
		}
	}
	return text.String()
}

// Unwrap returns the errors among the parts.
func (p *problem) Unwrap() (wrapped []error) {
	for _, part := range p.parts {
		if err, ok := part.(error); ok {
			wrapped = append(wrapped, err)
		}
	}
	return wrapped
}

// Remedies returns the remedies in the text of the error.
func (p *problem) Remedies() (list []Remedy) {
	for _, part := range p.parts {
		if r, ok := part.(Remedy); ok {
			list = append(list, r)
		}
	}
	return list
}

// Of returns the remedies in the text of an error and of all errors that it wraps.
func Of(err error) []Remedy { return appendOf(nil, err) }

func appendOf(all []Remedy, err error) []Remedy {
	if carrier, ok := err.(interface{ Remedies() []Remedy }); ok {
		all = append(all, carrier.Remedies()...)
	}
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		if inner := wrapper.Unwrap(); inner != nil {
			all = appendOf(all, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			all = appendOf(all, inner)
		}
	}
	return all
}

// Text returns the text of an error with its remedies rendered for the site.
//
// It replaces all of them in one pass: an error can name thousands of providers.
func (s Site) Text(err error) string {
	if done, ok := err.(*rendered); ok {
		return done.text
	}
	var pairs []string
	seen := map[string]bool{}
	for _, r := range Of(err) {
		if quoted := r.Quoted(); !seen[quoted] {
			seen[quoted] = true
			pairs = append(pairs, quoted, s.quoted(r))
		}
	}
	return strings.NewReplacer(pairs...).Replace(err.Error())
}

// Error returns err with the text of [Site.Text].
func (s Site) Error(err error) error {
	if err == nil || len(Of(err)) == 0 {
		return err
	}
	return &rendered{s.Text(err), err}
}

type rendered struct {
	text string
	err  error
}

func (r *rendered) Error() string { return r.text }

func (r *rendered) Unwrap() error { return r.err }
