package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"provwatch/internal/regularfile"
)

// ErrNoBinaries is returned, wrapped, when no installation of PostgreSQL is
// found.
var ErrNoBinaries = errors.New("no installation of PostgreSQL is found")

// FindBinDir returns the folder that holds initdb, pg_ctl and postgres of the
// given major version of PostgreSQL, or of the highest one installed if major
// is 0. It looks at the PATH, asks pg_config, and knows the usual places of
// Debian, Red Hat, Homebrew and of builds from source. The error wraps
// [ErrNoBinaries] when there is none at all; it names what there is when none
// has that version.
func FindBinDir(ctx context.Context, major int) (string, error) {
	found, err := installations(ctx)
	if err != nil {
		return "", err
	}
	if dir := pick(found, major); dir != "" {
		return dir, nil
	}
	return "", fmt.Errorf("PostgreSQL %d is not installed (there is %s): install PostgreSQL %d, or set DATABASE_URL",
		major, describe(found), major)
}

// chooseBinDir returns the folder of the programs to run the server of pgdata
// with. dir is the configured folder or empty, major the version of the data
// or 0.
func chooseBinDir(ctx context.Context, dir, pgdata string, major int) (string, error) {
	var found []installation
	if dir == "" {
		var err error
		if found, err = installations(ctx); err != nil {
			return "", err
		}
	} else {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("finding the folder of PostgreSQL's programs: %w", err)
		}
		v, err := binVersion(ctx, dir)
		if err != nil {
			return "", fmt.Errorf("looking for PostgreSQL's programs in %s: %w: give the folder that holds initdb, pg_ctl and postgres", dir, err)
		}
		found = []installation{{dir, v}}
	}
	if dir := pick(found, major); dir != "" {
		return dir, nil
	}
	return "", fmt.Errorf("the data in %s are of PostgreSQL %d, but the programs found are of PostgreSQL %s: "+
		"install PostgreSQL %d; or, to begin with an empty database, move that folder away or choose another --data-dir (nothing was changed)",
		pgdata, major, describe(found), major)
}

// pick returns the folder of the first installation of a major version, or of
// any if major is 0, and "" if there is none.
func pick(found []installation, major int) string {
	for _, inst := range found {
		if major == 0 || inst.major == major {
			return inst.dir
		}
	}
	return ""
}

func describe(found []installation) string {
	var s []string
	for _, inst := range found {
		s = append(s, fmt.Sprintf("%d in %s", inst.major, inst.dir))
	}
	return strings.Join(s, ", ")
}

// installation is a folder with the programs of PostgreSQL.
type installation struct {
	dir   string
	major int
}

// installations returns the installations on this machine, the highest major
// version first, at least one.
func installations(ctx context.Context) ([]installation, error) {
	var dirs []string
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		// The link on the PATH may stand alone, without its companions.
		if target, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			panic(err) // the patterns are well-formed
		}
		dirs = append(dirs, matches...)
	}

	var found []installation
	seen := make(map[string]bool)
	for _, dir := range dirs {
		if seen[dir] || !filepath.IsAbs(dir) {
			continue
		}
		seen[dir] = true
		if major, err := binVersion(ctx, dir); err == nil {
			found = append(found, installation{dir, major})
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("looking for an installation of PostgreSQL: %w", context.Cause(ctx))
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: install PostgreSQL (Debian: apt-get install postgresql), or set DATABASE_URL", ErrNoBinaries)
	}
	slices.SortStableFunc(found, func(a, b installation) int { return b.major - a.major })
	return found, nil
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// binVersion returns the major version of the programs in dir.
func binVersion(ctx context.Context, dir string) (int, error) {
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil {
			return 0, err
		}
		if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			return 0, fmt.Errorf("%s is not a program", filepath.Join(dir, program))
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("asking %s for its version: %w", cmd.Path, err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("asking %s for its version: unexpected answer %q", cmd.Path, out)
	}
	return strconv.Atoi(string(m[1]))
}

// dataVersion returns the major version of a PostgreSQL data directory, or 0
// if the folder is absent or empty.
func dataVersion(pgdata string) (int, error) {
	text, err := regularfile.Read(filepath.Join(pgdata, "PG_VERSION"), regularfile.Limit)
	if err == nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(text)), ".")
		major, err := strconv.Atoi(first)
		if err != nil || major <= 0 {
			return 0, fmt.Errorf("%s holds no version but %q: choose another --data-dir, or restore the folder", filepath.Join(pgdata, "PG_VERSION"), text)
		}
		return major, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("reading the version of the data: %w: run the worker as the owner of the folder, or choose another --data-dir", err)
	}
	entries, err := os.ReadDir(pgdata)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0:
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("reading the version of the data: %w: choose another --data-dir", err)
	}
	return 0, fmt.Errorf("%s is not empty, and has no PG_VERSION to show that it is a PostgreSQL data directory: "+
		"move it away or choose another --data-dir (nothing was changed)", pgdata)
}
