package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/lockwait"
)

// chosen is a monitor that returns what the test chooses.
type chosen struct{ late *lockwait.LateError }

func (c *chosen) Check(context.Context, time.Time) *lockwait.LateError { return c.late }
func (c *chosen) Pause() time.Duration                                 { return time.Second }

// TestLateCheck has something that lasts, at moments that the test chooses.
func TestLateCheck(t *testing.T) {
	t.Parallel()
	monitor := &chosen{}
	c := newLateCheck(Options{AnswerTimeout: 10 * time.Second, MaxBackOff: 20 * time.Second / 3}, &health{}, monitor)
	start := time.Now()
	reason := func(after time.Duration) error {
		t.Helper()
		err, ended := c.reason(t.Context(), start.Add(after))
		require.Equal(t, monitor.late == nil, ended)
		return err
	}
	require.NoError(t, reason(0))
	monitor.late = &lockwait.LateError{What: "the handling of it"}
	require.ErrorContains(t, reason(11*time.Second), "the handling of it has not ended since ")
	monitor.late = nil
	require.Error(t, reason(12*time.Second), "it could be tried again")
	require.NoError(t, reason(14*time.Second))

	monitor.late = &lockwait.LateError{What: "the creation", Holders: lockwait.Holders{{PID: 4711}}}
	require.ErrorContains(t, reason(14*time.Second), "4711")
	monitor.late = nil

	// What was broken off is tried again.
	c.health.setVerified(true, errors.New("timeout"))
	require.ErrorContains(t, reason(20*time.Second), "4711")
	require.NoError(t, reason(40*time.Second), "and not named for ever")
	monitor.late = &lockwait.LateError{What: "the creation"}
	require.Error(t, reason(time.Minute))
	monitor.late = nil
	c.health.setVerified(true, nil)
	require.NoError(t, reason(time.Minute+3*time.Second), "it has succeeded")
}
