package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen " +
	"seventeen eighteen nineteen twenty a b c d e f g h i j k"

func TestCheck(t *testing.T) {
	tests := map[string]struct {
		path, source string
		want         []string // line: problem
	}{
		"a clean document":            {"a.md", "# Title\n\nThe worker reports drift.\n", nil},
		"a word in Markdown":          {"a.md", "The worker\ntells of drift.\n", []string{`1: "tells": log, report, return, show`}},
		"the line of a sentence":      {"a.md", "First one.\nIt waits for as long as\nit leads.\n", []string{`2: "for as long as": while`}},
		"an expression across lines":  {"a.md", "The worker makes\nsure of triggers.\n", []string{`1: "makes sure of": ensure`}},
		"a long sentence":             {"a.md", long + ".\n", []string{"1: 31 words, at most 30"}},
		"a sentence of 30 words":      {"a.md", strings.TrimSuffix(long, " k") + ".\n", nil},
		"a list":                      {"a.md", "- " + strings.Repeat("a ", 20) + "\n- " + strings.Repeat("b ", 20) + "\n", nil},
		"code in Markdown":            {"a.md", "Run `tell nobody`.\n\n```\nnobody\n```\n", nil},
		"an address":                  {"a.md", "See [the page](nobody-tells.md).\n", nil},
		"a cell of a table":           {"a.md", "| a | b |\n|---|---|\n| x | nobody |\n", []string{`3: "nobody": no client, no process`}},
		"as they are done":            {"a.md", "It prints events as they are published.\n", nil},
		"an idiom":                    {"a.md", "It waits, of course.\n", nil},
		"an exemption in Markdown":    {"a.md", "<!-- prose:allow cites a message -->\nNobody tells.\n\nNobody.\n", []string{`4: "Nobody": no client, no process`}},
		"an exemption without reason": {"a.md", "<!-- prose:allow -->\nNobody tells.\n", []string{"2: prose:allow needs a reason"}},
		"a Go comment":                {"a.go", "package a\n\n// F tells.\nfunc F() {}\n", []string{`3: "tells": log, report, return, show`}},
		"a Go comment behind code":    {"a.go", "package a\n\nvar x int // nobody\n", []string{`3: "nobody": no client, no process`}},
		"Go code":                     {"a.go", "package a\n\nvar x = \"// nobody\"\n\n//go:generate nobody\n\n// x\n//\n//\tnobody\n", nil},
		"a text in Go":                {"a.go", "package a\n\nvar x = f(\"tells it: \" + g(\"nobody is here\") + \" anew\")\n", []string{`3: "nobody": no client, no process`, `3: "tells": log, report, return, show`, `3: "anew": again`}},
		"a text of a test in Go":      {"a_test.go", "package a\n\nvar x = \"nobody is here\"\n", nil},
		"SQL in Go":                   {"a.go", "package a\n\nvar x = \"SELECT nobody FROM anew\"\n", nil},
		"an import in Go":             {"a.go", "package a\n\nimport \"a nobody b\"\n", nil},
		"an exemption in Go":          {"a.go", "package a\n\n// F tells.\n//\n//prose:allow the protocol's word\nvar x int\n", nil},
		"an exemption before in Go":   {"a.go", "package a\n\n//prose:allow the protocol's word\n// F tells.\nvar x int\n", nil},
		"SQL":                         {"a.sql", "-- anew\nSELECT 'nobody';\n", []string{`1: "anew": again`}},
		"a name of sqlc":              {"a.sql", "-- name: Anew :one\n-- Reads it.\n", nil},
		"shell":                       {"a.sh", "#!/bin/nobody\n# anew\necho nobody\n", []string{`2: "anew": again`}},
		"an exemption in shell":       {"a.sh", "# prose:allow cites a message\n# anew\n", nil},
		"a script without extension":  {"run", "#!/bin/sh\n# anew\n", []string{`2: "anew": again`}},
		"another kind of file":        {"a.txt", "# nobody\n", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			paragraphs, err := extract(test.path, []byte(test.source))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range check(test.path, paragraphs) {
				got = append(got, fmt.Sprintf("%d: %s", f.Line, f.Problem))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Each rule finds something, so that no pattern is mistyped.
func TestRulesMatch(t *testing.T) {
	for _, text := range []string{
		"told", "said", "minds", "noted", "a look", "elected", "course", "tried again", "anew", "for as long as", "made sure of",
		"whoever", "is to be", "may not", "gone", "in the database only", "are none", "leaves it as it is.", "so that it is so that", "but what",
		"what is left is", "those that", "one that", "in place of", "thus", "give or take",
	} {
		p := paragraph{lines: []line{{1, text}}}
		if len(check("a.md", []paragraph{p})) == 0 {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestRun(t *testing.T) {
	root := repository(t, map[string]string{"README.md": "Nobody knows.\n", "tools/prose/known.txt": ""})
	expect := func(o options, want string) {
		t.Helper()
		var out strings.Builder
		err := run(&out, root, o)
		got := out.String()
		if err != nil {
			got += err.Error()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	const found = "README.md:1: \"Nobody\": no client, no process: Nobody knows.\n"
	expect(options{}, found+"1 places to rewrite, see docs/prose.md")
	expect(options{adopt: true}, "")
	expect(options{}, "")
	expect(options{list: "README"}, found)

	// A known sentence can move, a second one like it is new.
	write(t, root, "docs/a.md", "# A\n\nNobody\nknows.\n")
	expect(options{}, "docs/a.md:3: \"Nobody\": no client, no process: Nobody knows.\n1 places to rewrite, see docs/prose.md")
	write(t, root, "README.md", "# A\n")
	expect(options{}, "")

	// A renamed declaration is not another sentence.
	write(t, root, "a.go", "package a\n\n// F tells.\nfunc F() {}\n")
	expect(options{adopt: true}, "")
	write(t, root, "a.go", "package a\n\n// G tells.\nfunc G() {}\n")
	expect(options{}, "")
	write(t, root, "a.go", "package a\n")
	expect(options{prune: true}, "")

	// What was rewritten leaves the list, and does not come back.
	write(t, root, "docs/a.md", "# A\n")
	expect(options{}, "1 known findings are no longer found, the first in docs/a.md: run make prune-prose")
	expect(options{prune: true}, "")
	expect(options{}, "")
	write(t, root, "docs/a.md", "Nobody knows.\n")
	expect(options{prune: true}, "docs/a.md:1: \"Nobody\": no client, no process: Nobody knows.\n1 places to rewrite, see docs/prose.md")
}

func TestFilesWithoutProse(t *testing.T) {
	root := repository(t, map[string]string{
		"CHANGELOG.md":           "Nobody.\n",
		"a/testdata/a.md":        "Nobody.\n",
		"a/generated.go":         "// Code generated by x. DO NOT EDIT.\n\n// Nobody.\npackage a\n",
		"tools/prose/known.txt":  "",
		"ignored/nobody.md":      "Nobody.\n",
		".gitignore":             "/ignored\n",
		"docs/configuration.md":  "# Configuration\n\nWritten by `make generate` from the flags. Nobody.\n",
		"docs/schemas/README.md": "Nobody.\n",
	})
	if err := run(os.Stderr, root, options{}); err != nil {
		t.Error(err)
	}
}

func repository(t *testing.T, files map[string]string) string {
	root := t.TempDir()
	if out, err := exec.Command("git", "init", "-q", root).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	for path, text := range files {
		write(t, root, path, text)
	}
	return root
}

func write(t *testing.T, root, path, text string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
