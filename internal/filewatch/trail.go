package filewatch

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symbolic links lead to a file at most, as in the kernel.
const maxLinks = 40

// trail is the way to some files: the symbolic links that lead to them, and the files
// themselves. None of its paths has a symbolic link among its directories.
type trail struct {
	// dirs are the directories to watch. Each of them has one of the names.
	dirs map[string]bool
	// names are the paths at which a change leads to another file or content. Each is a link,
	// a file, or the first that is absent.
	names map[string]bool
}

// trailOf follows the paths to their ends.
func trailOf(paths []string) trail {
	t := trail{dirs: map[string]bool{}, names: map[string]bool{}}
	for _, path := range paths {
		t.follow(path)
	}
	return t
}

// follow adds the way to one file. It resolves the path as the kernel does.
func (t trail) follow(path string) {
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return
		}
		path = dir + string(filepath.Separator) + path // not cleaned: "link/.." is not "."
	}
	dir, rest, links := string(filepath.Separator), elements(path), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			dir = filepath.Dir(dir)
			continue
		}
		here := filepath.Join(dir, name)
		info, err := os.Lstat(here)
		switch {
		case err == nil && info.Mode()&fs.ModeSymlink != 0:
			t.add(dir, here)
			target, err := os.Readlink(here)
			if links++; err != nil || links > maxLinks {
				return
			}
			if filepath.IsAbs(target) {
				dir = string(filepath.Separator)
			}
			rest = append(elements(target), rest...)
		case err != nil || len(rest) == 0:
			t.add(dir, here)
			return
		default:
			dir = here
		}
	}
}

func (t trail) add(dir, name string) { t.dirs[dir], t.names[name] = true, true }

// concerns reports whether a change at the path, or of the directory there, is one of the
// trail.
func (t trail) concerns(path string) bool { return t.names[path] || t.dirs[path] }

func (t trail) equal(other trail) bool {
	return maps.Equal(t.dirs, other.dirs) && maps.Equal(t.names, other.names)
}

// elements returns the names of a path, without "." and empty names.
func elements(path string) (names []string) {
	for _, name := range strings.Split(path, string(filepath.Separator)) {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}
