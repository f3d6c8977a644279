package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
)

// withoutVariables clears what libpq reads beside the connection string.
func withoutVariables(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", t.TempDir())
}

func TestParseURL(t *testing.T) {
	t.Run("RefusedTexts", testParseURLRefusedTexts)
	t.Run("SameAsPgx", testParseURLSameAsPgx)
	t.Run("Variables", testParseURLVariables)
	t.Run("IrregularFiles", testParseURLIrregularFiles)
	t.Run("TextWithheld", testParseURLTextWithheld)
}

func testParseURLRefusedTexts(t *testing.T) {
	withoutVariables(t)
	t.Setenv("PGHOST", "elsewhere.invalid") // where a text that is not understood must not lead
	const url = "postgres://app:S3cretQz7vLk9x@db.invalid:5432/gateway?sslmode=disable"
	for text, cause := range map[string]string{
		`"` + url + `"`: "in quotes", "'" + url + "'": "in quotes", "“" + url + "”": "in quotes", url + `"`: "in quotes",
		` "` + url + `"`: "in quotes", `"host=h password=S3cretQz7vLk9x"`: "in quotes",
		" " + url: "a space or a line break", url + "\n": "a space or a line break", "\u00a0" + url: "a space or a line break",
		"\uFEFF" + url: "byte order mark", "\uFEFFhost=h password=S3cretQz7vLk9x": "byte order mark", "\xFF\xFE" + url: "byte order mark",
		"DATABASE_URL=" + url: "without the name", "export A='" + url + "'": "without the name", "DATABASE_URL = \"" + url: "without the name",
		"mysql://app:S3cretQz7vLk9x@h/x?x=1": "is not a connection string", "postgress" + url[8:]: "is not a connection string",
		"Postgres" + url[8:]: "is not a connection string", "Postgres//app:S3cretQz7vLk9x@h/x?x=1": "is not a connection string",
		"postgres:/app:S3cretQz7vLk9x@h/x?x=1": "is not a connection string", "jdbc:postgresql://h/d?user=a&password=S3cretQz7vLk9x": "is not a connection string",
		"S3cretQz7vLk9x": "is not a connection string", "scretpassword=": "is not a connection string", "S3cretQz7vLk9x==": "is not a connection string",
		" ": "is not a connection string", "=": "is not a connection string", "scret='password": "is not a connection string",
		"Host=h;Username=app;Password=S3cretQz7vLk9x": "is not a connection string",

		"postgres://app:S3cret/Qz7vLk9x@h/d": "%2F", "postgres://app:5432/Qz7vLk9x@h/d": "%2F", "postgres://app:S3cret@Qz7vLk9x@h/d": "%40",
		"postgres://app:S3cret?Qz7vLk9x@h/d": "%3F", "postgres://app:S3cret#Qz7vLk9x/x@h/d": "%23", "postgres://app:S3cret%zzQz7vLk9x@h/d": "%25",
		"postgres://app:S3cretQz7vLk9x%@h/d": "%25", "postgres://app:S3cret Qz7vLk9x@h/d": "%20", "postgres://app:S3cret\tQz7vLk9x@h/d": "%20",
		"postgres://app:S3cret@Qz7vLk9x,h@h/d": "%40", "postgres://h:5432?password=S3cret@Qz7vLk9x": "%40", "postgres://app%3AS3cretQz7vLk9x@h/d": "user",
		"postgres://app:12,S3cretQz7vLk9x/@h/d": "%2F", "postgres://h/app:S3cretQz7vLk9x": "percent-encode", "postgres://app:x@h/d?a=1#S3cretQz7vLk9x": "%23",
		"postgres://app:S3cretQz7vLk9x@[::1/d": "percent-encode", "postgres://app:S3cretQz7vLk9x@h:port/d": "port", "postgres://app:S3cretQz7vLk9x@h:0/d": "port",
		"postgres://h/d&password=S3cretQz7vLk9x": "dbname", "postgres://h/d?password=S3cret&Qz7vLk9x": "%26", "postgres://h/d?password=S3cret=Qz7vLk9x": "%3D",
		"postgres://h/d?password=S3cret&qzvlk=rd": "an unknown keyword", "postgres://h/d?Qz7vLk9x=S3cret": "an unknown keyword",
		"postgres://app:S3cretQz7vLk9x@h$x/d": "host", "postgres://app:S3cretQz7vLk9x@h/a%00b": "%",

		"host=h password=S3cret Qz7vLk9x": "'value'", "host=h password=S3cret Qz7vLk9x dbname=d": "'value'", "host=h password='S3cret'Qz7vLk9x' dbname=d": "closing quote",
		"host=h password='S3cretQz7vLk9x": "not closed", "host=h password=S3cret qzvlk=rd": "an unknown keyword", "host=h qzvlk= ": "an unknown keyword",
		"host=h;password=S3cretQz7vLk9x": "host", "host=h,password=S3cretQz7vLk9x": "host", "user=app;password=S3cretQz7vLk9x": "user",
		"dbname=d;password=S3cretQz7vLk9x host=h": "dbname", "application_name=x;Password=S3cretQz7vLk9x host=h": "application_name",
		"host=postgres://app:S3cretQz7vLk9x@h/d": "without the name", "dbname=postgres://app:S3cretQz7vLk9x@h/d": "without the name", "user=a dbname=postgres://app:S3cretQz7vLk9x@h/d": "dbname",
		"password= host=h user=S3cretQz7vLk9x": "without a value", "host=h dbname=\x00S3cretQz7vLk9x": "NUL", "host=h port=S3cretQz7vLk9x": "port",
		"host=h sslmode=S3cretQz7vLk9x": "a value of sslmode that is not one of disable, allow, prefer, require, verify-ca, verify-full", "postgres://h/d?sslmode=S3cretQz7vLk9x": "a value of sslmode",
		"host=h connect_timeout=S3cretQz7vLk9x": "a value of connect_timeout that is not a whole number of seconds", "host=h target_session_attrs=S3cretQz7vLk9x": "a value of target_session_attrs",
		"host=h keepalives_idle=S3cretQz7vLk9x": "a value of keepalives_idle", "host=h ssl_min_protocol_version=S3cretQz7vLk9x": "not one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3",
		"host=h hostaddr=S3cretQz7vLk9x": "a hostaddr that is not an IP address", "host=h,i hostaddr=127.0.0.1": "1 addresses in hostaddr for 2 hosts",
		"host=h sslcrl=S3cretQz7vLk9x": "not checked for revocation", "host=h sslcrldir=/S3cretQz7vLk9x": "not checked for revocation", "host=h gssencmode=require": "by sslmode",
		"host=h requirepeer=S3cretQz7vLk9x": "requirepeer, which cannot be honoured", "host=h scram_client_key=S3cretQz7vLk9x": "a password is needed", "host=h oauth_client_id=S3cretQz7vLk9x": "OAuth",
		"host=h ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2": "a higher ssl_min_protocol_version", "host=h ssl_max_protocol_version=TLSv1.1": "set that too",

		"host=h user=app:S3cretQz7vLk9x@h": "a : in the value of user", "dbname=app:S3cretQz7vLk9x@h:5432/d": "a : in the value of dbname",
		"postgres://h:1/d?user=app:S3cretQz7vLk9x": "a : in the value of user", "postgres://h/app%3AS3cretQz7vLk9x%40h": "a : in the value of dbname",
		"host=/tmp/app:S3cretQz7vLk9x": "host",

		"host=h conect_timeout=3 password=S3cretQz7vLk9x": "the unknown keyword conect_timeout: correct it to connect_timeout", "postgres://app:S3cretQz7vLk9x@h/d?serch_path=x": "the unknown keyword serch_path: correct it to search_path",
		"host=h gssenc_mode=disable": "correct it to gssencmode", "host=h ssl_mode=disable": "correct it to sslmode", "host=h nothing_like_any_of_them=1": "the unknown keyword nothing_like_any_of_them: correct or remove it",
	} {
		_, err := postgres.Parse(postgres.Source{Name: "A_URL", Text: text})
		var bad *postgres.ConnectionStringError
		require.ErrorAs(t, err, &bad, "%q", text)
		require.Contains(t, err.Error(), cause, "%q", text)
		require.True(t, strings.HasPrefix(err.Error(), "A_URL "), err.Error())
		for i := range len("S3cretQz7vLk9x") - 3 {
			require.NotContains(t, err.Error(), "S3cretQz7vLk9x"[i:i+4], "%q", text)
		}
		require.NotContains(t, err.Error(), "qzvlk", "%q", text)
	}
}

// testParseURLSameAsPgx compares what is parsed with what pgx makes
// of the text itself.
func testParseURLSameAsPgx(t *testing.T) {
	withoutVariables(t)
	for _, text := range []string{
		"", "postgres://", "postgresql://h", "postgres://u@h/d", "postgres://u:p@h:1/d?sslmode=disable", "postgres://u:p%40%2F%3f%25@h/d%2fe",
		"postgres://u:p:q#[r]!$&'()*+,;=\"^|{}<>\\`é@h/d", "postgres://:p@h", "postgres://u:@h/", "postgres://[::1]:1,h2,10.0.0.1:3/d?target_session_attrs=primary",
		"postgres://[fe80::1%25eth0]/d", "postgres:///d?host=/tmp&port=5433&user=u", "postgres://%2Ftmp/d", "postgres://h1,h2/d", "postgres://h_1.example./d",
		"postgres://h/d?search_path=a,b&statement_timeout=5s&TimeZone=UTC&application_name=x%20y&options=-c%20lock_timeout%3D1s",
		"postgres://h/d?ssl=true", "postgres://h/d?sslmode=disable&ssl=true", "postgres://h/d?pool_max_conns=3&default_query_exec_mode=cache_describe&role=r",
		"host=h", " host = h  port=1\n\tdbname='a b' user='o\\'b' password='p\\\\' ", "host=h password=a\\ b\\'c", "host=h password=p=q@/?#%", "host='' user='' dbname=d",
		"host=/tmp,/var/run port=1,2", "host=h search_path='\"$user\", public' client_encoding=UTF8", "dbname=a@b host=h", "host=h password=\\ ",
	} {
		ours, err := postgres.ParseURL(text)
		require.NoError(t, err, "%q", text)
		theirs, err := pgxpool.ParseConfig(text)
		require.NoError(t, err, "%q", text)
		delete(ours.ConnConfig.RuntimeParams, "application_name")
		delete(theirs.ConnConfig.RuntimeParams, "application_name")
		for _, c := range []*pgxpool.Config{ours, theirs} {
			for i := range c.ConnConfig.Fallbacks {
				c.ConnConfig.Fallbacks[i].TLSConfig = nil
			}
		}
		require.Equal(t, theirs.ConnConfig.RuntimeParams, ours.ConnConfig.RuntimeParams, "%q", text)
		require.Equal(t, theirs.ConnConfig.Fallbacks, ours.ConnConfig.Fallbacks, "%q", text)
		require.Equal(t, []any{theirs.ConnConfig.Host, theirs.ConnConfig.Port, theirs.ConnConfig.User, theirs.ConnConfig.Password, theirs.ConnConfig.Database, theirs.ConnConfig.TLSConfig == nil},
			[]any{ours.ConnConfig.Host, ours.ConnConfig.Port, ours.ConnConfig.User, ours.ConnConfig.Password, ours.ConnConfig.Database, ours.ConnConfig.TLSConfig == nil}, "%q", text)
		require.Equal(t, theirs.ConnConfig.DefaultQueryExecMode, ours.ConnConfig.DefaultQueryExecMode)
	}
}

func testParseURLVariables(t *testing.T) {
	withoutVariables(t)
	const url = "postgres://app:S3cretQz7vLk9x@h/d"
	for variable, cause := range map[string]string{
		"PGHOST": "host", "PGPORT": "port", "PGDATABASE": "dbname", "PGUSER": "user", "PGAPPNAME": "application_name", "PGOPTIONS": "options", "PGSERVICE": "service", "PGTZ": "timezone",
		"PGHOSTADDR": "hostaddr",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, url)
			_, err := postgres.ParseURL("")
			require.ErrorContains(t, err, variable+" has ")
			require.ErrorContains(t, err, cause)
			require.ErrorContains(t, err, "a connection string goes into DATABASE_URL")
			require.NotContains(t, err.Error(), "S3cret")
		})
	}
	for _, variable := range []string{"PGUSER", "PGDATABASE"} {
		t.Run(variable+"/Password", func(t *testing.T) {
			t.Setenv(variable, "app:S3cretQz7vLk9x@h:5/d")
			_, err := postgres.ParseURL("")
			require.ErrorContains(t, err, variable+" has a : in the value of ")
			require.NotContains(t, err.Error(), "S3cret")
		})
	}
	// PGHOST has no effect beside the keyword host.
	t.Setenv("PGHOST", url)
	_, err := postgres.ParseURL("host=h")
	require.NoError(t, err)
	t.Setenv("PGHOST", "")

	file := filepath.Join(t.TempDir(), "services")
	t.Setenv("PGSERVICEFILE", file)
	t.Setenv("PGSERVICE", "gateway")
	for content, cause := range map[string]string{
		"[gateway]\nhost=h\nS3cretQz7vLk9x\n":                 "cannot be parsed",
		"[gateway]\nhost=h\nS3cretQz7vLk9x=x\n":               "an unknown keyword",
		"[gateway]\nhost=h\nscretpassword=\n":                 "an unknown keyword",
		"[gateway]\nhost=h\nconect_timeout=3\n":               "the unknown keyword conect_timeout",
		"[gateway]\nhost=h\ndbname=d;password=S3cretQz7vLk9x": "dbname",
		"[gateway]\nhost=" + url:                              "host",
		"[gateway]\nuser=app:S3cretQz7vLk9x":                  "user",
		"[other]\npassword=S3cretQz7vLk9x\n":                  "no service of the name",
	} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := postgres.ParseURL("")
		require.ErrorContains(t, err, "the service file", content)
		require.ErrorContains(t, err, cause, content)
		for _, piece := range []string{"S3cret", "Qz7vLk9x", "scretpassword"} {
			require.NotContains(t, err.Error(), piece)
		}
	}
	require.NoError(t, os.WriteFile(file, []byte("# ours\n[gateway]\nhost = service.invalid\nsearch_path=a\n"), 0o600))
	config, err := postgres.ParseURL("dbname=d")
	require.NoError(t, err)
	require.Equal(t, "service.invalid", config.ConnConfig.Host)
	require.Equal(t, "a", config.ConnConfig.RuntimeParams["search_path"])
}

func testParseURLIrregularFiles(t *testing.T) {
	withoutVariables(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for keyword, variable := range map[string]string{
		"sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "passfile": "PGPASSFILE",
	} {
		t.Run(keyword, func(t *testing.T) {
			_, err := postgres.ParseURL("host=h " + keyword + "=" + fifo)
			require.EqualError(t, err, "DATABASE_URL (or "+variable+") has a file for "+keyword+" that cannot be used: it is a pipe, not a regular file")
			t.Setenv(variable, "/dev/zero")
			_, err = postgres.ParseURL("host=h")
			require.ErrorContains(t, err, "it is a device, not a regular file")
		})
	}
	t.Setenv("PGSERVICE", "gateway")
	t.Setenv("PGSERVICEFILE", fifo)
	_, err := postgres.ParseURL("host=h")
	require.ErrorContains(t, err, "(or PGSERVICEFILE) has a file for servicefile that cannot be used: it is a pipe")
	t.Setenv("PGSERVICE", "")

	// The places that libpq looks at by itself.
	require.NoError(t, syscall.Mkfifo(filepath.Join(os.Getenv("HOME"), ".pgpass"), 0o600))
	_, err = postgres.ParseURL("host=h")
	require.ErrorContains(t, err, "a file for passfile that cannot be used: it is a pipe")
}

// TestClientSettings compares the list of settings that a client may set with the server's.
func TestClientSettings(t *testing.T) {
	t.Parallel()
	config, err := postgres.ParseURL(pgtest.NewDatabase(t))
	require.NoError(t, err)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	rows, err := pool.Query(t.Context(), `SELECT name FROM pg_settings
		WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend') AND name !~ '\.' AND name <> 'extension_destdir' /* Debian's */ ORDER BY name`)
	require.NoError(t, err)
	defer rows.Close()
	var unknown []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		if !postgres.IsServerSetting(name) {
			unknown = append(unknown, name)
		}
	}
	require.NoError(t, rows.Err())
	require.Empty(t, unknown)
}
