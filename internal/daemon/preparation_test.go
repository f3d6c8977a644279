package daemon

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/retry"
)

// describing is a supervisor that is called when what the daemon does has changed.
type describing func()

func (d describing) Booted()   {}
func (d describing) Describe() { d() }

// TestFailedTakeover has a worker that cannot take over. Its last verification, while it stood
// by, has succeeded.
func TestFailedTakeover(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h := &health{}
	h.setListening(nil)
	h.setVerified(true, nil)
	require.NoError(t, h.ready())
	logger := slog.New(slog.DiscardHandler)
	p := &preparation{logger: logger, verifications: &verifications{
		health: h, liveness: &liveness{}, faults: &faults{privileges: &privileges{health: h}, queue: &notifyQueue{}},
		report: &report{supervisor: describing(cancel)}, // when the first try is over
	}}
	tries := 0
	for attempt := range retry.Every(leadPause).Attempts(ctx) {
		if tries++; tries > 1 {
			cancel() // nobody was told of the first
		}
		require.False(t, p.isDone(ctx, attempt, "not leading yet", errors.New("read-only")))
	}
	require.Equal(t, 1, tries)
	require.ErrorContains(t, h.ready(), "read-only")
}
