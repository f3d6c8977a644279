package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNotRunning is returned, wrapped, by [Attach] when no private server is
// running in the data dir.
var ErrNotRunning = errors.New("no private PostgreSQL server is running")

// Exists reports whether dataDir holds the data of a private server, running or not.
func Exists(dataDir string) bool {
	major, err := dataVersion(filepath.Join(dataDir, "pgdata"))
	return err == nil && major != 0
}

// Attach returns the connection string of the private server that a worker is
// running in dataDir, without taking any part in its life. The error wraps
// [ErrNotRunning] when there is none.
func Attach(dataDir string) (connString string, err error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", fmt.Errorf("looking for the private PostgreSQL: finding the folder %q: %w", dataDir, err)
	}
	pgdata := filepath.Join(dir, "pgdata")
	notRunning := fmt.Errorf("%w in %s: start it with: worker run --data-dir %s, or set DATABASE_URL", ErrNotRunning, dir, dir)
	p, err := readPostmaster(pgdata)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("looking for the private PostgreSQL in %s: %w: run this command as the user that runs the worker, or set DATABASE_URL", dir, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errMalformed):
		return "", notRunning
	case err != nil:
		return "", fmt.Errorf("looking for the private PostgreSQL in %s: %w", dir, err)
	case p.socketDir == "":
		return "", notRunning // a server that has only just begun to start
	}
	if state, _ := inspect(p.pid, pgdata); state == processDead || state == processForeign {
		return "", notRunning
	}
	return p.connString(superuser), nil
}

// DefaultDataDir returns the data dir to use when none is given:
// /var/lib/provwatch for root, otherwise $XDG_DATA_HOME/provwatch or
// ~/.local/share/provwatch. The error is that the home folder is unknown.
func DefaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/provwatch", nil
	}
	// The specification has relative paths in the variable ignored.
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "provwatch"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the default data dir: %w: set --data-dir or HOME", err)
	}
	return filepath.Join(home, ".local", "share", "provwatch"), nil
}
