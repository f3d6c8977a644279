package postgres

// What a connection string leaves out comes from the PG* variables, a service file and
// the files that these name.

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgservicefile"

	"provwatch/internal/regularfile"
)

// variables are the PG* variables that are checked: by keyword. [libpqVariables] are
// too.
var variables = map[string]string{
	"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "application_name": "PGAPPNAME", "options": "PGOPTIONS",
	"timezone": "PGTZ", "service": "PGSERVICE", "servicefile": "PGSERVICEFILE", "passfile": "PGPASSFILE",
	"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
	"sslcertmode": "PGSSLCERTMODE", "sslsni": "PGSSLSNI", "sslnegotiation": "PGSSLNEGOTIATION", "channel_binding": "PGCHANNELBINDING",
	"target_session_attrs": "PGTARGETSESSIONATTRS", "connect_timeout": "PGCONNECT_TIMEOUT",
	"min_protocol_version": "PGMINPROTOCOLVERSION", "max_protocol_version": "PGMAXPROTOCOLVERSION",
}

// checkVariables checks what the PG* variables add to the settings. They hold no
// password other than PGPASSWORD unless something was pasted into the wrong one.
func (s parsed) checkVariables() error {
	all := maps.Clone(variables)
	maps.Copy(all, libpqVariables)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := os.Getenv(all[name])
		if _, given := s[name]; given || value == "" {
			continue
		}
		if reason := (parsed{name: value}).check("it must hold that value alone; a connection string goes into DATABASE_URL"); reason != "" {
			return &ConnectionStringError{all[name], reason}
		}
	}
	return nil
}

// with returns what counts for a keyword: what s says, else the PG* variable.
func (s parsed) with(name string) string {
	if value, given := s[name]; given {
		return value
	}
	return os.Getenv(variables[name])
}

// usable returns the content of a file that a keyword or its variable names, else of
// the one in the home directory that libpq looks for. It refuses files that block or
// have no end.
func (s parsed) usable(source, name, otherwise string) ([]byte, error) {
	path := s.with(name)
	if home, _ := os.UserHomeDir(); path == "" && home != "" {
		path = filepath.Join(home, otherwise)
	}
	if path == "" || name == "sslrootcert" && path == "system" {
		return nil, nil
	}
	content, err := regularfile.Read(path, regularfile.Limit)
	var (
		wrongType *regularfile.TypeError
		wrongSize *regularfile.SizeError
	)
	if errors.As(err, &wrongType) || errors.As(err, &wrongSize) {
		return nil, &ConnectionStringError{source, fmt.Sprintf("(or %s) has a file for %s that cannot be used: %v", variables[name], name, regularfile.Cause(err))}
	}
	// pgx judges an absent or unreadable file.
	return content, nil
}

// withService returns the settings together with those of the service that they, or
// PGSERVICE, name, and what the PG* variables say of the hosts.
func (s parsed) withService(source string) (parsed, error) {
	merged := parsed{}
	if name := s.with("service"); name != "" {
		content, err := s.usable(source, "servicefile", ".pg_service.conf")
		if err != nil {
			return nil, err
		}
		service, err := readService(content, name)
		if err != nil {
			return nil, err
		}
		maps.Copy(merged, service)
	}
	maps.Copy(merged, s)
	for name, variable := range libpqVariables {
		setDefault(merged, name, os.Getenv(variable))
	}
	setDefault(merged, "host", os.Getenv("PGHOST"))
	return merged, nil
}

// checkFiles refuses files that pgx would read for the settings and that block or
// have no end.
func (s parsed) checkFiles(source string) error {
	for _, file := range [][2]string{
		{"passfile", ".pgpass"}, {"sslrootcert", ".postgresql/root.crt"}, {"sslcert", ".postgresql/postgresql.crt"}, {"sslkey", ".postgresql/postgresql.key"},
	} {
		if _, err := s.usable(source, file[0], file[1]); err != nil {
			return err
		}
	}
	return nil
}

// readService returns the settings of a service of a service file, of which an error
// holds nothing.
func readService(content []byte, name string) (parsed, error) {
	fail := func(reason string) (parsed, error) { return nil, &ConnectionStringError{"the service file", reason} }
	file, err := pgservicefile.ParseServicefile(bytes.NewReader(content))
	if err != nil {
		return fail("(PGSERVICEFILE) cannot be parsed: write keyword=value lines below [SERVICE]")
	}
	found, err := file.GetService(name)
	if err != nil {
		return fail("(PGSERVICEFILE) is not there, or has no service of the name that PGSERVICE, or the keyword service, gives")
	}
	settings := parsed{}
	for _, keyword := range slices.Sorted(maps.Keys(found.Settings)) {
		if !isKnown(keyword) {
			return fail("(PGSERVICEFILE) has " + unknown(keyword, found.Settings[keyword] != ""))
		}
		settings[keyword] = found.Settings[keyword]
	}
	if reason := settings.check("write one keyword=value a line"); reason != "" {
		return fail("(PGSERVICEFILE) " + reason)
	}
	return settings, nil
}

func setDefault(params map[string]string, name, value string) {
	if _, set := params[name]; !set {
		params[name] = value
	}
}
