package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/observe"
)

// TestAWorkerThatCannotTakeOverIsNotReady has one whose last verification, while it
// stood by, has succeeded.
func TestAWorkerThatCannotTakeOverIsNotReady(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d := &daemon{
		Options: Options{Logger: slog.New(slog.DiscardHandler)},
		course: &course{metrics: telling{Metrics: observe.NewMetrics("test")}, health: &health{}, life: &life{},
			say: func(string) { cancel() }}, // when the first try is over
	}
	d.health.setListening(nil)
	d.health.setVerified(true, nil)
	require.NoError(t, d.health.ready())
	tries := 0
	done := d.untilDone(ctx, "not leading yet", func(context.Context) error {
		if tries++; tries > 1 {
			cancel() // nobody was told of the first
		}
		return errors.New("read-only")
	})
	require.False(t, done)
	require.Equal(t, 1, tries)
	require.ErrorContains(t, d.health.ready(), "read-only")
}

// TestNoLeaderIsLoggedOnceForEachState has a leader that is silent for longer and longer.
func TestNoLeaderIsLoggedOnceForEachState(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	d := &daemon{Options: Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, course: &course{health: &health{}}}
	logged := func() int { return strings.Count(log.String(), "no live leader is seen") }
	for range 2 {
		before := logged()
		d.NoLeader(errors.New("the leader, session 7, has shown no sign of life for 15s"))
		d.NoLeader(errors.New("the leader, session 7, has shown no sign of life for 20s"))
		d.NoLeader(errors.New("the leader, session 7, has shown no sign of life for 1m5s"))
		require.Equal(t, before+1, logged(), log.String())
		d.NoLeader(errors.New("no worker has led for 15s"))
		d.NoLeader(errors.New("no worker has led for 20s"))
		require.Equal(t, before+2, logged(), log.String())
		d.NoLeader(nil)
	}
}
