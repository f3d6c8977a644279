//go:build e2e

package test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/postgres"
)

// pooler is a PgBouncer before the world's server.
type pooler struct {
	t *testing.T
	// url is that by which a role with the password reaches the database.
	url      string
	process  *os.Process
	settings string // the file
	text     string // of the file, but for the mode
}

// poolerPort is that of its socket, in a folder of its own.
const poolerPort = 6432

// socket returns the file of its socket.
func (p *pooler) socket() string {
	return filepath.Join(filepath.Dir(p.settings), fmt.Sprintf(".s.PGSQL.%d", poolerPort))
}

// use makes it pool sessions or transactions, at once.
func (p *pooler) use(mode string) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(p.settings, []byte(p.text+"pool_mode = "+mode+"\n"), 0o644))
	if p.process != nil {
		require.NoError(p.t, p.process.Signal(syscall.SIGHUP))
	}
}

// startPooler starts a pooler in the pool mode given, for a role with the password.
func (w *world) startPooler(mode, role, password string) *pooler {
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
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(w.t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	users := write("users.txt", fmt.Sprintf("%q %q\n", role, password))
	p := &pooler{t: w.t, settings: filepath.Join(dir, "pgbouncer.ini"), text: fmt.Sprintf(`
[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
unix_socket_dir = %s
listen_port = %d
auth_type = scram-sha-256
auth_file = %s
default_pool_size = 50
ignore_startup_parameters = extra_float_digits
`, config.Port, dir, poolerPort, users)}
	p.use(mode)
	require.NoError(w.t, os.Chmod(dir, 0o777))
	args := []string{p.settings}
	if os.Geteuid() == 0 { // which it refuses to be
		args = append([]string{"-u", "nobody"}, args...)
	}
	pooler := exec.Command(program, args...)
	log, err := pooler.StderrPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, pooler.Start())
	p.process = pooler.Process
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
		RawQuery: url.Values{"host": {dir}, "port": {fmt.Sprint(poolerPort)}, "sslmode": {"disable"}}.Encode(),
	}
	p.url = u.String()
	return p
}

func TestPooler(t *testing.T) {
	t.Parallel()
	t.Run("OfSessions", testPoolerOfSessions)
	t.Run("OfTransactions", testPoolerOfTransactions)
	t.Run("IsNoticedByEachSession", testPoolerIsNoticedByEachSession)
	t.Run("BeginsToPoolTransactions", testPoolerBeginsToPoolTransactions)
	t.Run("RefusesASetting", testPoolerRefusesASetting)
}

// testPoolerOfSessions has several sessions of PgBouncer's own process id.
// It does not carry replication, so that auto listens to notifications, also for a role
// that may replicate.
func testPoolerOfSessions(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "auto"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, "notify")
			role, password := "test_notify", passwordOf("test_notify")
			if source == "auto" {
				role, password = w.db.Config().User, w.ownerPassword()
			}
			env := w.twoProviders().With("DATABASE_URL", w.startPooler("session", role, password).url)
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

// testPoolerOfTransactions requires that every command refuses it at once,
// and leaves nothing behind in the sessions that other programs have next.
func testPoolerOfTransactions(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, "notify")
			url := w.startPooler(mode, "test_notify", passwordOf("test_notify")).url
			env := w.twoProviders().With("DATABASE_URL", url)
			for _, args := range [][]string{
				{"run"}, {"run", "--source=auto"}, {"seed"}, {"verify"}, {"status"}, {"watch"}, {"migrate"}, {"resolve", "openai", "--take=db"}, {"slot", "drop"},
			} {
				r := w.run(env, append(args, "--connect-timeout=1h")...)
				require.Equal(t, 4, r.Code, "%s: %s", args, r.Stderr)
				require.Contains(t, r.Stderr, "there is a pooler before the server that keeps no session: it pools transactions or statements", "%s", args)
				require.Contains(t, r.Stderr, "; connect to the server itself, or have the pooler pool sessions", "%s", args)
				require.NotContains(t, r.Stderr, "retrying", "%s", args)
			}
			plain, err := pgconn.Connect(t.Context(), url)
			require.NoError(t, err)
			results, err := plain.Exec(t.Context(), "SELECT current_setting('search_path') || current_setting('row_security')").ReadAll()
			require.NoError(t, err)
			require.Equal(t, `"$user", publicon`, string(results[0].Rows[0][0]))
			require.NoError(t, plain.Close(t.Context()))
			require.Zero(t, w.count("SELECT count(*) FROM ai_providers WHERE name NOT LIKE 'gw-%'"))
		})
	}
}

// testPoolerIsNoticedByEachSession has other programs use the sessions of
// the same pool meanwhile.
func testPoolerIsNoticedByEachSession(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	url := w.startPooler("transaction", "test_notify", passwordOf("test_notify")).url
	ctx, stop := context.WithCancel(t.Context())
	var others conc.WaitGroup
	defer others.Wait()
	defer stop()
	for range 3 {
		others.Go(func() {
			conn, err := pgconn.Connect(ctx, url)
			for err == nil {
				err = conn.Exec(ctx, "SELECT 1").Close()
			}
		})
	}
	const rounds, together = 20, 4
	for range rounds {
		var sessions pool.ErrorPool
		kept := make(chan struct{}, together)
		config, err := postgres.ParseURL(url)
		require.NoError(t, err)
		for range together {
			sessions.Go(func() error {
				conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig.Copy())
				if err == nil {
					kept <- struct{}{}
					return conn.Close(t.Context())
				}
				if !postgres.IsPooling(err) {
					return err
				}
				return nil
			})
		}
		require.NoError(t, sessions.Wait())
		require.Empty(t, kept, "each is refused")
	}
}

// testPoolerBeginsToPoolTransactions changes the mode of a pooler before a running
// worker, which hears nothing from then on.
func testPoolerBeginsToPoolTransactions(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	pooler := w.startPooler("session", "test_notify", passwordOf("test_notify"))
	p := w.start(w.twoProviders().With("DATABASE_URL", pooler.url), "run", "--http-addr=127.0.0.1:0", "--probe-interval=1s", "--resync=24h").ready()
	pooler.use("transaction")
	eventually(t, func() bool {
		status, reason := p.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(reason, "there is a pooler before the server that keeps no session") &&
			strings.Contains(reason, "; connect to the server itself, or have the pooler pool sessions")
	}, "the worker is not ready, and says why")
	pooler.use("session")
	eventually(t, func() bool {
		status, _ := p.get("/readyz")
		return status == http.StatusOK
	}, "the worker is ready again")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.stop()
}

// testPoolerRefusesASetting has a setting of the server in the connection string.
func testPoolerRefusesASetting(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	url := w.startPooler("session", "test_notify", passwordOf("test_notify")).url
	r := w.run(w.twoProviders().With("DATABASE_URL", url+"&search_path=public"), "run", "--connect-timeout=1h")
	require.Equal(t, 4, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "unsupported startup parameter")
	require.Contains(t, r.Stderr, "; the pooler refuses a setting of the connection string: set it for the role (ALTER ROLE … SET)")
	require.NotContains(t, r.Stderr, "retrying")
}
