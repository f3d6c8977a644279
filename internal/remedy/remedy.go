// Package remedy holds ways out of a problem as data. Errors and log attributes carry a
// [Remedy]. The edges of the program render it by a [Site], which knows how the process was
// called and which database it works on.
package remedy

import (
	"log/slog"
	"strings"
)

// Remedy is a way out of a problem: a command of this program.
type Remedy struct {
	Command string   // such as "migrate" or "sinks retry"
	Args    []string // of the command
	// variables makes it the remedy of [NameProviders].
	variables bool
}

// Run is the remedy of a command.
func Run(command string, args ...string) Remedy { return Remedy{Command: command, Args: args} }

// NameProviders is the remedy of an environment that names no provider.
func NameProviders() Remedy { return Remedy{variables: true} }

// String renders a remedy for a process without flags.
func (r Remedy) String() string { return Site{}.Render(r) }

// LogValue renders a remedy as [Remedy.String] does, for handlers that know no site.
func (r Remedy) LogValue() slog.Value { return slog.StringValue(r.String()) }

// quoted returns a rendered remedy as texts hold it: a command in quotation marks.
func (s Site) quoted(r Remedy) string {
	text := s.Render(r)
	if r.variables || s.inFile(r) {
		return text
	}
	return `"` + text + `"`
}

// Quoted renders a remedy in quotation marks, for the text of an error whose Remedies
// method returns it.
func (r Remedy) Quoted() string { return Site{}.quoted(r) }

// Advice is a text of strings and remedies, for the attribute "remedy" of a log line.
type Advice []any

// String renders the advice for a process without flags.
func (a Advice) String() string { return Site{}.Advice(a) }

// LogValue renders an advice as [Advice.String] does, for handlers that know no site.
func (a Advice) LogValue() slog.Value { return slog.StringValue(a.String()) }

// problem is an error with remedies in its text.
type problem struct{ parts Advice }

// Problem returns an error whose text are the parts. Commands are in quotation marks.
func Problem(parts ...any) error { return &problem{parts} }

func (p *problem) Error() string {
	var text strings.Builder
	for _, part := range p.parts {
		switch part := part.(type) {
		case Remedy:
			text.WriteString(part.Quoted())
		case string:
			text.WriteString(part)
		}
	}
	return text.String()
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

// Advice returns the text of an advice with its remedies rendered for the site.
func (s Site) Advice(advice Advice) string {
	var text strings.Builder
	for _, part := range advice {
		switch part := part.(type) {
		case Remedy:
			text.WriteString(s.Render(part))
		case string:
			text.WriteString(part)
		}
	}
	return text.String()
}
