package environment

import (
	"fmt"
	"maps"
	"slices"

	"provwatch/internal/dbcrypt"
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
// can be quoted, and must be when they hold a "#"; nothing in them is
// expanded. The file can be shared with other programs: lines of another form are
// passed over with one warning, unless they name a provider variable or the keys that
// encrypt secrets. A byte order mark at its beginning does not count.
//
// The keys that encrypt secrets are those of the file if it sets one of their
// variables, else the process's.
//
// A file that cannot be read is an [*Error] too. So is an environment file that holds a
// provider variable in a line that cannot be parsed.
func Read(environ []string, envFile string, options ...Option) (Environment, error) {
	o := optionsOf(options)
	file, err := readEnvFile(envFile, o)
	if err != nil {
		return Environment{Files: o.files.list}, err
	}
	process := variablesOf(environ)
	variables := process
	var warnings []Finding
	if envFile != "" {
		variables, warnings = merge(process, file, envFile, o.prefixes)
	}

	env, err := parse(variables, o)
	env.FileVariables = file.providerVariables(o.prefixes)
	if err == nil && len(env.Providers) == 0 && !slices.Equal(o.prefixes, defaultPrefixes) {
		warnings = append(warnings, Finding{o.prefixes[0], "no variable that begins so names a provider; nothing is watched"})
	}
	env.Warnings = append(warnings, env.Warnings...)
	o.prefixes.sort(env.Warnings)
	err = env.setKeys(o, process, file.variables, err)
	env.Files = o.files.list
	return env, err
}

// merge adds to the variables of the file those of the process, which win. It warns of
// lines that are passed over and of values that differ.
func merge(process map[string]string, file fileContent, path string, prefixes prefixes) (variables map[string]string, warnings []Finding) {
	if len(file.passedOver) > 0 {
		warnings = append(warnings, Finding{regularfile.Shown(path), file.passedOver.String() +
			" passed over: not NAME=value, and no provider variable"})
	}
	variables = maps.Clone(file.variables)
	for name, value := range process {
		if value == "" {
			continue
		}
		if inFile := variables[name]; inFile != "" && inFile != value {
			if _, ok := prefixes.parse(name); ok {
				warnings = append(warnings, Finding{name,
					fmt.Sprintf("has another value in the file %s; the value of the process environment is used", path)})
			}
		}
		variables[name] = value
	}
	return variables, warnings
}

// providerVariables counts the provider variables that the file sets.
func (c fileContent) providerVariables(prefixes prefixes) int {
	n := 0
	for name, value := range c.variables {
		if _, ok := prefixes.parse(name); ok && value != "" {
			n++
		}
	}
	return n
}

// ReadKeys returns the keys that encrypt secrets as [Read] does, and looks at
// nothing else. The error is an [*Error].
func ReadKeys(environ []string, envFile string, options ...Option) (dbcrypt.Keys, error) {
	o := optionsOf(options)
	file, err := readEnvFile(envFile, o)
	if err != nil {
		return dbcrypt.Keys{}, err
	}
	keys, failed := o.keysOf(variablesOf(environ), file.variables)
	if failed != nil {
		return dbcrypt.Keys{}, failed
	}
	return keys, nil
}
