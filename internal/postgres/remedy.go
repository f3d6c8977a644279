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

	"provwatch/internal/remedy"
)

// diagnose returns what to do about a connection that failed, and whether
// waiting does not mend it, as it does neither wrong credentials nor a
// certificate that does not count.
func diagnose(err error, config *pgxpool.Config) (advice remedy.Advice, final bool) {
	var (
		pg        *pgconn.PgError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case IsPooling(err):
		return remedy.Advice{keepSession}, true
	case errors.As(err, &authority):
		return remedy.Advice{"the server's certificate must be signed by a CA of the file sslrootcert (PGSSLROOTCERT)"}, true
	case errors.As(err, &hostname):
		return remedy.Advice{"connect by a host name that is in the server's certificate, or issue a certificate with this name"}, true
	case errors.As(err, &invalid):
		return remedy.Advice{"renew the server's certificate, or that of its CA"}, true
	// The last two have no types. With sslmode=prefer a server without TLS is then
	// connected to without, and what it says to that is what counts.
	case strings.Contains(err.Error(), refusedTLS) && !errors.As(err, &pg):
		return remedy.Advice{"the server has no TLS: set ssl=on there, or, where the network may be trusted, sslmode=disable here (PGSSLMODE)"}, true
	case strings.Contains(err.Error(), "remote error: tls:"):
		return remedy.Advice{"the server refused the certificate of sslcert (PGSSLCERT): renew it, or have it signed by a CA of the server's ssl_ca_file"}, true
	case !errors.As(err, &pg):
		return remedy.Advice{remedy.CheckConnection()}, false
	case isReadAgain(pg):
		return remedy.Advice{pg.Hint}, false
	case strings.Contains(pg.Message, "unsupported startup parameter"):
		return remedy.Advice{"the pooler refuses a setting of the connection string: set it for the role (ALTER ROLE … SET) instead, or connect to the server itself"}, true
	case isUnknownRole(pg):
		return remedy.Advice{remedy.CheckUser()}, true
	case pg.Code == pgerrcode.InvalidAuthorizationSpecification:
		return remedy.Advice{"give the role what pg_hba.conf asks of it: sslcert and sslkey (PGSSLCERT, PGSSLKEY) for a client certificate, " +
			"which must name it and be signed by a CA of the server's ssl_ca_file, or sslmode (PGSSLMODE) for TLS"}, true
	case pg.Code == pgerrcode.InvalidPassword:
		return remedy.Advice{remedy.CheckPassword()}, true
	case pg.Code == pgerrcode.InvalidCatalogName:
		return remedy.Advice{remedy.CheckDatabase()}, true
	case pg.Code == pgerrcode.TooManyConnections:
		return remedy.Advice{"let others close their sessions, or raise max_connections, or the CONNECTION LIMIT of the database or the role, whichever the server names"}, false
	case pg.Code == pgerrcode.InsufficientPrivilege:
		return remedy.Advice{fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", pgx.Identifier{config.ConnConfig.Database}.Sanitize(), pgx.Identifier{config.ConnConfig.User}.Sanitize())}, true
	default:
		return remedy.Advice{remedy.CheckConnection()}, pgerrcode.IsInvalidAuthorizationSpecification(pg.Code)
	}
}
