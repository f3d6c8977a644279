package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"provwatch/internal/retry"
)

const (
	// Starts that fail for a passing reason (see passing) are tried this often.
	launchAttempts = 15
	launchPause    = 300 * time.Millisecond
)

// launch starts the server and waits until it accepts connections.
func (c *cluster) launch(ctx context.Context, settings map[string]string) (_ postmaster, err error) {
	socketDir, err := c.makeSocketDir()
	if err != nil {
		return postmaster{}, err
	}
	defer func() {
		if err != nil {
			removeTempSocketDir(socketDir)
		}
	}()
	if err := c.makeLog(); err != nil {
		return postmaster{}, fmt.Errorf("making the server's log: %w: check the permissions of the folder and the free space", err)
	}
	if err := c.startRetried(ctx, launchSettings(socketDir, settings), settings["port"] == ""); err != nil {
		return postmaster{}, err
	}

	p, err := readPostmaster(c.pgdata)
	if err == nil && p.socketDir == "" {
		err = errors.New("it has no unix socket: leave unix_socket_directories alone")
	}
	if err != nil {
		c.abandon()
		return postmaster{}, fmt.Errorf("finding out where the server listens: %w", err)
	}
	return p, nil
}

// makeLog makes the server's log, which the server appends to, unless it exists.
func (c *cluster) makeLog() error {
	f, err := os.OpenFile(c.logName(), os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), c.account.own(c.logName()))
}

// launchSettings returns the settings of the server, of which those given win.
func launchSettings(socketDir string, given map[string]string) map[string]string {
	all := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": `"` + strings.ReplaceAll(socketDir, `"`, `""`) + `"`,
		"unix_socket_permissions": "0700",
		"wal_level":               "logical",
		"max_wal_senders":         "10",
		"max_replication_slots":   "10",
		"shared_buffers":          "32MB",
		// The log must not quote rows, which hold keys: terse leaves out the
		// details of an error, among them the failing row.
		"log_error_verbosity": "terse",
		"log_checkpoints":     "off",
	}
	maps.Copy(all, given)
	return all
}

// startRetried starts the server, and retries where the reason of a failure is passing.
// With freshPort, each attempt has another port.
func (c *cluster) startRetried(ctx context.Context, settings map[string]string, freshPort bool) error {
	policy := retry.Every(launchPause)
	policy.Tries = launchAttempts
	for attempt := range policy.Attempts(ctx) {
		if freshPort {
			port, err := freePort()
			if err != nil {
				return fmt.Errorf("finding a free port on 127.0.0.1: %w", err)
			}
			settings["port"] = strconv.Itoa(port)
		}
		logged := fileSize(c.logName())
		out, err := output(ctx, c.startCommand(ctx, settings))
		if err == nil {
			return nil
		}
		c.abandon()
		if ctx.Err() != nil {
			return fmt.Errorf("pg_ctl start: %w: the server was stopped again", context.Cause(ctx))
		}
		logText := readFrom(c.logName(), logged)
		if _, again := attempt.Failed(); again && passing(logText) {
			continue
		}
		if logText == "" {
			logText = out // the server did not get as far as its log
		}
		return fmt.Errorf("pg_ctl start: %w; the last lines of %s:%s\ncorrect what they name and start again", err, c.logName(), quoteLines(logText))
	}
	return context.Cause(ctx)
}

// passing reports whether the reason that a server logged before it gave up
// passes in a moment: a port taken since it was found free; processes of
// a server that was killed which have not noticed yet; or its own process,
// dead but not yet waited for, which PostgreSQL takes to be alive.
func passing(logText string) bool {
	return strings.Contains(logText, "Address already in use") ||
		strings.Contains(logText, "pre-existing shared memory block") ||
		strings.Contains(logText, `lock file "postmaster.pid" already exists`)
}

// abandon stops a server whose start did not come to a good end.
func (c *cluster) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	if out, err := c.stopIfRunning(ctx); err != nil {
		c.log.Error("private PostgreSQL could not be stopped after a failed start", "data_dir", c.dir, "err", err, "output", out)
	}
}

// stopIfRunning stops the server, if there is one, and waits for its end. It
// returns what pg_ctl printed.
func (c *cluster) stopIfRunning(ctx context.Context) (string, error) {
	p, ok := running(c.pgdata)
	if !ok {
		return "", nil
	}
	out, err := output(ctx, c.stopCommand(ctx))
	if err != nil {
		// pg_ctl finds fault with a server that ends by itself meanwhile.
		if _, ok := running(c.pgdata); !ok {
			err = nil
		}
	}
	if err != nil {
		return out, err
	}
	// pg_ctl waits for the end of postmaster.pid, which the process outlives a little.
	for {
		if state, _ := inspect(p.pid, c.pgdata); state != processOurs {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, fmt.Errorf("process %d has not ended yet: %w", p.pid, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// freePort asks the kernel for a port that no process listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// fileSize returns 0 if the file cannot be looked at.
func fileSize(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

// readFrom returns what a file holds from offset on, as much as can be read.
func readFrom(name string, offset int64) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	const limit = 1 << 20
	text, _ := io.ReadAll(io.NewSectionReader(f, offset, limit))
	return string(text)
}
