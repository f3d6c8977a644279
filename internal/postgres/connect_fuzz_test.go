package postgres_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/postgres"
)

// FuzzParseURL parses arbitrary values of DATABASE_URL, and URLs put together from
// parts: an error holds nothing of them, and a password never ends up in what is
// shown of a server.
func FuzzParseURL(f *testing.F) {
	for _, s := range [][4]string{
		{"postgres://u:p@h/d", "", "h:5432", "d"}, {"host=h dbname=d password='p", "5/", "h", "d?sslmode=disable"}, {"", "5?", "", ""}, {"postgresql://", "%2F", "[::1]", "?host=/tmp"},
		{"postgres://h1:1,h2:2/d", "@", "h1,h2", "a@b"}, {"postgres://h/d?sslmode=verify-full&connect_timeout=x", "5#", "h", "d"}, {"user=u host=/tmp port=1", ":", "h:1:2", "/"},
		{"postgres://u:1,h/q7zleak@h/d", "1,h/", "h", "d"},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	for _, variable := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSERVICE", "PGSSLMODE", "PGOPTIONS", "PGCONNECT_TIMEOUT", "PGTARGETSESSIONATTRS"} {
		f.Setenv(variable, "")
	}
	f.Setenv("PGPASSFILE", "/nonexistent")
	f.Setenv("PGSERVICEFILE", "/nonexistent")
	_, wrongURL := postgres.ParseURL("postgres://h:port")
	_, wrongVariables := func() (any, error) {
		f.Setenv("PGPORT", "port")
		defer f.Setenv("PGPORT", "")
		return postgres.ParseURL("")
	}()
	f.Fuzz(func(t *testing.T, raw, password, host, database string) {
		const mark = "q7zleak"
		check := func(raw string) string {
			config, err := postgres.ParseURL(raw)
			if err != nil {
				require.Contains(t, []error{wrongURL, wrongVariables}, err)
				return ""
			}
			require.Equal(t, int32(2), config.MaxConns)
			shown := config.ConnConfig.Host + " " + config.ConnConfig.Database
			for _, fallback := range config.ConnConfig.Fallbacks {
				shown += " " + fallback.Host
			}
			return strings.ToLower(shown)
		}
		check(raw)
		if strings.Contains(strings.ToLower(host+database), mark) {
			t.Skip("that is shown")
		}
		for _, whole := range []string{
			"postgres://user:" + password + mark + "@" + host + "/" + database, "postgres://user:" + mark + password + "@" + host + "/" + database,
			"postgresql://" + password + mark + "@" + host + "/" + database,
		} {
			if strings.HasPrefix(whole, "postgresql") && !strings.Contains(password, ":") {
				continue // a user
			}
			require.NotContains(t, check(whole), mark, "%q", whole)
		}
	})
}
