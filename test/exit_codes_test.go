//go:build e2e

package test

import (
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/porttest"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	t.Run("UnreachableDatabase", testExitCodesUnreachableDatabase)
	t.Run("NothingToDo", testExitCodesNothingToDo)
}

func testExitCodesUnreachableDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	// A listener whose backlog takes connections and never answers.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	password := w.secret("pw-that-nobody-sees")
	for name, address := range map[string]string{"silent": silent.Addr().String(), "refusing": porttest.Unused(t)} {
		for _, command := range []string{"run", "seed", "verify", "watch", "migrate"} {
			r := w.run(env.With("DATABASE_URL", "postgres://u:"+password+"@"+address+"/d?sslmode=disable"), command, "--connect-timeout=300ms")
			require.Equal(t, 4, r.Code, "%s: %s", name, r.Stderr)
			require.Contains(t, r.Stderr, "worker: cannot connect to PostgreSQL at "+address+"/d: ")
			if name == "silent" {
				require.Contains(t, r.Stderr, "no answer within 300ms")
			}
			require.True(t, strings.HasSuffix(r.Stderr, "; check DATABASE_URL (or --database-url-file, or PG*), that the server runs, and --connect-timeout\n"), r.Stderr)
		}
	}

	// Waiting does not mend a wrong name, and is not tried.
	config, err := pgx.ParseConfig(w.url)
	require.NoError(t, err)
	for _, command := range []string{"run", "migrate"} {
		r := w.run(env.With("DATABASE_URL", strings.Replace(w.url, "/"+config.Database+"?", "/no_such_database?", 1)), command, "--connect-timeout=1h")
		require.Equal(t, 4, r.Code)
		require.NotContains(t, r.Stderr, "retrying")
		require.Contains(t, r.Stderr, `database "no_such_database" does not exist (SQLSTATE 3D000)`)
	}
}

// testExitCodesNothingToDo keeps a prefix or a name misspelt from
// passing for success.
func testExitCodesNothingToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, code := range map[string]int{"seed": 0, "seed --dry-run": 0, "verify": 3, "verify --allow-empty": 0, "resolve --all --take=db": 3} {
		r := w.run(environ{"CODER_AIBRIDE_OPENAI_KEY": "sk-misspelt"}, strings.Fields(name)...)
		require.Equal(t, code, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, "the environment names no provider")
	}
	r := w.run(nil, "sinks", "retry", "nosuch", "--all")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, `there is no sink: no worker has sent this database's events to any`)
}
