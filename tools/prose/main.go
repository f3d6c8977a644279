// Command prose checks Markdown and the comments of Go, SQL and shell for words that the
// repository avoids and for long sentences.
//
//	prose [-prune | -adopt | -list PREFIX] ROOT
//
// The file of known findings (ROOT/tools/prose/known.txt) lists the sentences that are older than
// the rules. The check fails on every other finding, and on a known one that is no longer found.
// -prune removes those lines, -adopt writes the whole file after a new rule, and -list lists all
// findings of the files below a prefix.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// options are the flags.
type options struct {
	prune, adopt bool
	list         string
}

func main() {
	var o options
	flag.BoolVar(&o.prune, "prune", false, "remove known findings that are no longer found")
	flag.BoolVar(&o.adopt, "adopt", false, "make all findings known ones")
	flag.StringVar(&o.list, "list", "", "list all findings of the files with this prefix, the known ones included")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: prose [-prune | -adopt | -list PREFIX] ROOT")
		os.Exit(2)
	}
	if err := run(os.Stdout, flag.Arg(0), o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run checks the files below root.
func run(w io.Writer, root string, o options) error {
	files, err := tracked(root)
	if err != nil {
		return err
	}
	found, err := checkFiles(root, files)
	if err != nil {
		return err
	}
	path := filepath.Join(root, "tools", "prose", "known.txt")
	switch {
	case o.list != "":
		for _, f := range found {
			if strings.HasPrefix(f.Path, o.list) {
				fmt.Fprintln(w, f)
			}
		}
		return nil
	case o.adopt:
		return os.WriteFile(path, formatKnown(found), 0o644)
	}
	stored, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known, err := parseKnown(stored)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fresh, stale := compare(found, known)
	if o.prune {
		kept := slices.DeleteFunc(found, func(f finding) bool { return slices.Contains(fresh, f) })
		if err := os.WriteFile(path, formatKnown(kept), 0o644); err != nil {
			return err
		}
		stale = nil
	}
	for _, f := range fresh {
		fmt.Fprintln(w, f)
	}
	switch {
	case len(fresh) > 0:
		return fmt.Errorf("%d places to rewrite, see docs/prose.md", len(fresh))
	case len(stale) > 0:
		return fmt.Errorf("%d known findings are no longer found, the first in %s: run make prune-prose", len(stale), stale[0].Path)
	default:
		return nil
	}
}

// tracked lists the files below root that belong to the repository.
func tracked(root string) ([]string, error) {
	git := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir, git.Stderr = root, os.Stderr
	out, err := git.Output()
	if err != nil {
		return nil, fmt.Errorf("list the files of the repository: %w", err)
	}
	files := strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
	slices.Sort(files)
	return slices.Compact(files), nil
}

// checkFiles returns the findings of files, which are relative to root.
func checkFiles(root string, files []string) ([]finding, error) {
	var found []finding
	for _, path := range files {
		if skipped(path) {
			continue
		}
		source, err := os.ReadFile(filepath.Join(root, path))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not yet committed
		}
		if err != nil {
			return nil, err
		}
		if generated(source) {
			continue
		}
		paragraphs, err := extract(path, source)
		if err != nil {
			return nil, err
		}
		found = append(found, check(path, paragraphs)...)
	}
	return found, nil
}

// skipped reports whether a file holds no prose of the present: history, test data, and what
// cites the words to avoid.
func skipped(path string) bool {
	return path == "CHANGELOG.md" || path == "docs/prose.md" || strings.HasPrefix(path, "tools/prose/") ||
		strings.Contains("/"+path, "/testdata/") || strings.HasPrefix(path, "docs/schemas/")
}

// generated reports whether a program wrote the file.
func generated(source []byte) bool {
	head := source[:min(len(source), 400)]
	return bytes.Contains(head, []byte("// Code generated ")) || bytes.Contains(head, []byte("Written by `make generate`"))
}
