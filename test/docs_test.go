//go:build e2e

package test

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestDocs(t *testing.T) {
	t.Parallel()
	t.Run("DependenciesAreExplained", testDocsDependenciesAreExplained)
	t.Run("NamedTestsExist", testDocsNamedTestsExist)
	t.Run("FuzzTargets", testDocsFuzzTargets)
	t.Run("ModelsMatchTheCode", testDocsModelsMatchTheCode)
	t.Run("PackagesImportNoMore", testDocsPackagesImportNoMore)
	t.Run("LinksResolve", testDocsLinksResolve)
	t.Run("RunbookIsComplete", testDocsRunbookIsComplete)
	t.Run("ReadinessStates", testDocsReadinessStates)
}

func testDocsDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	direct := map[string]bool{}
	for _, module := range []string{"../go.mod", "../tools/go.mod", "../tools/deploy/go.mod"} {
		for _, m := range regexp.MustCompile(`(?m)^(?:require )?\t?([a-z]\S*/\S*) v\S+$`).FindAllStringSubmatch(read(t, module), -1) {
			direct[m[1]] = true
		}
	}
	require.Contains(t, direct, "github.com/jackc/pgx/v5")
	for _, module := range []string{"../tools/go.mod", "../tools/deploy/go.mod"} {
		tools := regexp.MustCompile(`(?m)^\t?(?:tool )?([a-z]\S*?)(?:/cmd/[\w-]+)?$`).FindAllStringSubmatch(read(t, module), -1)
		require.NotEmpty(t, tools)
		for _, m := range tools {
			direct[m[1]] = true
		}
	}

	explained := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*`) \\| .+ \\|$").FindAllStringSubmatch(read(t, "../docs/dependencies.md"), -1) {
		for _, name := range strings.Split(row[1], ", ") {
			explained[strings.Trim(name, "`")] = true
		}
	}
	require.Equal(t, direct, explained)
}

// testSources returns the test files of each folder.
func testSources(t *testing.T) map[string]string {
	t.Helper()
	folders := map[string]string{}
	require.NoError(t, filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			folders[filepath.Dir(path)] += read(t, path)
		}
		return err
	}))
	return folders
}

func testDocsNamedTestsExist(t *testing.T) {
	t.Parallel()
	tests := testSources(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)[\\w/]+)`").FindAllStringSubmatch(read(t, "../docs/guarantees.md"), -1)
	require.Greater(t, len(named), 20)
	for _, name := range named {
		requireTest(t, tests, name[1], "docs/guarantees.md")
	}
	for _, list := range []string{"../scripts/stress-tests.txt", "../.ci/expected-skips"} {
		named := regexp.MustCompile(`(?m)^[^#\s]\S* (Test[\w/]+)`).FindAllStringSubmatch(read(t, list), -1)
		require.NotEmpty(t, named, list)
		for _, name := range named {
			requireTest(t, tests, name[1], list)
		}
	}
}

// requireTest requires the test that a document names as TestSubject or TestSubject/behaviour.
// tests are the test files of a folder each. A behaviour stands in its subject, or anywhere in
// the folder where the subject goes through a table.
func requireTest(t *testing.T, tests map[string]string, name, document string) {
	t.Helper()
	subject, behaviours, _ := strings.Cut(name, "/")
	behaviour, _, _ := strings.Cut(behaviours, "/")
	quoted := `"` + strings.ReplaceAll(behaviour, "_", " ") + `"`
	for _, text := range tests {
		_, body, found := strings.Cut(text, "\nfunc "+subject+"(")
		if !found {
			continue
		}
		body, _, _ = strings.Cut(body, "\n}\n")
		table := strings.Contains(body, " range ") || strings.Contains(body, "bothSources")
		if behaviour == "" || strings.Contains(body, quoted) || table && strings.Contains(text, quoted) {
			return
		}
	}
	require.Fail(t, "no such test", "%s is named in %s", name, document)
}

func testDocsFuzzTargets(t *testing.T) {
	t.Parallel()
	targets := map[string]bool{}
	require.NoError(t, filepath.WalkDir("../internal", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, target := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`).FindAllStringSubmatch(read(t, path), -1) {
				targets[target[1]] = true
				corpus, err := os.ReadDir(filepath.Join(filepath.Dir(path), "testdata", "fuzz", target[1]))
				require.NoError(t, err)
				require.NotEmpty(t, corpus, target[1])
			}
		}
		return err
	}))
	require.NotEmpty(t, targets)

	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(Fuzz\\w+)` \\|").FindAllStringSubmatch(read(t, "../docs/fuzzing.md"), -1) {
		documented[row[1]] = true
	}
	require.Equal(t, targets, documented)
}

// testDocsModelsMatchTheCode checks that the functions, statements and tests that
// docs/model.md names are there, and that it has each mutation of the models.
func testDocsModelsMatchTheCode(t *testing.T) {
	t.Parallel()
	document := read(t, "../docs/model.md")
	named := regexp.MustCompile("`((?:internal|sql)/[\\w/]+\\.(go|sql)): ([\\w., ]+)`").FindAllStringSubmatch(document, -1)
	require.Greater(t, len(named), 20)
	for _, m := range named {
		text := read(t, "../"+m[1])
		for _, name := range strings.Split(m[3], ", ") {
			declared := `(?m)^-- name: ` + name + ` :|^CREATE FUNCTION ` + regexp.QuoteMeta(name) + `\(`
			if receiver, method, ok := strings.Cut(name, "."); m[2] == "go" && ok {
				declared = `(?m)^func \(\w+ \*?` + receiver + `\) ` + method + `\(`
			} else if m[2] == "go" {
				declared = `(?m)^func ` + name + `\(`
			}
			require.Regexp(t, declared, text, "%s is in %s", name, m[1])
		}
	}

	mutations := map[string]bool{}
	models, err := filepath.Glob("model/*.pml")
	require.NoError(t, err)
	for _, model := range models {
		for _, m := range regexp.MustCompile(`(?m)^#ifn?def MUTATE_(\w+)`).FindAllStringSubmatch(read(t, model), -1) {
			mutations[m[1]] = true
		}
	}
	require.NotEmpty(t, mutations)
	documented, tried := map[string]bool{}, map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(?:\\w+/)([A-Z_]+)` \\|.*$").FindAllStringSubmatch(document, -1) {
		documented[row[1]] = true
	}
	for _, line := range regexp.MustCompile(`(?m)^\w+/([A-Z_]+)\|`).FindAllStringSubmatch(read(t, "../scripts/model.sh"), -1) {
		tried[line[1]] = true
	}
	require.Equal(t, mutations, documented)
	require.Equal(t, mutations, tried)
	tests := testSources(t)
	for _, name := range regexp.MustCompile("`(Test[\\w/]+)`").FindAllStringSubmatch(document, -1) {
		requireTest(t, tests, name[1], "docs/model.md")
	}
}

// testDocsPackagesImportNoMore compares the table of packages with what they import.
func testDocsPackagesImportNoMore(t *testing.T) {
	t.Parallel()
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `internal/([a-z]+)` \\|[^|]*\\| ?([^|]*?) ?\\|$").FindAllStringSubmatch(read(t, "../docs/architecture.md"), -1) {
		documented[row[1]] = strings.ReplaceAll(row[2], "`", "")
	}
	require.Greater(t, len(documented), 30)
	folders, err := filepath.Glob("../internal/*")
	require.NoError(t, err)
	for _, folder := range folders {
		name := filepath.Base(folder)
		imports, listed := documented[name]
		if strings.HasSuffix(name, "test") && !listed {
			continue
		}
		require.Equal(t, imports, strings.Join(importsOf(t, folder), " "), "internal/%s", name)
	}
}

// importsOf returns the packages of internal that a package imports, tests aside.
func importsOf(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	imports := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, i := range file.Imports {
			if name, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), "provwatch/internal/"); ours {
				imports[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(imports))
}

// testDocsLinksResolve checks links to files and headings of
// the repository.
func testDocsLinksResolve(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	anchors := 0
	for _, document := range append(documents, "../README.md", "../CHANGELOG.md", "../CONTRIBUTING.md", "../SECURITY.md") {
		for _, link := range regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]+))?\)`).FindAllStringSubmatch(read(t, document), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(document), link[1])
			if link[1] == "" {
				target = document
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "linked in %s", document)
			if link[2] != "" {
				anchors++
				require.Contains(t, headings(read(t, target)), link[2], "a heading of %s, linked in %s", target, document)
			}
		}
	}
	require.Greater(t, anchors, 10)
}

// headings returns the anchors of a document's headings.
func headings(text string) (list []string) {
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		list = append(list, strings.ReplaceAll(anchor, " ", "-"))
	}
	return list
}

// testDocsRunbookIsComplete checks that docs/runbook.md has all that a worker reports.
func testDocsRunbookIsComplete(t *testing.T) {
	t.Parallel()
	runbook := read(t, "../docs/runbook.md")
	enum := func(schema, property string) []string {
		var s struct {
			Properties map[string]struct{ Enum []string }
		}
		require.NoError(t, json.Unmarshal([]byte(read(t, "../docs/schemas/"+schema)), &s))
		require.NotEmpty(t, s.Properties[property].Enum)
		return s.Properties[property].Enum
	}
	for _, kind := range enum("drift.json", "kind") {
		require.Contains(t, runbook, "\n### "+kind+"\n")
	}
	for _, event := range enum("status.json", "event") {
		require.Contains(t, runbook, "\n| `"+event+"` | ")
	}
	health := read(t, "../internal/daemon/health.go") + read(t, "../internal/daemon/hints.go") + read(t, "../internal/daemon/verifications.go")
	for _, reason := range []string{"booting", "booting: ", "not listening: ", "the last verification failed: "} {
		require.Contains(t, health, `"`+reason, "the reason that the worker gives")
		require.Contains(t, runbook, "\n| `"+reason)
	}
}
