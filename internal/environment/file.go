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

	"provwatch/internal/regularfile"
)

// Read parses the provider variables of the process, given in the
// form of [os.Environ], and of the environment file, if envFile names one
// (docs/specification.md, section 1). Each call reads the file again.
//
// A variable that is set in both has its value from the process, as with docker
// compose; where the two values differ, a warning names the variable. In either
// place a variable set to the empty string counts as not set.
//
// A line of the file is NAME=value, optionally with "export" before it. Values
// can be quoted, and need to be when they hold a "#"; nothing in them is
// expanded. The file can be shared with other programs: lines of another form are
// passed over with one warning, unless they name a provider variable or the keys that
// encrypt secrets. A byte order mark at its beginning does not count.
//
// The keys that encrypt secrets are those of the file if it sets one of their
// variables, else the process's.
//
// A file that cannot be read, or that holds a provider variable in a line that cannot
// be parsed, is an [*Error] too. The options are those of
// [Parse].
func Read(environ []string, envFile string, options ...Option) (Environment, error) {
	process := variablesOf(environ)
	variables := process
	var ofFile map[string]string // of the file alone
	fileVariables := 0
	var warnings []Finding
	if envFile != "" {
		file, err := readEnvFile(envFile)
		if err != nil {
			return Environment{}, err
		}
		variables, ofFile = file.variables, maps.Clone(file.variables)
		if len(file.passedOver) > 0 {
			warnings = append(warnings, Finding{regularfile.Shown(envFile), file.passedOver.String() +
				" passed over: not NAME=value, and no provider variable"})
		}
		for name, value := range variables {
			if _, ok := placeOf(name); ok && value != "" {
				fileVariables++
			}
		}
		for name, value := range process {
			if value == "" {
				continue
			}
			if inFile := variables[name]; inFile != "" && inFile != value {
				if _, ok := placeOf(name); ok {
					warnings = append(warnings, Finding{name,
						fmt.Sprintf("has another value in the file %s; the value of the process environment is used", envFile)})
				}
			}
			variables[name] = value
		}
	}

	env, err := Parse(variables, options...)
	env.FileVariables = fileVariables
	env.Warnings = append(warnings, env.Warnings...)
	sortFindings(env.Warnings)
	return env, env.setKeys(optionsOf(options), process, ofFile, err)
}

// variablesOf returns the variables by name. The first one of a name counts, as with
// [os.Getenv].
func variablesOf(environ []string) map[string]string {
	variables := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if _, repeated := variables[name]; !repeated {
			variables[name] = value
		}
	}
	return variables
}

// ReadPrefixed parses the provider variables of the process, given in the form of
// [os.Environ], that have begins in place of CODER_AIBRIDGE_ before their names: one
// of several environments in one process. Findings name variables as they are
// spelt. The keys that encrypt secrets are the process's.
func ReadPrefixed(environ []string, begins string, options ...Option) (Environment, error) {
	variables := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		rest, ok := strings.CutPrefix(name, begins)
		if _, repeated := variables[prefix+rest]; ok && !repeated {
			variables[prefix+rest] = value
		}
	}
	env, err := Parse(variables, options...)
	spell := func(findings []Finding) {
		for i := range findings {
			f := &findings[i]
			f.Variable = strings.ReplaceAll(f.Variable, prefix, begins)
			f.Message = strings.ReplaceAll(f.Message, prefix, begins)
		}
	}
	var failed *Error
	if errors.As(err, &failed) {
		spell(failed.Findings)
	}
	spell(env.Warnings)
	for i := range env.Providers {
		d := &env.Providers[i]
		d.Variables = strings.ReplaceAll(d.Variables, prefix, begins)
		d.CredentialsOrigin = strings.ReplaceAll(d.CredentialsOrigin, prefix, begins)
	}
	if len(env.Providers) == 0 && err == nil {
		env.Warnings = append(env.Warnings, Finding{begins, "no variable that begins so names a provider; nothing is watched"})
	}
	return env, env.setKeys(optionsOf(options), variablesOf(environ), nil, err)
}

// fileContent is what an environment file holds.
type fileContent struct {
	variables  map[string]string
	passedOver lineNumbers // lines of another form, which name no provider variable
}

// readEnvFile reads and parses the file. The error is an [*Error].
func readEnvFile(path string) (fileContent, error) {
	refuse := func(problems ...error) error {
		var e Error
		for _, problem := range problems {
			e.Findings = append(e.Findings, Finding{regularfile.Shown(path), problem.Error()})
		}
		return &e
	}
	text, err := regularfile.ReadGuarded(path, regularfile.Limit)
	if err != nil {
		return fileContent{}, refuse(fmt.Errorf("the environment file cannot be read: %w", regularfile.Cause(err))) // the path is named already
	}
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(text, []byte(mark)) {
			return fileContent{}, refuse(errors.New("the environment file is UTF-16; save it as UTF-8"))
		}
	}
	content, problems := parseEnvFile(bytes.TrimPrefix(text, []byte("\ufeff")))
	if len(problems) > 0 {
		return fileContent{}, refuse(problems...)
	}
	return content, nil
}

// parseEnvFile parses the file line by line. The problems are those of lines that name
// a provider variable.
func parseEnvFile(text []byte) (content fileContent, problems []error) {
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
		case namesProviderVariable(line), namesKeys(line):
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

// namesProviderVariable reports whether a line that cannot be parsed may be meant to
// set a provider variable: whether one is named before its first "=". That covers the
// syntax of other programs, such as "declare -x NAME=value" and "NAME: value".
func namesProviderVariable(line []byte) bool {
	head, _, _ := bytes.Cut(line, []byte("="))
	for _, word := range bytes.FieldsFunc(head, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`"';`, r) }) {
		for _, begin := range []string{prefix, aliasPrefix} {
			if at := bytes.Index(word, []byte(begin)); at >= 0 {
				if _, ok := placeOf(string(word[at:])); ok {
					return true
				}
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
