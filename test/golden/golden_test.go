//go:build e2e

// Package golden compares what a user of the worker can depend on with the files of
// testdata, byte by byte: help and flags, output and exit codes of the commands, tables,
// published payloads, what sinks are sent, metrics and pages.
//
// A change that is meant is recorded by
//
//	go test -tags e2e ./test/golden -update
//
// Its diff is part of the change. The files that hold names, types, defaults and exit
// codes alone (flags.txt, completion.txt, schema.txt, exit_codes.txt, metrics and
// payloads) are a promise. The others hold wording as well.
//
// Grants, triggers and the privileges of functions are in
// internal/schema/testdata/catalog.txt, and not repeated here.
package golden

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/workertest"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// workerBinary is the worker, built without the race detector, which makes each of its many
// starts slower. The tests of package test run it with the race detector.
var workerBinary string

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if workerBinary, err = workertest.Build("-ldflags=-X main.version=golden -X main.commit=0123abc"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := pgtest.Run(m)
	_ = os.RemoveAll(filepath.Dir(workerBinary))
	if code == 0 && isWholeRun() {
		code = checkUnused()
	}
	os.Exit(code)
}

// isWholeRun reports whether all tests of the package have run.
func isWholeRun() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		if flag.Lookup(name).Value.String() != "" {
			return false
		}
	}
	return true
}

// compared are the golden files that tests have compared with. Tests in parallel add to it.
var compared = struct {
	sync.Mutex
	files map[string]bool
}{files: map[string]bool{}}

// checkUnused fails for files of testdata that no test compares with, or removes them
// with -update. It returns the exit code.
func checkUnused() (code int) {
	err := filepath.WalkDir("testdata", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || compared.files[path] {
			return err
		}
		if *update {
			return os.Remove(path)
		}
		fmt.Fprintf(os.Stderr, "no test compares with %s: run go test -tags e2e ./test/golden -update\n", path)
		code = 1
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// compare compares a text, which [normaliser.text] has normalised, with a golden file.
func compare(t *testing.T, name, got string) {
	t.Helper()
	for _, secret := range secrets {
		require.NotContains(t, got, secret, "a secret in %s", name)
	}
	got = strings.TrimRight(got, "\n") + "\n"
	path := filepath.Join("testdata", filepath.FromSlash(name))
	compared.Lock()
	compared.files[path] = true
	compared.Unlock()
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run go test -tags e2e ./test/golden -update")
	require.Equal(t, string(want), got, "%s differs; if the change is meant, run go test -tags e2e ./test/golden -update", path)
}

// pattern is a value that varies from run to run, and the placeholder that replaces it.
type pattern struct {
	value *regexp.Regexp
	with  string
}

// patterns are the values that vary in any text. Digests without a key do not vary: they
// are promised.
var patterns = []pattern{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "<time>"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`operator:role=[^ ",]+(,user=[^ ",]+)?,uid=\d+`), "operator:<user>"},
	{regexp.MustCompile(`hmac:[0-9a-f]{64}`), "hmac:<digest>"},
	// Not 127.0.0.1:9464, the example of the help.
	{regexp.MustCompile(`127\.0\.0\.1:\d{5}\b`), "127.0.0.1:<port>"},
	{regexp.MustCompile(`provwatch_\d+`), "provwatch_<oid>"},
	{regexp.MustCompile(`\bsession \d+ of`), "session <pid> of"},
	{regexp.MustCompile(`\bkeeps [\d.]+ [KMG]?i?B of`), "keeps <bytes> of"},
	{regexp.MustCompile(`("(?:pid|xid|retained_bytes)": ?)\d+`), "${1}<number>"},
	{regexp.MustCompile(`("lsn": ?)"[0-9A-F]+/[0-9A-F]+"`), `${1}"<lsn>"`},
	{regexp.MustCompile(`("server_version": ?)"[^"]+"`), `${1}"<version>"`},
	{regexp.MustCompile(regexp.QuoteMeta(runtime.Version())), "<go version>"},
}

// normaliser replaces what varies from run to run, from machine to machine and from user
// to user.
type normaliser struct{ own []pattern }

// replace adds a text, such as a path, that varies. Texts are replaced in the order in
// which they are added, and before all that [patterns] has.
func (n *normaliser) replace(text, with string) {
	quoted := regexp.QuoteMeta(text)
	if regexp.MustCompile(`\w$`).MatchString(text) {
		quoted += `\b`
	}
	n.own = append(n.own, pattern{regexp.MustCompile(quoted), strings.ReplaceAll(with, "$", "$$")})
}

func (n *normaliser) text(text string) string {
	for _, list := range [][]pattern{n.own, patterns} {
		for _, p := range list {
			text = p.value.ReplaceAllString(text, p.with)
		}
	}
	return text
}

var blanks = regexp.MustCompile(`([^ \n]) {2,}`)

// squeezed makes the columns of a table as wide as what is in them, for a table whose
// widths depend on who runs the test.
func squeezed(text string) string { return blanks.ReplaceAllString(text, "$1  ") }
