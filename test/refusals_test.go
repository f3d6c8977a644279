//go:build e2e

package test

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/porttest"
)

// refusal is a start that is refused: by which command, and how it is told.
type refusal struct {
	// prepare makes the world in which the start is refused, and returns the
	// environment of the worker and its arguments.
	prepare func(t *testing.T) (w *world, env environ, args []string)
	code    int
	says    string
}

// refusals are the rows of the table in docs/beside-the-gateway.md.
var refusals = map[string]refusal{
	"a row that cannot be compared, with `--on-boot-drift=fail`": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		w.insertProvider("anthropic", "anthropic", "https://api.anthropic.com/")
		w.exec(`UPDATE ai_providers SET settings = 'not JSON'`)
		return w, w.twoProviders(), []string{"run"}
	}, 1, "cannot be compared"},
	"encryption keys of which the database has none as active": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		return w, w.twoProviders().WithKeys(dbcrypttest.NewKey()), []string{"run"}
	}, 1, "is active in dbcrypt_keys"},
	"a secret to be stored, where the gateway encrypts and no key is configured": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		w.administrator().register(dbcrypttest.NewKey())
		return w, w.twoProviders(), []string{"run"}
	}, 1, "the gateway encrypts secrets"},
	"`--http-addr` in use": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		return w, w.twoProviders(), []string{"run", "--http-addr=" + listener.Addr().String()}
	}, 1, "address already in use"},
	"a drift at the start, with `--on-boot-drift=fail`": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		w.insertProvider("openai", "openai", "https://other.invalid/")
		return w, w.twoProviders(), []string{"run"}
	}, 2, `AI provider "openai" already exists in the database and differs from the current environment configuration`},
	"a mistake in provider variables": {func(t *testing.T) (*world, environ, []string) {
		return newWorld(t), environ{"CODER_AIBRIDGE_PROVIDER_0_NAME": "north"}, []string{"run"}
	}, 3, "CODER_AIBRIDGE_PROVIDER_0_NAME"},
	"an unknown flag, or a value that a flag does not take": {func(t *testing.T) (*world, environ, []string) {
		return newWorld(t), nil, []string{"run", "--on-boot-drift=perhaps"}
	}, 3, "--on-boot-drift"},
	"`--observe` with `--migrate=auto`, `--on-boot-drift=fail` or `apply`, `--on-reload-drift=apply` or `--announce-seed`, or without a database": {func(t *testing.T) (*world, environ, []string) {
		return newWorld(t), nil, []string{"run", "--observe", "--migrate=auto"}
	}, 3, "--observe"},
	"a `DATABASE_URL` that is no connection string": {func(t *testing.T) (*world, environ, []string) {
		return newWorld(t), environ{"DATABASE_URL": "mysql://app@db.invalid/gateway"}, []string{"run"}
	}, 3, "DATABASE_URL"},
	"a file that cannot be used: environment, token, configuration": {func(t *testing.T) (*world, environ, []string) {
		return newWorld(t), nil, []string{"run", "--env-file=" + t.TempDir()}
	}, 3, "a directory"},
	"invalid encryption keys": {func(t *testing.T) (*world, environ, []string) {
		return newWorld(t), environ{keysVariable: "made-up"}, []string{"run"}
	}, 3, keysVariable},
	"a server that is not reached within `--connect-timeout`": {func(t *testing.T) (*world, environ, []string) {
		return newWorld(t), environ{"DATABASE_URL": "postgres://app@" + porttest.Unused(t) + "/gateway?sslmode=disable"}, []string{"run", "--connect-timeout=1s"}
	}, 4, "refused"},
	"a password that the server refuses": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		wrong, err := url.Parse(w.withPassword("test_wal"))
		require.NoError(t, err)
		wrong.User = url.UserPassword("test_wal", "made-up")
		return w, environ{"DATABASE_URL": wrong.String()}, []string{"run", "--connect-timeout=1h"}
	}, 4, "password authentication failed"},
	"a pooler that keeps no session": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		pooler := w.startPooler("transaction", "test_wal", passwordOf("test_wal"))
		return w, w.twoProviders().With("DATABASE_URL", pooler.url), []string{"run"}
	}, 4, "keeps no session"},
	"a server that is read-only, such as a standby": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		w.exec(`ALTER DATABASE ` + pgx.Identifier{w.db.Config().Database}.Sanitize() + ` SET default_transaction_read_only = on`)
		return w, w.twoProviders(), []string{"run"}
	}, 4, "read-only"},
	"a schema that is not up to date, with `--migrate=check`": {func(t *testing.T) (*world, environ, []string) {
		w := newEmptyWorld(t)
		return w, w.twoProviders(), []string{"run", "--migrate=check"}
	}, 4, `run "worker migrate`},
	"provider tables in several schemas of the search path": {func(t *testing.T) (*world, environ, []string) {
		w := newEmptyWorld(t)
		w.minimalTables(`'openai', 'anthropic'`, "")
		w.exec(`CREATE SCHEMA second; SET search_path = second`)
		w.minimalTables(`'openai', 'anthropic'`, "")
		return w, w.twoProviders().With("DATABASE_URL", w.url+"&search_path=public,second"), []string{"run"}
	}, 4, "second"},
	"a provider table that is a view or partitioned": {func(t *testing.T) (*world, environ, []string) {
		w := newEmptyWorld(t)
		w.minimalTables(`'openai', 'anthropic'`, "")
		w.exec(`ALTER TABLE ai_provider_keys RENAME TO stored; CREATE VIEW ai_provider_keys AS SELECT * FROM stored`)
		return w, w.twoProviders(), []string{"run"}
	}, 4, "not an ordinary table"},
	"a provider table of an unknown form": {func(t *testing.T) (*world, environ, []string) {
		w := newEmptyWorld(t)
		w.minimalTables(`'openai', 'anthropic'`, ", tenant uuid NOT NULL")
		return w, w.twoProviders(), []string{"run"}
	}, 4, "tenant"},
	"a role that lacks privileges": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		_, roleURL := w.role("worker")
		return w, w.twoProviders().With("DATABASE_URL", roleURL), []string{"run"}
	}, 4, "lacks privileges"},
	"row-level security that could hide rows": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		w.exec(`ALTER TABLE ai_providers ENABLE ROW LEVEL SECURITY`)
		return w, w.twoProviders(), []string{"run"}
	}, 4, "row level security applies"},
	"a schema `provwatch` that others may write to": {func(t *testing.T) (*world, environ, []string) {
		w := newWorld(t)
		stranger, _ := w.role("stranger")
		w.exec(`GRANT CREATE ON SCHEMA provwatch TO ` + stranger)
		return w, w.twoProviders(), []string{"run"}
	}, 4, "stranger"},
	"`--source=wal` where the WAL cannot be read": {func(t *testing.T) (*world, environ, []string) {
		w := newWorldOf(t, "notify")
		return w, w.twoProviders(), []string{"run", "--source=wal"}
	}, 4, "--source=wal is not possible"},
}

// TestRefusals provokes each refusal of the table in docs/beside-the-gateway.md.
func TestRefusals(t *testing.T) {
	t.Parallel()
	documented := map[string]int{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([1-4]) \| ([^|]+) \|$`).FindAllStringSubmatch(read(t, "../docs/beside-the-gateway.md"), -1) {
		code, err := strconv.Atoi(row[1])
		require.NoError(t, err)
		documented[row[2]] = code
	}
	tried := map[string]int{}
	for name, r := range refusals {
		tried[name] = r.code
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, env, args := r.prepare(t)
			result := w.run(env, args...)
			require.Equal(t, r.code, result.Code, result.Stderr)
			require.Contains(t, result.Stderr, r.says)
		})
	}
	require.Equal(t, documented, tried)
}
