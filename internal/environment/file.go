package environment

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"unicode"

	"github.com/dustin/go-humanize/english"
	"github.com/hashicorp/go-envparse"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/regularfile"
)

// fileContent is what an environment file holds.
type fileContent struct {
	variables  map[string]string // nil without a file
	passedOver lineNumbers       // lines of another form, which name no provider variable
}

// readEnvFile reads and parses the environment file, if there is one. The error is an
// [*Error].
func readEnvFile(path string, o options) (fileContent, error) {
	if path == "" {
		return fileContent{}, nil
	}
	refuse := func(problems ...error) error {
		var e Error
		for _, problem := range problems {
			e.Findings = append(e.Findings, Finding{regularfile.Shown(path), problem.Error()})
		}
		return &e
	}
	text, err := o.files.read(path)
	if err != nil {
		return fileContent{}, refuse(fmt.Errorf("the environment file cannot be read: %w", regularfile.Cause(err))) // the path is named already
	}
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(text, []byte(mark)) {
			return fileContent{}, refuse(errors.New("the environment file is UTF-16; save it as UTF-8"))
		}
	}
	content, problems := parseFile(bytes.TrimPrefix(text, []byte("\ufeff")), o.prefixes)
	if len(problems) > 0 {
		return fileContent{}, refuse(problems...)
	}
	return content, nil
}

// parseFile parses the file line by line. The problems are those of lines that name
// a provider variable or the keys that encrypt secrets.
func parseFile(text []byte, prefixes prefixes) (content fileContent, problems []error) {
	content.variables = map[string]string{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		variables, err := parseLine(number, line)
		if err == nil && continues(line, variables) {
			err = fmt.Errorf("line %d: ends with \\; a value cannot continue on the next line", number)
		}
		switch {
		case err == nil:
			maps.Copy(content.variables, variables)
		case prefixes.named(line), namesKeys(line):
			problems = append(problems, err)
		default:
			content.passedOver = append(content.passedOver, number)
		}
	}
	return content, problems
}

// parseLine returns an error without anything of the line: the parser quotes single
// characters in some of its own, and these can be part of a key.
func parseLine(number int, line []byte) (map[string]string, error) {
	variables, err := envparse.Parse(bytes.NewReader(line))
	var parseError *envparse.ParseError
	switch {
	case err == nil:
		return variables, nil
	case !errors.As(err, &parseError):
		return nil, fmt.Errorf("line %d cannot be parsed", number)
	case errors.Is(parseError.Err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line %d is too long; at most %d bytes are allowed", number, bufio.MaxScanTokenSize-1)
	}
	problem := "holds a character or an escape sequence that is not allowed"
	for _, known := range []error{
		envparse.ErrMissingSeparator, envparse.ErrEmptyKey, envparse.ErrUnmatchedDouble, envparse.ErrUnmatchedSingle,
		envparse.ErrIncompleteEscape, envparse.ErrIncompleteHex, envparse.ErrIncompleteSur, envparse.ErrMultibyteEscape,
	} {
		if errors.Is(parseError.Err, known) {
			problem = known.Error()
		}
	}
	return nil, fmt.Errorf("line %d: %s; write NAME=value, with the value in single quotes if it holds \", # or \\", number, problem)
}

// continues reports whether a line sets a variable to a value that ends with a backslash
// outside quotes, by which other programs continue a line.
func continues(line []byte, variables map[string]string) bool {
	for _, value := range variables {
		return strings.HasSuffix(value, `\`) && bytes.HasSuffix(bytes.TrimSpace(line), []byte(`\`))
	}
	return false
}

// named reports whether a line that cannot be parsed may be meant to set a provider
// variable: whether the line names one before its first "=". That covers the
// syntax of other programs, such as "declare -x NAME=value" and "NAME: value".
func (ps prefixes) named(line []byte) bool {
	head, _, _ := bytes.Cut(line, []byte("="))
	for _, word := range bytes.FieldsFunc(head, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`"';`, r) }) {
		for _, prefix := range ps {
			at := bytes.Index(word, []byte(prefix))
			if at < 0 {
				continue
			}
			if _, ok := ps.parse(string(word[at:])); ok {
				return true
			}
		}
	}
	return false
}

// lineNumbers are in ascending order.
type lineNumbers []int

// maxRuns bounds how many runs of lines a message names.
const maxRuns = 10

// String returns "line 3", or "lines 3, 5 to 9", or that with "and n more".
func (numbers lineNumbers) String() string {
	var runs []string
	named := 0
	for first := 0; first < len(numbers) && len(runs) < maxRuns; first = named {
		last := first
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		run := strconv.Itoa(numbers[first])
		if last > first {
			run += " to " + strconv.Itoa(numbers[last])
		}
		runs = append(runs, run)
		named = last + 1
	}
	text := english.PluralWord(len(numbers), "line", "") + " " + strings.Join(runs, ", ")
	if more := len(numbers) - named; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// namesKeys reports whether a line of an environment file that cannot be parsed may be
// meant to set the keys that encrypt secrets.
func namesKeys(line []byte) bool {
	head, _, _ := bytes.Cut(line, []byte("="))
	return bytes.Contains(head, []byte(dbcrypt.KeysVariable))
}
