package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/observe"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
	"provwatch/internal/systemd"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// TestReloadedKeys requires that new keys are in use only once the environment is that they were
// read with: what they alone decode would differ from the former one. The environment is so
// large that it takes a while until it is in use.
func TestReloadedKeys(t *testing.T) {
	t.Parallel()
	desired := make([]provider.Desired, 50_000)
	for i := range desired {
		name := fmt.Sprintf("p%05d", i)
		desired[i] = provider.Desired{Name: name, Type: provider.OpenAI, BaseURL: "https://h/", Keys: []secret.Text{secret.New("sk-" + name)}}
	}
	former, key := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	logger := slog.New(slog.DiscardHandler)
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: &statusPage{}, health: &health{}}
	verifier := verify.New(nil, nil, drift.AlertCredentials, logger, metrics)
	r := &reloader{options: Options{Keys: dbcrypttest.NewRing(t, former), Logger: logger}, verifier: verifier, membership: &membership{woken: make(chan struct{}, 1)}, files: newFiles(nil, nil, nil, logger, nil), metrics: metrics}
	var named bool
	var watch conc.WaitGroup
	watch.Go(func() {
		for !r.options.Keys.Has(key.Digest()) {
			runtime.Gosched()
		}
		_, named = verifier.Named("p00000")
	})
	r.use(t.Context(), environment.Environment{Keys: dbcrypttest.NewRing(t, key).Keys()}, desired, nil)
	watch.Wait()
	require.True(t, named)
	require.Len(t, r.files.woken, 1, "the files on disk are looked at")
}

// unchanged is an environment that is read.
type unchanged struct{}

func (unchanged) ReadEnvironment() (environment.Environment, error) {
	return environment.Environment{Providers: []provider.Desired{{Name: "a", Type: provider.OpenAI, BaseURL: "https://h/"}}}, nil
}

// onLine calls a function when a line of the log has a text.
type onLine struct {
	text string
	do   func()
}

func (o onLine) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(o.text)) {
		o.do()
	}
	return len(line), nil
}

// alive is a daemon that is alive.
type alive struct{}

func (alive) Alive() error { return nil }

// TestReloadAtTheEnd has a run end while a reload waits for the database. The service manager
// does not wait for it any more.
func TestReloadAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	next := func() string {
		t.Helper()
		require.NoError(t, socket.SetReadDeadline(time.Now().Add(waittest.Patience)))
		buffer := make([]byte, 4096)
		n, err := socket.Read(buffer)
		require.NoError(t, err)
		return string(buffer[:n])
	}
	config, err := postgres.ParseURL("postgres://nobody@127.0.0.1:1/none")
	require.NoError(t, err)
	config.MinConns = 0
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	logger := slog.New(slog.NewTextHandler(onLine{"while the database is unreachable, retrying", cancel}, nil))
	metrics := &instruments{Metrics: observe.NewMetrics("test"), page: &statusPage{}, health: &health{}}
	member := systemd.New(logger).Join(alive{})
	member.Ready()
	require.Equal(t, "READY=1", next())
	r := &reloader{
		options: Options{Keys: dbcrypttest.NewRing(t), Reader: unchanged{}, Logger: logger},
		pool:    pool, verifier: verify.New(pool, nil, drift.IgnoreCredentials, logger, metrics), metrics: metrics, member: member,
	}
	reload := make(chan struct{}, 1)
	reload <- struct{}{}
	r.run(ctx, reload)
	require.Equal(t, "RELOADING=1", next())
	require.Equal(t, "READY=1", next())
}
