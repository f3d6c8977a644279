package test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// startPooler starts a PgBouncer before the world's server, in the pool mode given, and
// returns the URL by which a role with the password reaches the database through it.
func (w *world) startPooler(mode, role, password string) string {
	w.t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		w.t.Skip("there is no PgBouncer: scripts/install-pgbouncer.sh installs one")
	}
	config, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	// The folders of t.TempDir are closed to other users.
	dir, err := os.MkdirTemp("", "provwatch-pooler-")
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const port = 6432 // of a socket in a folder of its own
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(w.t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	users := write("users.txt", fmt.Sprintf("%q %q\n", role, password))
	settings := write("pgbouncer.ini", fmt.Sprintf(`
[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
unix_socket_dir = %s
listen_port = %d
auth_type = scram-sha-256
auth_file = %s
pool_mode = %s
default_pool_size = 50
ignore_startup_parameters = extra_float_digits
`, config.Port, dir, port, users, mode))
	require.NoError(w.t, os.Chmod(dir, 0o777))
	args := []string{settings}
	if os.Geteuid() == 0 { // which it refuses to be
		args = append([]string{"-u", "nobody"}, args...)
	}
	pooler := exec.Command(program, args...)
	log, err := pooler.StderrPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, pooler.Start())
	up, ended := make(chan struct{}), make(chan string, 1)
	go func() {
		var text strings.Builder
		started := false
		for lines := bufio.NewScanner(log); lines.Scan(); {
			text.WriteString(lines.Text() + "\n")
			if !started && strings.Contains(lines.Text(), "process up") {
				started = true
				close(up)
			}
		}
		ended <- text.String()
	}()
	w.t.Cleanup(func() {
		_ = pooler.Process.Kill()
		text := <-ended
		_ = pooler.Wait()
		if w.t.Failed() {
			w.t.Logf("log of PgBouncer:\n%s", text)
		}
	})
	select {
	case <-up:
	case text := <-ended:
		ended <- text
		w.t.Fatalf("PgBouncer has ended:\n%s", text)
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password), Path: "/" + config.Database,
		RawQuery: url.Values{"host": {dir}, "port": {fmt.Sprint(port)}, "sslmode": {"disable"}}.Encode(),
	}
	return u.String()
}

// TestBehindAPoolerThatPoolsSessions has several sessions of PgBouncer's own process id.
// It does not carry replication, so that auto listens to notifications, also for a role
// that may replicate.
func TestBehindAPoolerThatPoolsSessions(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "auto"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, "notify")
			role, password := "test_notify", passwordOf("test_notify")
			if source == "auto" {
				role, password = w.db.Config().User, w.ownerPassword()
			}
			env := w.twoProviders().with("DATABASE_URL", w.startPooler("session", role, password))
			first := w.start(env, "run", "--source="+source, "--http-addr=127.0.0.1:0").ready()
			first.waitFor("msg=leading")
			second := w.start(env, "run", "--source="+source).ready()
			for i := range 4 {
				w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
				want := []string{"disabled openai", "resolved openai", "disabled openai", "resolved openai"}[:1+i]
				w.expectAlerts(want...)
			}
			status, reason := first.get("/readyz")
			require.Equal(t, http.StatusOK, status, reason)
			require.Zero(t, first.logged("another worker may be the leader"))
			first.stop()
			second.waitFor("msg=leading")
			w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
			w.expectAlerts("disabled openai", "resolved openai", "disabled openai", "resolved openai", "disabled anthropic")
			second.stop()
		})
	}
}
