package fleet

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/daemon"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/schema"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// panicking panics at the first line that says that the worker is ready, on the
// goroutine that verifies.
type panicking struct {
	slog.Handler
	ready *atomic.Int32
	line  chan string
}

func (p panicking) Enabled(context.Context, slog.Level) bool { return true }
func (p panicking) WithAttrs([]slog.Attr) slog.Handler       { return p }

func (p panicking) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "ready" && p.ready.Add(1) == 1 {
		panic("at the first time")
	}
	p.line <- r.Message
	return nil
}

// panickingBoot is a target that panics when it is opened.
type panickingBoot struct{}

func (panickingBoot) Open(context.Context, *slog.Logger) (daemon.Options, error) {
	panic("in the boot")
}

// fixedOptions is a target that runs with the same options each time.
type fixedOptions struct{ options daemon.Options }

func (f fixedOptions) Open(context.Context, *slog.Logger) (daemon.Options, error) {
	return f.options, nil
}

func TestFleet(t *testing.T) {
	t.Run("Panic", testFleetPanic)
	t.Run("HangingBoot", testFleetHangingBoot)
	t.Run("Readiness", testFleetReadiness)
}

// testFleetPanic has a target that panics in its boot, and a target that panics on a goroutine
// of its watch. Each is retried.
func testFleetPanic(t *testing.T) {
	database, err := postgres.ParseURL(pgtest.NewDatabase(t))
	require.NoError(t, err)
	keys := dbcrypt.NewRing(dbcrypt.Keys{})
	handler := panicking{slog.DiscardHandler, &atomic.Int32{}, make(chan string, 1000)}
	stopBy := func() time.Time { return time.Now().Add(waittest.Patience) }
	targets := []Target{
		{Name: "boot", Opener: panickingBoot{}},
		{Name: "watch", Opener: fixedOptions{daemon.Options{Database: database, Keys: keys, ConnectTimeout: waittest.Patience, Migrate: schema.Auto, Source: daemon.NotifySource,
			CredentialDrift: drift.IgnoreCredentials, Resync: time.Hour, MaxBackOff: time.Second, ProbeInterval: time.Minute, AnswerTimeout: time.Minute, TakeOverAfter: time.Minute, StopBy: stopBy}}},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	f := newFleet(targets, nil, "test", slog.New(handler))
	go func() {
		defer close(ended)
		f.run(ctx, make(chan struct{}))
	}()
	counts := map[string]int{}
	for counts["ready"] == 0 {
		counts[waittest.Receive(t, handler.line, "ready again, after %v", counts)]++
	}
	require.GreaterOrEqual(t, counts["a part of the worker has panicked"], 2)
	require.EqualValues(t, 2, handler.ready.Load())
	waittest.Until(t, func() bool {
		_, err := f.roster.Ready()
		return err != nil && err.Error() == "target boot: a part of the worker has panicked; the log has its stack"
	}, "readiness names the target that is not ready, and no other")
	cancel()
	<-ended
}

func testFleetHangingBoot(t *testing.T) {
	t.Parallel()
	boots := &turns{byServer: map[string]chan struct{}{"x": make(chan struct{}, 1)}, limit: 20 * time.Millisecond}
	done, err := boots.take(t.Context(), "x")
	require.NoError(t, err)
	second, err := boots.take(t.Context(), "x") // once the first one's time is over
	require.NoError(t, err)
	done()
	second() // which gives back one turn, and no more than that
	third, err := boots.take(t.Context(), "x")
	require.NoError(t, err)
	third()
}

func testFleetReadiness(t *testing.T) {
	f := newFleet([]Target{{Name: "a"}, {Name: "b"}}, nil, "test", slog.New(slog.DiscardHandler))
	f.targets[1].daemon.Failed(errors.New("no database"))
	_, err := f.roster.Ready()
	require.EqualError(t, err, "target a: booting\ntarget b: no database")
}
