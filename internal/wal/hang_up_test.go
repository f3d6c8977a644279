package wal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/schema"
)

// TestHangUp ends a stream whose walsender does nothing for a moment, and one whose walsender
// does nothing for longer than the end may take.
func TestHangUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		frozen time.Duration
		freed  bool // when hangUp has returned
	}{
		"for a moment": {50 * time.Millisecond, true},
		"for long":     {time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, s, pool := newTestOpener(t)
			_, _, err := schema.Migrate(t.Context(), pool.Config().ConnConfig, schema.Needs{Publication: true})
			require.NoError(t, err)
			start, err := o.replace(t.Context(), s, storedState{}, newMirror(hasher))
			require.NoError(t, err)
			require.NoError(t, s.start(t.Context(), start))
			walsender := int(s.conn.PID())
			thaw := time.AfterFunc(c.frozen, pgtest.FreezeWaiting(t, pool.Config().ConnString(), walsender))
			defer thaw.Stop()
			hangUp(s.conn)
			require.True(t, s.conn.IsClosed())
			found, err := s.find(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.freed, found.ActivePid == 0)
		})
	}
}
