package wal

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
)

// TestWhatNeedsNoRecordNeitherWaitsForOneNorIsChargedForIt would not end if what
// follows an alert in the stream, its own transaction, waited for the limit.
func TestWhatNeedsNoRecordNeitherWaitsForOneNorIsChargedForIt(t *testing.T) {
	t.Parallel()
	s := &session{limiter: rate.NewLimiter(rate.Limit(1e-6), 1)}
	events := make(chan event, 2)
	for _, e := range []event{{passed: 7}, {transaction: &transaction{end: 7}}} {
		require.Equal(t, []event{e}, s.gather(t.Context(), e, events))
		require.InDelta(t, 1, s.limiter.Tokens(), 0.01)
	}
	news := event{transaction: &transaction{keysTouched: true}}
	events <- event{passed: 8}
	require.Len(t, s.gather(t.Context(), news, events), 2, "with what is there already")
	require.InDelta(t, 0, s.limiter.Tokens(), 0.01)
}
