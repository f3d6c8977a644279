package regularfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShown(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.WriteFile("sk-exists", nil, 0o600))
	for path, shown := range map[string]bool{
		"sk-exists":                               true,
		filepath.Join(dir, "sk-exists"):           true,
		filepath.Join(dir, "none.env"):            true,
		filepath.Join(dir, "none"):                true,
		"./none":                                  true,
		"providers.env":                           true,
		"sk-proj-0123456789":                      false,
		"/qm83Vb1sk0123456789":                    false,
		"qm83/Vb1sk+0123456789=":                  false,
		"postgres://user:password@host/database":  false,
		filepath.Join(dir, "postgres:/u:pw@h/d"):  false,
		filepath.Join(dir, "password=pw"):         false,
		filepath.Join(dir, "folder", "none"):      false,
		"/does/not/exist.yaml":                    true,
		"eyJhbGciOi.eyJzdWIi.SflKxwRJSM":          false,
		"sk-" + strings.Repeat("0123456789", 500): false,
	} {
		want := path
		if !shown {
			want = hidden
		}
		require.Equal(t, want, Shown(path), path)
	}
}

// TestErrorPaths checks that errors show no secret that was given as a path.
func TestErrorPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := Read("sk-proj-0123456789", Limit)
	require.EqualError(t, err, "open (path not shown): no such file or directory")
	_, err = Read("sk-"+strings.Repeat("0123456789", 500), Limit)
	require.EqualError(t, err, "open (path not shown): file name too long")
	_, err = Read("sk-\x00", Limit)
	require.EqualError(t, err, "open (path not shown): invalid argument")
}
