package verify

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/provider"
)

// TestRoundLimit has a reload replace the environment of a verification whose limit has
// run for a while.
func TestRoundLimit(t *testing.T) {
	t.Parallel()
	v := &Verifier{}
	v.hasher.Store(&provider.Hasher{})
	var deadlines []time.Time
	err := v.current(t.Context(), time.Minute, func(ctx context.Context, _ *verification) error {
		deadline, ok := ctx.Deadline()
		require.True(t, ok)
		deadlines = append(deadlines, deadline)
		if len(deadlines) > 1 {
			return nil
		}
		for begun := time.Now(); !time.Now().After(begun); {
		}
		return errReplaced
	})
	require.NoError(t, err)
	require.Len(t, deadlines, 2)
	require.True(t, deadlines[1].After(deadlines[0]), "the second round ends by %s, the first by %s", deadlines[1], deadlines[0])
}
