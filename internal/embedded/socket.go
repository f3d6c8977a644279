package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// tempSocketPrefix begins the name of a socket folder outside of the data dir.
const tempSocketPrefix = "provwatch-run-"

// makeSocketDir makes the folder of the unix socket and returns its path.
func (c *cluster) makeSocketDir() (dir string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("making the folder of the unix socket: %w: choose another --data-dir, or set TMPDIR to a folder that the server's user can reach", err)
		}
	}()
	dir = filepath.Join(c.dir, "run")
	// The addresses of sockets are short, and clients take a comma to
	// separate hosts.
	if !fitsSocket(dir) || strings.Contains(dir, ",") {
		if dir, err = os.MkdirTemp("", tempSocketPrefix); err != nil {
			return "", err
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return "", err
		}
		if !fitsSocket(dir) {
			os.Remove(dir)
			return "", fmt.Errorf("%s is too long a path for a socket", dir)
		}
	} else if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return dir, c.account.own(dir)
}

func fitsSocket(dir string) bool {
	var addr syscall.RawSockaddrUnix
	return len(filepath.Join(dir, ".c.PGSQL.65535")) < len(addr.Path) // one byte for the NUL
}

// removeSockets removes what a server that was killed left in its socket
// folder.
func (c *cluster) removeSockets(dir string) {
	if dir == filepath.Join(c.dir, "run") {
		os.RemoveAll(dir)
	}
	removeTempSocketDir(dir)
}

// removeTempSocketDir removes dir if makeSocketDir created it outside
// of the data dir.
func removeTempSocketDir(dir string) {
	temp, err := filepath.Abs(os.TempDir())
	if err == nil && filepath.Dir(dir) == temp && strings.HasPrefix(filepath.Base(dir), tempSocketPrefix) {
		os.RemoveAll(dir)
	}
}

func connString(socketDir string, port int, database string) string {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	return fmt.Sprintf("host='%s' port=%d user=%s dbname=%s sslmode=disable", quote.Replace(socketDir), port, superuser, database)
}
