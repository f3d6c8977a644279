package wal

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
)

func TestBatch(t *testing.T) {
	t.Parallel()
	t.Run("NothingToRecord", testBatchNothingToRecord)
	t.Run("IsBounded", testBatchIsBounded)
}

// testBatchNothingToRecord checks that what needs no record neither waits for one nor
// counts against the limit. It would not end if what follows an alert in the stream, its
// own transaction, waited for the limit.
func testBatchNothingToRecord(t *testing.T) {
	t.Parallel()
	events := make(chan event, 2)
	b := batcher{events: events, limiter: rate.NewLimiter(rate.Limit(1e-6), 1)}
	for _, e := range []event{{passed: 7}, {transaction: &transaction{end: 7}}} {
		require.Equal(t, []event{e}, b.gather(t.Context(), e, false))
		require.InDelta(t, 1, b.limiter.Tokens(), 0.01)
	}
	news := event{transaction: &transaction{keysTouched: true}}
	events <- event{passed: 8}
	require.Len(t, b.gather(t.Context(), news, false), 2, "with what is there already")
	require.InDelta(t, 0, b.limiter.Tokens(), 0.01)
}

func testBatchIsBounded(t *testing.T) {
	t.Parallel()
	part := event{transaction: &transaction{more: true, changes: []change{{truncate: true}}}}
	small := event{transaction: &transaction{keysTouched: true}}
	for name, c := range map[string]struct {
		events []event
		taken  int // beside the first
	}{
		"by what there is": {[]event{small, small}, 2},
		"by its size":      {[]event{small, eventOf(maxBatchSize / 2), eventOf(maxBatchSize / 2), small}, 3},
		"by a part, with which recording goes on in another way": {[]event{small, part, part, small}, 2},
	} {
		events := make(chan event, len(c.events))
		for _, e := range c.events {
			events <- e
		}
		require.Equal(t, c.events[:c.taken], (&batcher{events: events, limiter: rate.NewLimiter(rate.Inf, 0)}).gather(t.Context(), small, false)[1:], name)
	}
	require.Equal(t, []event{part}, (&batcher{}).gather(t.Context(), part, false), "the rest is taken where it is recorded")
}
