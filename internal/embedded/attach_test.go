package embedded

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAttachFindsTheServerOnlyWhileItRuns(t *testing.T) {
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

func TestRootHasADataDirOfTheSystem(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data/home")
	dir, err := DefaultDataDir()
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		require.Equal(t, "/var/lib/provwatch", dir)
	} else {
		require.Equal(t, "/data/home/provwatch", dir)
	}
}
