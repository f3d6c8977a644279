package environment

import (
	"bytes"
	"errors"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/regularfile"
)

// ReadKeys returns the keys that encrypt secrets as [Read] does, and looks at
// nothing else. The error is an [*Error].
func ReadKeys(environ []string, envFile string, options ...Option) (dbcrypt.Keys, error) {
	o := optionsOf(options)
	file, err := readFile(envFile, o.prefixes)
	if err != nil {
		return dbcrypt.Keys{}, err
	}
	keys, _, failed := o.keysOf(variablesOf(environ), file.variables)
	if failed != nil {
		return dbcrypt.Keys{}, failed
	}
	return keys, nil
}

// setKeys sets the environment's keys, and adds what is wrong with them to err, which
// is nil or an [*Error].
func (e *Environment) setKeys(o options, process, file map[string]string, err error) error {
	keys, path, failed := o.keysOf(process, file)
	e.Keys, e.KeysFile = keys, path
	if failed == nil {
		return err
	}
	all := failed.Findings
	var found *Error
	if errors.As(err, &found) {
		all = append(all, found.Findings...)
	}
	o.prefixes.sort(all)
	e.Providers = nil
	return &Error{Findings: all}
}

// keysOf returns the keys of the variables of the environment file, if it sets any,
// else of the process's, and the path of the file that holds them, empty where none
// does.
func (o options) keysOf(process, file map[string]string) (keys dbcrypt.Keys, path string, failed *Error) {
	variables := process
	if o.keysEnviron != nil {
		variables = variablesOf(o.keysEnviron)
	}
	if file[dbcrypt.KeysVariable] != "" || file[dbcrypt.KeysFileVariable] != "" {
		variables = file
	}
	variable := ""
	var err error
	if o.keysFile != "" {
		variable, path = regularfile.Shown(o.keysFile), o.keysFile
		keys, err = dbcrypt.ReadKeys(o.keysFile)
	} else {
		path = variables[dbcrypt.KeysFileVariable]
		keys, variable, err = dbcrypt.FromVariables(variables)
	}
	if err != nil {
		return dbcrypt.Keys{}, path, &Error{Findings: []Finding{{variable, err.Error()}}}
	}
	return keys, path, nil
}

// namesKeys reports whether a line of an environment file that cannot be parsed may be
// meant to set the keys that encrypt secrets.
func namesKeys(line []byte) bool {
	head, _, _ := bytes.Cut(line, []byte("="))
	return bytes.Contains(head, []byte(dbcrypt.KeysVariable))
}
