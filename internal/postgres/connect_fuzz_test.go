package postgres_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/postgres"
)

// FuzzParseURL parses arbitrary values of DATABASE_URL with a mark put into them, and
// connection strings put together from parts whose password is marked. An error holds
// no mark. An accepted text means what pgx makes of it, and has known parameters
// alone. No marked password ends up in a host, a user, a database or a setting.
func FuzzParseURL(f *testing.F) {
	for _, s := range [][4]string{
		{"postgres://u:p@h/d", "", "h:5432", "d"}, {"host=h dbname=d password='p", "5/", "h", "d?sslmode=disable"}, {"", "5?", "", ""}, {"postgresql://", "%2F", "[::1]", "?host=/tmp"},
		{"postgres://h1:1,h2:2/d", "@", "h1,h2", "a@b"}, {"postgres://h/d?sslmode=verify-full&connect_timeout=x", "5#", "h", "d"}, {"user=u host=/tmp port=1", ":", "h:1:2", "/"},
		{"postgres://u:1,h/q7zleak@h/d", "1,h/", "h", "d"}, {`"postgres://u:p@h/d"`, "a b", "h", "d?search_path=x"}, {"mysql://u:p@h/d?x=1", `a'b\\`, "h", "d?unknown=1"},
		{"postgress://u:p@h/d", "a&b", "h", "d"}, {"DATABASE_URL=postgres://u:p@h/d", "%zz", "h", "d"}, {"\uFEFFpostgres://u:p@h/d", "1?user=", "h", "d"},
		{"host = 'h' search_path=x,y statement_timeout=5s", "%", "h", "d"}, {"password= host=h", "x=", "h", "d"}, {"postgres://h,/d?port=,&ssl=true", "", "", "d"},
		{"host=h,i hostaddr=127.0.0.1,::1 keepalives_idle=30 sslcrl='' ssl_min_protocol_version=TLSv1.2", "", "h", "d?hostaddr=127.0.0.1"},
	} {
		f.Add(s[0], s[1], s[2], s[3], uint8(len(s[0])/2))
	}
	for _, variable := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSERVICE", "PGSSLMODE", "PGOPTIONS", "PGCONNECT_TIMEOUT", "PGTARGETSESSIONATTRS", "PGHOSTADDR"} {
		f.Setenv(variable, "")
	}
	f.Setenv("PGPASSFILE", "/nonexistent")
	f.Setenv("PGSERVICEFILE", "/nonexistent")
	f.Fuzz(func(t *testing.T, raw, password, host, database string, at uint8) {
		shown(t, raw)
		i := min(int(at), len(raw))
		shown(t, raw[:i]+mark+raw[i:])
		if strings.Contains(strings.ToLower(host+database), mark) {
			t.Skip("that is shown")
		}
		for _, text := range withPassword(password, host, database) {
			require.NotContains(t, shown(t, text), mark, "%q", text)
		}
	})
}

// mark is part of every secret of the target.
const mark = "q7zleak"

// shown returns everything of a connection string that messages and the server receive,
// except the password. It checks that an accepted text means what pgx makes of it.
func shown(t *testing.T, text string) string {
	config, err := postgres.ParseURL(text)
	if err != nil {
		var bad *postgres.ConnectionStringError
		require.ErrorAs(t, err, &bad)
		require.NotContains(t, strings.ToLower(err.Error()), mark, "%q", text)
		return ""
	}
	require.Equal(t, int32(2), config.MaxConns)
	c := config.ConnConfig
	shown := strings.Join([]string{c.Host, c.User, c.Database, c.KerberosSpn, c.KerberosSrvName}, " ")
	for _, fallback := range c.Fallbacks {
		shown += " " + fallback.Host
	}
	for name, value := range c.RuntimeParams {
		require.True(t, postgres.IsServerSetting(name) && postgres.IsSent(name), "%q is sent as a parameter", name)
		shown += " " + value
	}

	theirs, err := pgxpool.ParseConfig(text)
	require.NoError(t, err, "%q", text)
	if _, given := theirs.ConnConfig.RuntimeParams["hostaddr"]; given {
		return strings.ToLower(shown)
	}
	theirs.ConnConfig.RuntimeParams["application_name"] = c.RuntimeParams["application_name"]
	maps.DeleteFunc(theirs.ConnConfig.RuntimeParams, func(name, value string) bool {
		return !postgres.IsSent(name) || name == "client_encoding" && value == "auto"
	})
	require.Equal(t, theirs.ConnConfig.RuntimeParams, c.RuntimeParams)
	require.Equal(t, []any{theirs.ConnConfig.Host, theirs.ConnConfig.Port, theirs.ConnConfig.User, theirs.ConnConfig.Password, theirs.ConnConfig.Database},
		[]any{c.Host, c.Port, c.User, c.Password, c.Database}, "%q", text)
	require.Len(t, c.Fallbacks, len(theirs.ConnConfig.Fallbacks))
	for i, fallback := range c.Fallbacks {
		require.Equal(t, []any{theirs.ConnConfig.Fallbacks[i].Host, theirs.ConnConfig.Fallbacks[i].Port}, []any{fallback.Host, fallback.Port})
	}
	return strings.ToLower(shown)
}

// withPassword returns connection strings whose password holds the mark.
func withPassword(password, host, database string) []string {
	var whole []string
	for _, scheme := range []string{"postgres://", "postgresql://", "postgress://", "Postgres//", "mysql://", " postgres://", `"postgres://`} {
		whole = append(whole, scheme+"user:"+password+mark+"@"+host+"/"+database, scheme+"user:"+mark+password+"@"+host+"/"+database)
		if strings.Contains(password, ":") { // else it is a user
			whole = append(whole, scheme+password+mark+"@"+host+"/"+database)
		}
	}
	if !strings.Contains(password, "=") { // else it is another keyword
		whole = append(whole, "host="+host+" password="+password+mark+" dbname="+database, "password="+mark+password+" host="+host)
	}
	return whole
}
