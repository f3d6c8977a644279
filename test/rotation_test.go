//go:build e2e

package test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// rotatedRole is a role of one test whose password changes.
type rotatedRole struct {
	w      *world
	name   string
	config *pgx.ConnConfig // of the database, as its owner
	dir    string          // of files that hold the password
}

// newRotatedRole makes a role that may do what a worker of the world's source needs.
func (w *world) newRotatedRole() *rotatedRole {
	w.t.Helper()
	config, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	r := &rotatedRole{w: w, name: config.Database + "_rotated", config: config, dir: w.t.TempDir()}
	attributes := "IN ROLE provwatch_" + w.source
	if w.source == "wal" {
		attributes = "REPLICATION " + attributes
	}
	w.createRole(r.name, attributes)
	return r
}

// password returns the role's nth password.
func (r *rotatedRole) password(n int) string { return fmt.Sprintf("%s-%d", passwordOf(r.name), n) }

// rotate makes the nth password the role's in the server, and ends all its sessions.
func (r *rotatedRole) rotate(n int) {
	r.w.t.Helper()
	conn := r.w.connect()
	for _, statement := range []string{
		"SET log_statement = none; SET log_min_error_statement = panic", // the next one has the password
		"ALTER ROLE " + r.name + " PASSWORD '" + strings.ReplaceAll(r.password(n), "'", "''") + "'",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + r.name + "'",
	} {
		_, err := conn.Exec(r.w.t.Context(), statement)
		require.NoError(r.w.t, err)
	}
	require.NoError(r.w.t, conn.Close(r.w.t.Context()))
}

// url returns the database's URL by TCP, where the server asks for the password.
func (r *rotatedRole) url(user *url.Userinfo) string {
	u := url.URL{Scheme: "postgres", User: user, Host: fmt.Sprintf("127.0.0.1:%d", r.config.Port), Path: "/" + r.config.Database, RawQuery: "sslmode=disable"}
	return u.String()
}

func (r *rotatedRole) withPassword(n int) string {
	return r.url(url.UserPassword(r.name, r.password(n)))
}

// swapped is the path of a file that is written as Kubernetes writes that of a volume:
// all files of a version are swapped by a rename.
func (r *rotatedRole) swapped(content string) string {
	t := r.w.t
	t.Helper()
	version, err := os.MkdirTemp(r.dir, "..version")
	require.NoError(t, err)
	writeFile(t, filepath.Join(version, "url"), content)
	next, path := filepath.Join(r.dir, "..next"), filepath.Join(r.dir, "url")
	require.NoError(t, os.Symlink(version, next))
	require.NoError(t, os.Rename(next, filepath.Join(r.dir, "..data")))
	if _, err := os.Lstat(path); err != nil {
		require.NoError(t, os.Symlink("..data/url", path))
	}
	return path
}

// replaced is the path of a file that is written at once, by a rename: a worker that connects
// meanwhile reads no half of it.
func (r *rotatedRole) replaced(name, content string) string {
	r.w.t.Helper()
	path := filepath.Join(r.dir, name)
	r.w.replaceFile(path, content)
	return path
}

// passwordPlaces are the places that a worker reads its password from: write puts the
// nth one there, and returns how the worker is given the place, and its path.
var passwordPlaces = map[string]func(r *rotatedRole, n int) (env environ, args []string, path string){
	"DatabaseURLFile": func(r *rotatedRole, n int) (environ, []string, string) {
		path := r.replaced("url", r.withPassword(n)+"\n")
		return environ{"DATABASE_URL": ""}, []string{"--database-url-file=" + path}, path
	},
	"MountedDatabaseURLFile": func(r *rotatedRole, n int) (environ, []string, string) {
		path := r.swapped(r.withPassword(n))
		return environ{"DATABASE_URL": "", "PROVWATCH_DATABASE_URL_FILE": path}, nil, path
	},
	"Target": func(r *rotatedRole, n int) (environ, []string, string) {
		path := r.swapped(r.withPassword(n))
		file := writeFile(r.w.t, filepath.Join(r.dir, "provwatch.yaml"), "targets:\n  - {name: one, env_prefix: CODER_AIBRIDGE_, database_url_file: "+path+"}\n")
		return environ{"DATABASE_URL": ""}, []string{"--config=" + file}, path
	},
	"PasswordFile": func(r *rotatedRole, n int) (environ, []string, string) {
		path := r.replaced("passwords", "127.0.0.1:*:*:"+r.name+":"+r.password(n)+"\n")
		return environ{"DATABASE_URL": r.url(url.User(r.name)), "PGPASSFILE": path}, nil, "PGPASSFILE"
	},
	"ServiceFile": func(r *rotatedRole, n int) (environ, []string, string) {
		path := r.replaced("services", fmt.Sprintf(
			"[gateway]\nhost=127.0.0.1\nport=%d\ndbname=%s\nsslmode=disable\nuser=%s\npassword=%s\n", r.config.Port, r.config.Database, r.name, r.password(n)))
		return environ{"DATABASE_URL": "", "PGSERVICE": "gateway", "PGSERVICEFILE": path}, nil, "PGSERVICEFILE"
	},
}

func TestRotation(t *testing.T) {
	t.Parallel()
	t.Run("NeedsNoRestart", testRotationNeedsNoRestart)
	t.Run("DuringAStart", testRotationDuringAStart)
	t.Run("DatabaseURLFile", testRotationDatabaseURLFile)
}

// testRotationNeedsNoRestart rotates the password of a running worker's role, in
// the server first and in the worker's file first, and ends all its sessions.
func testRotationNeedsNoRestart(t *testing.T) {
	t.Parallel()
	for name, write := range passwordPlaces {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothSources(t, func(t *testing.T, w *world) {
				role := w.newRotatedRole()
				role.rotate(1)
				env, args, path := write(role, 1)
				for variable, value := range w.twoProviders() {
					env[variable] = value
				}
				p := w.start(env, append([]string{"run", "--http-addr=127.0.0.1:0", "--resync=24h"}, args...)...).ready()
				readiness := func(want int, texts ...string) {
					t.Helper()
					eventually(t, func() bool {
						status, reason := p.get("/readyz")
						for _, text := range texts {
							if !strings.Contains(reason, text) {
								return false
							}
						}
						return status == want
					}, "/readyz is %d with %q", want, texts)
				}

				role.rotate(2)
				readiness(http.StatusServiceUnavailable, "password authentication failed", "; check the user and the password in ", path)
				w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
				write(role, 2)
				readiness(http.StatusOK)
				w.expectAlerts("disabled openai")

				write(role, 3)
				role.rotate(3)
				w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
				w.expectAlerts("disabled openai", "resolved openai")
				readiness(http.StatusOK)
				require.Equal(t, 2, p.logged("new connections use another user or password"))
				require.Zero(t, p.logged("replication slot created")-w.count("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"),
					"the slot stays")
				p.stop()
			})
		})
	}
}

// testRotationDuringAStart begins before the file has the server's password.
func testRotationDuringAStart(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	role := w.newRotatedRole()
	role.rotate(2)
	env, args, path := passwordPlaces["DatabaseURLFile"](role, 1)
	for variable, value := range w.twoProviders() {
		env[variable] = value
	}
	for _, command := range []string{"run", "verify"} {
		r := w.run(env, append([]string{command, "--connect-timeout=10s"}, args...)...)
		require.Equal(t, 4, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, "; check the user and the password in "+path)
	}
	p := w.start(env, append([]string{"run"}, args...)...)
	p.waitFor("database not reachable yet, retrying", "password authentication failed")
	passwordPlaces["DatabaseURLFile"](role, 2)
	p.ready().stop()

	// One that is not read again is refused at once.
	r := w.run(w.twoProviders().With("DATABASE_URL", role.withPassword(1)), "run", "--connect-timeout=1h")
	require.Equal(t, 4, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "; check the user and the password of DATABASE_URL")
	require.NotContains(t, r.Stderr, "retrying")
}

// testRotationDatabaseURLFile gives every command the file of its connection string, and files
// that are none.
func testRotationDatabaseURLFile(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "notify")
	path, url := filepath.Join(t.TempDir(), "database.url"), w.withPassword(w.db.Config().User)
	env := w.twoProviders().With("DATABASE_URL", "").With("PROVWATCH_DATABASE_URL_FILE", path)
	writeFile(t, path, " "+url+"\n")
	for _, args := range [][]string{{"seed"}, {"verify"}, {"resolve", "openai", "--take=env"}, {"migrate"}, {"slot", "drop"}, {"status"}, {"sinks", "list"}} {
		r := w.run(env, args...)
		require.NotEqual(t, 3, r.Code, "%s: %s", args, r.Stderr)
		require.NotEqual(t, 4, r.Code, "%s: %s", args, r.Stderr)
	}
	require.Equal(t, 2, w.count("SELECT count(*) FROM ai_providers"))

	r := w.run(env.With("DATABASE_URL", url), "run")
	require.Equal(t, 3, r.Code)
	require.Contains(t, r.Stderr, "--database-url-file (or PROVWATCH_DATABASE_URL_FILE) names the database, as DATABASE_URL does: unset one of them")
	config := writeFile(t, filepath.Join(t.TempDir(), "provwatch.yaml"), "targets:\n  - {name: one, env_prefix: CODER_AIBRIDGE_, database: host=127.0.0.1}\n")
	r = w.run(env, "run", "--config="+config)
	require.Equal(t, 3, r.Code)
	require.Contains(t, r.Stderr, "it cannot be used together with --database-url-file")

	refused := func(want string) {
		t.Helper()
		for _, command := range []string{"run", "verify"} {
			r := w.run(env, command)
			require.Equal(t, 3, r.Code, r.Stderr)
			require.Contains(t, r.Stderr, want)
		}
	}
	writeFile(t, path, " \n")
	refused(path + " is empty; it must hold the connection string")
	writeFile(t, path, `"`+url+`"`)
	refused(path + " is in quotes")
	require.NoError(t, os.Chmod(path, 0o666))
	refused("others may write to it")
	require.NoError(t, os.Remove(path))
	refused("read the database's URL: open " + path + ": no such file or directory")
	require.NoError(t, os.Mkdir(path, 0o700))
	refused("it is a directory, not a regular file")
}
