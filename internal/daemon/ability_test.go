package daemon

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/lockwait"
)

func TestAbility(t *testing.T) {
	t.Parallel()
	start := time.Now()
	unable := errors.New("no")
	type look struct {
		at  int // seconds
		err error
	}
	for name, c := range map[string]struct {
		looks        []look
		resign, well bool
	}{
		"able":                         {[]look{{0, nil}, {60, nil}}, false, true},
		"unable for a while":           {[]look{{0, unable}, {29, unable}}, false, false},
		"unable for long":              {[]look{{0, unable}, {29, unable}, {30, unable}}, true, false},
		"unable again and again":       {[]look{{0, unable}, {10, nil}, {11, unable}, {20, nil}, {35, unable}}, true, false},
		"able for long in between":     {[]look{{0, unable}, {10, nil}, {40, nil}, {45, unable}, {60, unable}}, false, false},
		"able for long after it":       {[]look{{0, unable}, {10, nil}, {40, nil}}, false, true},
		"able for a while after it":    {[]look{{0, unable}, {31, unable}, {40, nil}, {50, nil}}, false, false},
		"nothing was looked at so far": {nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := ability{limit: 30 * time.Second}
			resign := false
			for _, l := range c.looks {
				resign = a.see(l.err, start.Add(time.Duration(l.at)*time.Second))
			}
			require.Equal(t, c.resign, resign)
			require.Equal(t, c.well, a.isWell())
		})
	}
}

func TestUnable(t *testing.T) {
	t.Parallel()
	denied := fmt.Errorf("record drift: %w", &pgconn.PgError{Code: "42501"})
	full := fmt.Errorf("record drift: %w", &pgconn.PgError{Code: "53100"})
	held := &lockwait.LateError{What: "a statement", Holders: lockwait.Holders{{PID: 7}}}
	late := &lockwait.LateError{What: "the replication stream"}
	for name, c := range map[string]struct {
		change func(h *health)
		want   error
	}{
		"ready":                    {func(*health) {}, nil},
		"it cannot record":         {func(h *health) { h.setVerified(true, denied) }, denied},
		"it lacks privileges":      {func(h *health) { h.setPrivileges(denied) }, denied},
		"its stream is frozen":     {func(h *health) { h.setWaiting(late, false) }, late},
		"its stream has gone on":   {func(h *health) { h.setWaiting(late, true) }, nil},
		"another session holds it": {func(h *health) { h.setVerified(true, denied); h.setWaiting(held, false) }, nil},
		"no worker can record":     {func(h *health) { h.setVerified(true, full) }, nil},
		"it cannot encrypt":        {func(h *health) { h.setEncryption(denied) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h health
			h.setListening(nil)
			h.setVerified(true, nil)
			c.change(&h)
			require.Equal(t, c.want, h.unable())
		})
	}
}

func TestYields(t *testing.T) {
	t.Parallel()
	yield := newYield(30 * time.Second)
	first := yield.Next()
	require.InDelta(t, 2*time.Minute, first, float64(time.Minute))
	for range 20 {
		require.Less(t, yield.Next(), time.Hour)
	}
	require.Greater(t, yield.Next(), 10*time.Minute)
}
