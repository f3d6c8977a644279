package seed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/go-envparse"

	"provwatch/internal/regularfile"
)

// ReadEnvironment parses the provider variables of the process, given in the
// form of [os.Environ], and of the environment file, if envFile names one (spec
// section 1). The file is read anew by each call.
//
// A variable that is set in both has its value from the process, as with docker
// compose; where the two values differ, a warning names the variable. In either
// place a variable set to the empty string counts as not set.
//
// A line of the file is NAME=value, optionally with "export" before it. Values
// can be quoted, and need to be when they hold a "#"; nothing in them is
// expanded.
//
// A file that cannot be read or parsed is an [*EnvironmentError] too. The options are
// those of [ParseEnvironment].
func ReadEnvironment(environ []string, envFile string, options ...Option) (Environment, error) {
	process := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if _, repeated := process[name]; !repeated { // the first one counts, as with os.Getenv
			process[name] = value
		}
	}

	variables := process
	fileVariables := 0
	var overridden []Finding
	if envFile != "" {
		var err error
		if variables, err = readEnvFile(envFile); err != nil {
			return Environment{}, &EnvironmentError{Findings: []Finding{{regularfile.Shown(envFile), err.Error()}}}
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
					overridden = append(overridden, Finding{name,
						fmt.Sprintf("has another value in the file %s; the value of the process environment is used", envFile)})
				}
			}
			variables[name] = value
		}
	}

	env, err := ParseEnvironment(variables, options...)
	env.FileVariables = fileVariables
	env.Warnings = append(overridden, env.Warnings...)
	sortFindings(env.Warnings)
	return env, err
}

// ReadPrefixed parses the provider variables of the process, given in the form of
// [os.Environ], that have begins in place of CODER_AIBRIDGE_ before their names: one
// of several environments in one process. Findings name variables as they are
// spelt.
func ReadPrefixed(environ []string, begins string, options ...Option) (Environment, error) {
	variables := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		rest, ok := strings.CutPrefix(name, begins)
		if _, repeated := variables[prefix+rest]; ok && !repeated {
			variables[prefix+rest] = value
		}
	}
	env, err := ParseEnvironment(variables, options...)
	spell := func(findings []Finding) {
		for i := range findings {
			f := &findings[i]
			f.Variable = strings.ReplaceAll(f.Variable, prefix, begins)
			f.Message = strings.ReplaceAll(f.Message, prefix, begins)
		}
	}
	var failed *EnvironmentError
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
	return env, err
}

// readEnvFile returns an error without anything of the file's text: the parser
// quotes single characters in some of its own, and these can be part of a key.
func readEnvFile(path string) (map[string]string, error) {
	text, err := regularfile.ReadGuarded(path, regularfile.Limit)
	if err != nil {
		return nil, fmt.Errorf("the environment file cannot be read: %w", regularfile.Cause(err)) // the path is named already
	}
	variables, err := envparse.Parse(bytes.NewReader(text))
	if err == nil {
		return variables, nil
	}

	var parseError *envparse.ParseError
	if !errors.As(err, &parseError) {
		return nil, errors.New("the environment file cannot be parsed")
	}
	if errors.Is(parseError.Err, bufio.ErrTooLong) {
		// The scanner gives up before it has counted the line.
		return nil, fmt.Errorf("line %d is too long; at most %d bytes are allowed", parseError.Line+1, bufio.MaxScanTokenSize-1)
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
	return nil, fmt.Errorf("line %d: %s; write NAME=value, with the value in single quotes if it holds \", # or \\", parseError.Line, problem)
}
