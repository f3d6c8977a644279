// Package atresttest makes keysets for tests.
package atresttest

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/atrest"
)

// NewKeyset makes a keyset file with one key, and returns its path and what is
// loaded of it.
func NewKeyset(t testing.TB) (path string, keys *atrest.Keyset) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keyset.json")
	_, err := atrest.Add(path)
	require.NoError(t, err)
	return path, Load(t, path)
}

// Load loads a keyset file.
func Load(t testing.TB, path string) *atrest.Keyset {
	t.Helper()
	keys, err := atrest.Load(path)
	require.NoError(t, err)
	return keys
}
