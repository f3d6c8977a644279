//go:build bench

package bench

import (
	"context"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/embedded"
	"provwatch/internal/pgtest"
)

// cluster is the server that all benchmarks of a run share. pgtest's has fsync
// off, which is not to be switched on later.
type cluster struct {
	base       *pgx.ConnConfig
	version    string
	log        string // path of the server's log
	postmaster int
	undertaker *exec.Cmd
	bell       io.Closer
}

// undertakerScript stops the server and removes its folder when this process
// ends, whichever way.
const undertakerScript = `
cat >/dev/null
pid=$(head -n 1 "$1/data/pgdata/postmaster.pid" 2>/dev/null) &&
	while kill -QUIT "$pid" 2>/dev/null; do sleep 0.1; done
rm -rf "$1"`

// startCluster starts a server, with settings beside the usual ones or in their place.
func startCluster(others map[string]string) (_ *cluster, err error) {
	dir, err := os.MkdirTemp("", "provwatch-bench-pg-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	c := &cluster{undertaker: exec.Command("/bin/sh", "-c", undertakerScript, "sh", dir)}
	c.undertaker.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.bell, err = c.undertaker.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.undertaker.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	settings := map[string]string{
		"fsync": *fsync, "full_page_writes": *fsync,
		"wal_level": "logical", "max_connections": "200", "max_replication_slots": "40", "max_wal_senders": "40",
		// What runs at times of its own would hit one arm and not the other:
		// each slice begins with a VACUUM and a checkpoint instead.
		"autovacuum": "off", "checkpoint_timeout": "1h", "max_wal_size": "8GB",
		"log_line_prefix": "%q%d %a: ",
	}
	maps.Copy(settings, others)
	started, err := embedded.Start(ctx, embedded.Options{
		DataDir: filepath.Join(dir, "data"), BinDir: pgtest.BinDir(),
		Settings: settings,
	})
	if err != nil {
		return nil, err
	}
	if c.base, err = pgx.ParseConfig(started.ConnString()); err != nil {
		return nil, err
	}
	pid, err := os.ReadFile(filepath.Join(dir, "data", "pgdata", "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	c.log = filepath.Join(dir, "data", "postgres.log")
	line, _, _ := strings.Cut(string(pid), "\n")
	if c.postmaster, err = strconv.Atoi(line); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, c.base)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	return c, conn.QueryRow(ctx, "SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)").Scan(&c.version)
}

func (c *cluster) stop() {
	_ = c.bell.Close()
	_ = c.undertaker.Wait()
}
