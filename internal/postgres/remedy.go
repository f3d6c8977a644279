package postgres

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// remedies name the places that say how to connect.
type remedies struct {
	any      string // where nothing tells the cause
	user     string
	password string
	database string
}

var (
	ofVariables = remedies{
		any:      "check DATABASE_URL (or --database-url-file, or PG*), that the server runs, and --connect-timeout",
		user:     "check the user in DATABASE_URL (or PGUSER), and that its role is there and has LOGIN",
		password: "check the user and the password of DATABASE_URL (or PGUSER, PGPASSWORD and PGPASSFILE)",
		database: "check the database's name in DATABASE_URL (or PGDATABASE)",
	}
	// With --config, DATABASE_URL must not be set.
	ofTarget = remedies{
		any:      "check the target's database in the file of --config, that the server runs, and --connect-timeout",
		user:     "check the user in the target's database_url_env, database_url_file or database (or PGUSER), and that its role is there and has LOGIN",
		password: "check the user and the password of the target's database: those of its database_url_env or database_url_file, else PGUSER, PGPASSWORD and PGPASSFILE",
		database: "check the database's name in the target's database_url_env, database_url_file or database",
	}
)

func remediesFor(config *pgxpool.Config) remedies {
	if IsShared(config) {
		return ofTarget
	}
	return ofVariables
}

// diagnose returns what to do about a connection that failed, and whether
// waiting does not mend it, as it does neither wrong credentials nor a
// certificate that does not count.
func diagnose(err error, config *pgxpool.Config) (remedy string, final bool) {
	remedies := remediesFor(config)
	var (
		pg        *pgconn.PgError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case IsPooling(err):
		return keepSession, true
	case errors.As(err, &authority):
		return "the server's certificate must be signed by a CA of the file sslrootcert (PGSSLROOTCERT)", true
	case errors.As(err, &hostname):
		return "connect by a host name that is in the server's certificate, or issue a certificate with this name", true
	case errors.As(err, &invalid):
		return "renew the server's certificate, or that of its CA", true
	// The last two have no types. With sslmode=prefer a server without TLS is then
	// connected to without, and what it says to that is what counts.
	case strings.Contains(err.Error(), refusedTLS) && !errors.As(err, &pg):
		return "the server has no TLS: set ssl=on there, or, where the network may be trusted, sslmode=disable here (PGSSLMODE)", true
	case strings.Contains(err.Error(), "remote error: tls:"):
		return "the server refused the certificate of sslcert (PGSSLCERT): renew it, or have it signed by a CA of the server's ssl_ca_file", true
	case !errors.As(err, &pg):
		return remedies.any, false
	case isReadAgain(pg):
		return pg.Hint, false
	case strings.Contains(pg.Message, "unsupported startup parameter"):
		return "the pooler refuses a setting of the connection string: set it for the role (ALTER ROLE … SET) instead, or connect to the server itself", true
	case isUnknownRole(pg):
		return remedies.user, true
	case pg.Code == pgerrcode.InvalidAuthorizationSpecification:
		return "give the role what pg_hba.conf asks of it: sslcert and sslkey (PGSSLCERT, PGSSLKEY) for a client certificate, " +
			"which must name it and be signed by a CA of the server's ssl_ca_file, or sslmode (PGSSLMODE) for TLS", true
	case pg.Code == pgerrcode.InvalidPassword:
		return remedies.password, true
	case pg.Code == pgerrcode.InvalidCatalogName:
		return remedies.database, true
	case pg.Code == pgerrcode.TooManyConnections:
		return "let others close their sessions, or raise max_connections, or the CONNECTION LIMIT of the database or the role, whichever the server names", false
	case pg.Code == pgerrcode.InsufficientPrivilege:
		return fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", pgx.Identifier{config.ConnConfig.Database}.Sanitize(), pgx.Identifier{config.ConnConfig.User}.Sanitize()), true
	default:
		return remedies.any, pgerrcode.IsInvalidAuthorizationSpecification(pg.Code)
	}
}
