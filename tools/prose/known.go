package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"path"
	"strings"
)

// A known finding does not fail the check. The sentence and the problem identify the finding. The
// path is for readers, since a sentence moves with its code.
type known struct{ Path, Digest string }

// digest identifies a finding, without the first word of a comment: a renamed declaration is not
// another sentence.
func (f finding) digest() string {
	problem, _, _ := strings.Cut(f.Problem, ", at most")
	text := f.Sentence
	if path.Ext(f.Path) == ".go" {
		_, text, _ = strings.Cut(text, " ")
	}
	sum := sha256.Sum256([]byte(problem + "\x00" + text))
	return fmt.Sprintf("%x", sum[:6])
}

func parseKnown(text []byte) ([]known, error) {
	var all []known
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if lines.Text() == "" || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		digest, file, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			return nil, fmt.Errorf("not a digest and a path: %q", lines.Text())
		}
		all = append(all, known{file, digest})
	}
	return all, lines.Err()
}

func formatKnown(found []finding) []byte {
	var b bytes.Buffer
	b.WriteString("# Sentences older than the prose check, by file. Lines are only ever removed (make prune-prose).\n")
	for _, f := range found {
		fmt.Fprintf(&b, "%s %s\n", f.digest(), f.Path)
	}
	return b.Bytes()
}

// compare returns the findings that are not known, and the known ones that were not found. One
// line covers one finding.
func compare(found []finding, lines []known) (fresh []finding, stale []known) {
	left := map[string][]known{}
	for _, k := range lines {
		left[k.Digest] = append(left[k.Digest], k)
	}
	for _, f := range found {
		d := f.digest()
		if len(left[d]) == 0 {
			fresh = append(fresh, f)
			continue
		}
		left[d] = left[d][1:]
	}
	for _, k := range lines {
		if len(left[k.Digest]) > 0 {
			stale = append(stale, k)
			left[k.Digest] = left[k.Digest][1:]
		}
	}
	return fresh, stale
}
