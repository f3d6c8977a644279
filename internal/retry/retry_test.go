package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/retry"
)

// run makes a number of attempts, of which those fail that fails reports. It returns when
// each began, counted from the first one.
func run(t *testing.T, p retry.Policy, attempts int, fails func(n int) bool) (began []time.Duration) {
	start := time.Now()
	for attempt := range p.Attempts(t.Context()) {
		began = append(began, time.Since(start))
		if n := len(began); fails(n) {
			attempt.Failed()
		}
		if len(began) == attempts {
			break
		}
	}
	return began
}

func always(int) bool { return true }

func TestAttempts(t *testing.T) {
	t.Parallel()
	t.Run("WaitLongerAfterEachFailureUpToTheMaximum", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := run(t, retry.Policy{First: time.Second, Max: 3 * time.Second}, 10, always)
			expected := time.Second
			for i := 1; i < len(began); i++ {
				wait := began[i] - began[i-1]
				require.GreaterOrEqual(t, wait, expected/2)
				require.LessOrEqual(t, wait, expected+expected/2)
				expected = min(expected+expected/2, 3*time.Second)
			}
		})
	})
	t.Run("WaitLongerByTheFactor", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := run(t, retry.Policy{First: time.Second, Max: time.Hour, Factor: 4}, 6, always)
			expected := time.Second
			for i := 1; i < len(began); i++ {
				wait := began[i] - began[i-1]
				require.GreaterOrEqual(t, wait, expected/2)
				require.LessOrEqual(t, wait, expected+expected/2)
				expected *= 4
			}
		})
	})
	t.Run("StartOverAfterASuccess", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := run(t, retry.Policy{First: time.Second, Max: time.Hour}, 20, func(n int) bool { return n != 18 })
			require.Equal(t, began[17], began[18], "no wait after a success")
			require.LessOrEqual(t, began[19]-began[18], 3*time.Second/2)
		})
	})
	t.Run("WaitForTheSameTime", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			require.Equal(t, []time.Duration{0, time.Second, 2 * time.Second}, run(t, retry.Every(time.Second), 3, always))
		})
	})
	t.Run("EndWithTheLastTry", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			require.Len(t, run(t, retry.Policy{Tries: 3}, 10, always), 3)
		})
	})
	t.Run("EndInTime", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var last bool
			for attempt := range (retry.Policy{First: time.Second, Max: time.Second, Within: time.Minute}).Attempts(t.Context()) {
				require.False(t, last)
				wait, again := attempt.Failed()
				require.Equal(t, again, time.Since(start)+wait <= time.Minute)
				last = !again
			}
			require.True(t, last)
		})
	})
	t.Run("EndWithTheContext", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			start, n := time.Now(), 0
			for attempt := range retry.Every(time.Hour).Attempts(ctx) {
				n++
				attempt.Failed()
			}
			require.Equal(t, 1, n)
			require.Equal(t, time.Minute, time.Since(start))
		})
	})
	t.Run("EndAfterASuccessOnceTheContextHasEnded", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		for range (retry.Policy{}).Attempts(ctx) {
			n++
			cancel()
		}
		require.Equal(t, 1, n)
	})
	t.Run("FollowAWake", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			wake := make(chan struct{}, 1)
			wake <- struct{}{}
			p := retry.Every(time.Hour)
			p.Wake = wake
			require.Equal(t, []time.Duration{0, 0, time.Hour}, run(t, p, 3, always))
		})
	})
}

// TestWaited has a caller that does something else during each second wait.
func TestWaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var began []time.Duration
		start := time.Now()
		for attempt := range retry.Every(time.Hour).Attempts(t.Context()) {
			began = append(began, time.Since(start))
			wait, _ := attempt.Failed()
			switch len(began) {
			case 2, 4:
				time.Sleep(wait / 2)
				attempt.Waited()
			case 5:
				require.Equal(t, []time.Duration{0, 60 * time.Minute, 90 * time.Minute, 150 * time.Minute, 180 * time.Minute}, began)
				return
			}
		}
	})
	t.Run("EndsWithTheContext", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		for attempt := range retry.Every(time.Hour).Attempts(ctx) {
			n++
			attempt.Failed()
			attempt.Waited()
			cancel()
		}
		require.Equal(t, 1, n)
	})
}

func TestFailuresInARow(t *testing.T) {
	t.Parallel()
	t.Run("StartOverAfterASteadyAttempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			for attempt := range (retry.Policy{First: time.Second, Max: time.Hour, Steady: time.Minute}).Attempts(t.Context()) {
				n++
				if n == 20 {
					time.Sleep(2 * time.Minute)
				}
				if wait, _ := attempt.Failed(); n == 20 {
					require.LessOrEqual(t, wait, 3*time.Second/2)
					break
				} else if n == 19 {
					require.Greater(t, wait, time.Minute)
				}
			}
		})
	})
	t.Run("StartOverAfterAReset", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			for attempt := range (retry.Policy{First: time.Second, Max: time.Hour}).Attempts(t.Context()) {
				n++
				attempt.Reset()
				wait, _ := attempt.Failed()
				require.LessOrEqual(t, wait, 3*time.Second/2)
				again, _ := attempt.Failed()
				require.Equal(t, wait, again, "one attempt fails once")
				if n == 20 {
					break
				}
			}
		})
	})
}
