package postgres

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// login is by what a connection is authenticated.
type login struct{ user, password string }

// reading is what a connection string says, with what it leaves out.
type reading struct {
	config *pgxpool.Config
	given  parsed // what it says itself
	merged parsed // with the service and the hosts of the PG* variables
}

// readText returns what the text of a source says together with what the service file,
// the password file and the PG* variables add.
func readText(source, text string) (reading, error) {
	settings, reason := parseConnectionString(text)
	if reason != "" {
		return reading{}, &ConnectionStringError{source, reason}
	}
	if err := settings.checkVariables(); err != nil {
		return reading{}, err
	}
	merged, err := settings.withService(source)
	if err != nil {
		return reading{}, err
	}
	if err := merged.checkFiles(source); err != nil {
		return reading{}, err
	}
	handed := settings.forPgx()
	addresses, reason := merged.addresses()
	if reason != "" {
		return reading{}, &ConnectionStringError{source, reason}
	}
	if addresses != nil {
		handed["host"] = merged["host"]
	}
	config, err := pgxpool.ParseConfig(handed.String())
	if err != nil {
		// Which quotes what it cannot use.
		if text == "" {
			return reading{}, &ConnectionStringError{"the PG* variables", "cannot be used: check PGPORT, PGSERVICE, PGREQUIREAUTH and the certificate files"}
		}
		return reading{}, &ConnectionStringError{source, "cannot be used: check its certificate files, require_auth, the pool's settings and the number of its ports, and the PG* variables for what it leaves out"}
	}
	params := config.ConnConfig.RuntimeParams
	for name := range notOfPgx {
		delete(params, name) // which pgx has read from the service file
	}
	setDefault(params, "application_name", cmp.Or(merged["fallback_application_name"], "provwatch"))
	connectTo(&config.ConnConfig.Config, addresses, strings.Count(merged["host"], ",")+1)
	if reason := merged.boundTLS(&config.ConnConfig.Config); reason != "" {
		return reading{}, &ConnectionStringError{source, reason}
	}
	config.ConnConfig.DialFunc = merged.dial()
	return reading{config: config, given: settings, merged: merged}, nil
}

func (r reading) login() login {
	return login{r.config.ConnConfig.User, r.config.ConnConfig.Password}
}

// place names the servers and the database.
func (r reading) place() string {
	c := r.config.ConnConfig
	database := c.Database
	if database == "" {
		database = c.User // as the server has it
	}
	places := []string{database, net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))}
	for _, f := range c.Fallbacks {
		places = append(places, net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))))
	}
	// Each host stands there once for each way to try it, of which sslmode decides.
	return strings.Join(slices.Compact(places), " ")
}

// withoutLogin returns the settings other than the user and the password.
func (r reading) withoutLogin() parsed {
	settings := maps.Clone(r.merged)
	delete(settings, "user")
	delete(settings, "password")
	return settings
}
