package environment

import (
	"errors"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/regularfile"
)

// setKeys sets the environment's keys, and adds what is wrong with them to err, which
// is nil or an [*Error].
func (e *Environment) setKeys(o options, process, file map[string]string, err error) error {
	keys, failed := o.keysOf(process, file)
	e.Keys = keys
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
// else of the process's.
func (o options) keysOf(process, file map[string]string) (keys dbcrypt.Keys, failed *Error) {
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
		variable = regularfile.Shown(o.keysFile)
		o.files.record(o.keysFile)
		keys, err = dbcrypt.ReadKeys(o.keysFile)
	} else {
		if path := variables[dbcrypt.KeysFileVariable]; path != "" {
			o.files.record(path)
		}
		keys, variable, err = dbcrypt.FromVariables(variables)
	}
	if err != nil {
		return dbcrypt.Keys{}, &Error{Findings: []Finding{{variable, err.Error()}}}
	}
	return keys, nil
}
