package leader

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/lockwait"
)

func TestSightings(t *testing.T) {
	t.Parallel()
	const maxGap = 20 * time.Second
	start := time.Now()
	alive := func(beat int64) sighting { return sighting{Term: 3, Leader: 7, Beat: beat} }
	type seen struct {
		at int // seconds
		sighting
	}
	for name, c := range map[string]struct {
		seen    []seen
		silent  time.Duration
		overdue bool
	}{
		"nothing":                    {nil, 0, false},
		"once":                       {[]seen{{0, alive(1)}}, 0, false},
		"each turn another sign":     {[]seen{{0, alive(1)}, {10, alive(2)}, {20, alive(3)}, {30, alive(4)}, {40, alive(5)}}, 0, false},
		"the same for a while":       {[]seen{{0, alive(1)}, {10, alive(1)}, {20, alive(1)}, {25, alive(1)}}, 25 * time.Second, false},
		"the same for long":          {[]seen{{0, alive(1)}, {10, alive(1)}, {20, alive(1)}, {30, alive(1)}}, 30 * time.Second, true},
		"the same in few turns":      {[]seen{{0, alive(1)}, {15, alive(1)}, {30, alive(1)}}, 30 * time.Second, false},
		"frozen itself":              {[]seen{{0, alive(1)}, {10, alive(1)}, {20, alive(1)}, {200, alive(1)}, {210, alive(1)}}, 10 * time.Second, false},
		"another term":               {[]seen{{0, alive(1)}, {10, alive(1)}, {20, alive(1)}, {30, sighting{4, 7, 1}}}, 0, false},
		"another session":            {[]seen{{0, alive(1)}, {10, alive(1)}, {20, alive(1)}, {30, sighting{3, 8, 1}}}, 0, false},
		"a session without any sign": {[]seen{{0, alive(-1)}, {10, alive(-1)}, {20, alive(-1)}, {30, alive(-1)}}, 30 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s sightings
			for _, turn := range c.seen {
				s.see(turn.sighting, start.Add(time.Duration(turn.at)*time.Second), maxGap)
			}
			require.Equal(t, c.silent, s.silentFor())
			require.Equal(t, c.overdue, s.isOverdue(30*time.Second))
		})
	}
}

func TestBeatNumber(t *testing.T) {
	t.Parallel()
	for _, takeOverAfter := range []time.Duration{MinTakeOverAfter, 6 * time.Second, TakeOverAfter, time.Hour} {
		interval := NewLimits(takeOverAfter, time.Hour, time.Hour).beatInterval
		numbers := map[int32]bool{}
		for _, series := range []int32{0, 1, 2, math.MaxInt32, math.MinInt32, -1} {
			number := beatNumber(series, interval)
			require.GreaterOrEqual(t, number, int32(0))
			numbers[number] = true
			seen := sighting{Beat: int64(number)}.interval()
			require.InDelta(t, interval, seen, float64(intervalUnit))
			require.LessOrEqual(t, seen*signsMissed, takeOverAfter, "a standby with the same limit keeps to it")
		}
		require.GreaterOrEqual(t, len(numbers), 4, "one sign differs from the next")
	}
	require.Zero(t, sighting{Beat: -1}.interval())
}

func TestSilence(t *testing.T) {
	t.Parallel()
	require.EqualError(t, sighting{Term: 3}.silence(15*time.Second, lockwait.Holder{}), "no worker has led for 15s")
	require.EqualError(t, sighting{3, 0, -1}.silence(15*time.Second, lockwait.Holder{Prepared: "forgotten", Role: "app"}),
		`the prepared transaction "forgotten" (role "app") has held the leader's lock for 15s and is no worker that leads; `+
			`COMMIT PREPARED or ROLLBACK PREPARED it in its database (pg_prepared_xacts)`)
	require.EqualError(t, sighting{3, 7, -1}.silence(15*time.Second, lockwait.Holder{PID: 7, Role: "app", Application: "psql"}),
		`session 7 (role "app", application "psql") has held the leader's lock for 15s and is no worker that leads; SELECT pg_terminate_backend(7) ends it`)
	require.EqualError(t, sighting{3, 7, 1}.silence(15*time.Second, lockwait.Holder{PID: 7}), "the leader, session 7, has shown no sign of life for 15s")
}
