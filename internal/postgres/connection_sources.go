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

// variables are the PG* variables that pgx reads and that are checked: by keyword.
var variables = map[string]string{
	"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "application_name": "PGAPPNAME", "options": "PGOPTIONS",
	"timezone": "PGTZ", "service": "PGSERVICE", "servicefile": "PGSERVICEFILE", "passfile": "PGPASSFILE",
	"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
}

// checkVariables checks what the PG* variables add to the settings. They hold no
// password other than PGPASSWORD unless something was pasted into the wrong one.
func (s parsed) checkVariables() error {
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value := os.Getenv(variables[name])
		if _, given := s[name]; given || value == "" {
			continue
		}
		if reason := (parsed{name: value}).check("it must hold that value alone; a connection string goes into DATABASE_URL"); reason != "" {
			return &ConnectionStringError{variables[name], reason}
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

// checkFiles refuses files that pgx would read for the settings and that block or
// have no end, and a service file that cannot be used.
func (s parsed) checkFiles(source string) error {
	home, _ := os.UserHomeDir()
	usable := func(s parsed, name, otherwise string) ([]byte, error) {
		path := s.with(name)
		if path == "" && home != "" {
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
	merged := parsed{}
	if name := s.with("service"); name != "" {
		content, err := usable(s, "servicefile", ".pg_service.conf")
		if err != nil {
			return err
		}
		service, err := readService(content, name)
		if err != nil {
			return err
		}
		maps.Copy(merged, service)
	}
	maps.Copy(merged, s)
	for _, file := range [][2]string{
		{"passfile", ".pgpass"}, {"sslrootcert", ".postgresql/root.crt"}, {"sslcert", ".postgresql/postgresql.crt"}, {"sslkey", ".postgresql/postgresql.key"},
	} {
		if _, err := usable(merged, file[0], file[1]); err != nil {
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
