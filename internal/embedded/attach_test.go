package embedded

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaultDataDir(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data/home")
	dir, err := DefaultDataDir()
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		require.Equal(t, "/var/lib/provwatch", dir)
	} else {
		require.Equal(t, "/data/home/provwatch", dir)
	}
}
