package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

func TestLiveness(t *testing.T) {
	var now = time.Now()
	later := func(d time.Duration) time.Time { return now.Add(d) }

	t.Run("booting takes any time", func(t *testing.T) {
		var l liveness
		require.NoError(t, l.check(later(time.Hour)))
	})
	t.Run("the listener comes round in time", func(t *testing.T) {
		var l liveness
		l.cameRound()
		require.NoError(t, l.check(later(listenerLimit-time.Second)))
		require.ErrorContains(t, l.check(later(listenerLimit+time.Minute)), "the listener has not come round for 3m0s")
	})
	t.Run("a verification that is asked for ends in time, also without success", func(t *testing.T) {
		var l liveness
		done := l.take()
		require.NoError(t, l.check(later(24*time.Hour)), "none is asked for")
		l.ask()
		require.NoError(t, l.check(later(verifyLimit-time.Second)))
		require.ErrorContains(t, l.check(later(verifyLimit+time.Minute)), "no verification has ended for 31m0s")
		l.verified()
		require.NoError(t, l.check(later(24*time.Hour)))
		l.ask()
		done()
		require.NoError(t, l.check(later(24*time.Hour)), "none is made while the server is waited for")
	})
	t.Run("a goroutine that panics is missed at once", func(t *testing.T) {
		var l liveness
		var group conc.WaitGroup
		group.Go(func() {
			defer l.recordEnd(t.Context(), "source")
			panic("planted")
		})
		require.NotNil(t, group.WaitAndRecover())
		require.ErrorContains(t, l.check(now), "the source has ended")
	})
	t.Run("goroutines that end because the worker stops are not", func(t *testing.T) {
		var l liveness
		stopped, stop := context.WithCancel(t.Context())
		stop()
		l.recordEnd(stopped, "source")
		require.NoError(t, l.check(now))
	})
}
