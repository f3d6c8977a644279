//go:build e2e

package embedded

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAttach(t *testing.T) {
	t.Parallel()
	dir := initialised(t)
	_, err := Attach(dir)
	require.ErrorIs(t, err, ErrNotRunning)
	require.ErrorContains(t, err, "worker run --data-dir "+dir)
	s := start(t, testOptions(dir))
	attached, err := Attach(dir)
	require.NoError(t, err)
	require.Equal(t, s.ConnString(), attached)
	require.NoError(t, s.Stop(t.Context()))
	_, err = Attach(dir)
	require.ErrorIs(t, err, ErrNotRunning)
}
