package main

import (
	"fmt"
	"regexp"
	"strings"
)

// maxWords is how many words a sentence may have.
const maxWords = 30

// A rule replaces an expression by plainer ones.
type rule struct {
	pattern *regexp.Regexp
	instead string
}

// rules are the words and constructs to avoid. Patterns are matched without regard to case in a
// sentence from which quoted code was removed.
var rules = []rule{
	{word(`(is|are|was|were) told|tells?|told|telling`), "log, report, return, show"},
	{word(`says?|said`), "log, report, return, show"},
	{word(`minds?|minded`), "handle, check"},
	{word(`noted|notes (when|that|what|which|who|how|in)`), "record"},
	{word(`(a|the|each|one|another|every|its) look`), "verification, query"},
	{word(`elected`), "lead, take over"},
	{word(`courses?`), "run, term"},
	{word(`try again|tried again|tries again|trying again`), "retry"},
	{word(`anew`), "again"},
	{word(`for as long as`), "while"},
	{word(`(make|makes|made|making) sure of`), "ensure"},
	{word(`whoever`), "the caller, the operator, the client"},
	{word(`nobody`), "no client, no process"},
	{word(`(is|are) to be`), "must be"},
	{word(`may not`), "cannot, must not"},
	{word(`gone`), "soft-deleted, removed"},
	{word(`in the database only`), "unmanaged"},
	{word(`(is|are) none`), "is not one, has none"},
	{regexp.MustCompile(`(?i)\bas (it|they) (is|are)(?:[.,;:)]|$)`), "unchanged"},
	{word(`so that\b.*\bso that`), "two sentences"},
	{word(`but for|but what`), "except"},
	{word(`what (is|was|are|were) \w+ (is|was|are|were)`), "the thing's name"},
	{word(`those that`), "the noun: the rows that, the events that"},
	{word(`one that`), "the noun"},
	{word(`in place of`), "instead of"},
	{word(`hence|thus`), "so"},
	{word(`give or take`), "±"},
}

func word(pattern string) *regexp.Regexp { return regexp.MustCompile(`(?i)\b(?:` + pattern + `)\b`) }

// idioms have a word of a rule and another meaning.
var idioms = regexp.MustCompile(`(?i)\bof course\b|\bthere (is|are) none\b`)

// A finding is a place to rewrite.
type finding struct {
	Path    string
	Line    int
	Problem string
	// Sentence, with Problem, identifies the finding wherever it is.
	Sentence string
}

func (f finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.Path, f.Line, f.Problem, shorten(f.Sentence, 120))
}

func shorten(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// check returns the findings of a file's paragraphs.
func check(path string, paragraphs []paragraph) []finding {
	var found []finding
	for _, p := range paragraphs {
		if p.allowed {
			if p.reason == "" {
				found = append(found, finding{path, p.lines[0].number, "prose:allow needs a reason", p.text()})
			}
			continue
		}
		for _, s := range p.sentences() {
			if n := len(strings.Fields(s.text)); n > maxWords {
				found = append(found, finding{path, s.line, fmt.Sprintf("%d words, at most %d", n, maxWords), s.text})
			}
			plain := idioms.ReplaceAllString(s.text, "")
			for _, r := range rules {
				if m := strings.TrimRight(r.pattern.FindString(plain), ".,;:)"); m != "" {
					found = append(found, finding{path, s.line, fmt.Sprintf("%q: %s", m, r.instead), s.text})
				}
			}
		}
	}
	return found
}
