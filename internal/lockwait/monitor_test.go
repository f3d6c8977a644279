package lockwait

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/postgres"
)

// chosen is a lookup that finds what the test chooses.
type chosen struct {
	holders Holders
	err     error
	lookups int
}

func (c *chosen) holdersOf(context.Context, uint32) (Holders, error) {
	c.lookups++
	return c.holders, c.err
}

// TestMonitor has something that lasts, at moments that the test chooses.
func TestMonitor(t *testing.T) {
	t.Parallel()
	config, err := postgres.ParseURL("postgres://app@db.invalid/app")
	require.NoError(t, err)
	activity := postgres.ActivityOf(config.ConnConfig)
	lookup := &chosen{}
	m := NewMonitor(config, 5*time.Second)
	m.holders = lookup
	check := func(after time.Duration) *LateError { return m.Check(t.Context(), time.Now().Add(after)) }
	_, end := activity.Handle(t.Context(), "the handling of it")
	require.Nil(t, check(0))
	require.Nil(t, check(9*time.Second))
	require.ErrorContains(t, check(11*time.Second), "the handling of it has not ended since ")
	end()
	require.Nil(t, check(12*time.Second))
	require.Zero(t, lookup.lookups, "it is no session's")

	lookup.holders = Holders{{PID: 4711, Role: "app", Application: "psql"}}
	end = activity.Begin("the creation", 7)
	require.Nil(t, check(4*time.Second))
	require.ErrorContains(t, check(6*time.Second), "the creation has waited since ")
	require.ErrorContains(t, check(7*time.Second), `for session 4711 (role "app", application "psql"); SELECT pg_terminate_backend(4711) ends it`)
	require.Equal(t, 1, lookup.lookups)
	require.NotNil(t, check(12*time.Second))
	require.Equal(t, 2, lookup.lookups, "it is looked for again after a while")
	end()

	// It waits in several tries, and the first lookup falls between two.
	found := lookup.holders
	lookup.holders = nil
	end = activity.BeginRetried("the migration", 7)
	require.Nil(t, check(6*time.Second))
	lookup.holders = found
	require.ErrorContains(t, check(7*time.Second), "the migration has waited since ", "it is looked for again at once")
	lookup.holders = nil
	require.ErrorContains(t, check(15*time.Second), "4711", "and not forgotten by a lookup between two others")
	end()
	require.Nil(t, check(18*time.Second))

	// The holder cannot be looked for.
	lookup.err = errors.New("no connection")
	end = activity.Begin("the creation", 7)
	require.ErrorContains(t, check(2*time.Minute), "the creation has not ended since ")
	end()
}
