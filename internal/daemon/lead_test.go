package daemon

import (
	"context"
	"errors"
	"log/slog"
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
