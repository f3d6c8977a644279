package filewatch

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTrail follows paths below a folder, which the cases leave out. A case makes "a -> b"
// as a link, "a/" as a folder, and "a" as a file.
func TestTrail(t *testing.T) {
	for name, c := range map[string]struct {
		made        []string
		path        string
		dirs, names []string
	}{
		"File":               {made: []string{"d/", "d/env"}, path: "d/env", dirs: []string{"d"}, names: []string{"d/env"}},
		"AbsentFile":         {made: []string{"d/"}, path: "d/env", dirs: []string{"d"}, names: []string{"d/env"}},
		"AbsentDirectories":  {made: []string{"d/"}, path: "d/e/f/env", dirs: []string{"d"}, names: []string{"d/e"}},
		"FileAsADirectory":   {made: []string{"d"}, path: "d/env", dirs: []string{"d"}, names: []string{"d/env"}},
		"Directory":          {made: []string{"d/"}, path: "d/", dirs: []string{""}, names: []string{"d"}},
		"Dots":               {made: []string{"d/", "d/env", "e/"}, path: "./e/../d//./env", dirs: []string{"d"}, names: []string{"d/env"}},
		"KubernetesVolume":   {made: []string{"d/", "d/..1/", "d/..1/env", "d/..data -> ..1", "d/env -> ..data/env"}, path: "d/env", dirs: []string{"d", "d/..1"}, names: []string{"d/env", "d/..data", "d/..1/env"}},
		"VolumeIsIncomplete": {made: []string{"d/", "d/env -> ..data/env"}, path: "d/env", dirs: []string{"d"}, names: []string{"d/env", "d/..data"}},
		"LinkOfADirectory":   {made: []string{"v1/", "v1/env", "current -> v1"}, path: "current/env", dirs: []string{"", "v1"}, names: []string{"current", "v1/env"}},
		"AbsoluteLink":       {made: []string{"d/", "d/env", "env -> /d/env"}, path: "env", dirs: []string{"", "d"}, names: []string{"env", "d/env"}},
		"LinkUpwards":        {made: []string{"d/", "d/e/", "env", "d/link -> e", "d/e/up -> ../../env"}, path: "d/link/up", dirs: []string{"d", "d/e", ""}, names: []string{"d/link", "d/e/up", "env"}},
		"UpFromALink":        {made: []string{"d/", "d/e/", "d/env", "link -> d/e"}, path: "link/../env", dirs: []string{"", "d"}, names: []string{"link", "d/env"}},
		"DanglingLink":       {made: []string{"env -> d/env"}, path: "env", dirs: []string{""}, names: []string{"env", "d"}},
		"LinkInACircle":      {made: []string{"a -> b", "b -> a"}, path: "a", dirs: []string{""}, names: []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			for _, entry := range c.made {
				makeEntry(t, root, entry)
			}
			below := func(paths map[string]bool) (names []string) {
				for _, path := range slices.Sorted(maps.Keys(paths)) {
					names = append(names, strings.TrimPrefix(strings.TrimPrefix(path, root), "/"))
				}
				return names
			}
			got := trailOf([]string{root + "/" + c.path})
			require.ElementsMatch(t, c.dirs, below(got.dirs), "directories")
			require.ElementsMatch(t, c.names, below(got.names), "names")
		})
	}
}

func makeEntry(t *testing.T, root, entry string) {
	t.Helper()
	name, target, isLink := strings.Cut(entry, " -> ")
	path := filepath.Join(root, name)
	switch {
	case isLink && filepath.IsAbs(target):
		require.NoError(t, os.Symlink(filepath.Join(root, target), path))
	case isLink:
		require.NoError(t, os.Symlink(target, path))
	case strings.HasSuffix(entry, "/"):
		require.NoError(t, os.Mkdir(path, 0o700))
	default:
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
}

func TestTrailOfRelativePath(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	t.Chdir(root)
	require.Equal(t, trailOf([]string{filepath.Join(root, "env")}), trailOf([]string{"env"}))
}
