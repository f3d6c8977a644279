package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// answerTimeout is how long a server that is alive may take to answer before it is given
// up as hung.
const answerTimeout = time.Minute

// adopt looks for a server that is running in the data dir already and, if
// there is one, waits until it answers. It reports false when a server has to
// be started.
func (c *cluster) adopt(ctx context.Context) (_ postmaster, found bool, _ error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout,
		fmt.Errorf("it did not answer within %v", answerTimeout))
	defer cancel()

	file := filepath.Join(c.pgdata, "postmaster.pid")
	announced := false
	for {
		p, err := readPostmaster(c.pgdata)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errMalformed):
			// PostgreSQL has its own word on a file that it cannot read.
			return postmaster{}, false, nil
		case err != nil:
			return postmaster{}, false, fmt.Errorf("looking for a server that is still running: %w", err)
		}
		state, name := inspect(p.pid, c.pgdata)
		switch state {
		case processDead:
			if !announced {
				c.log.Warn("private PostgreSQL did not end properly; it will recover",
					"data_dir", c.dir, "stale_pid", p.pid)
			}
			c.removeSockets(p.socketDir)
			return postmaster{}, false, nil
		case processForeign:
			return postmaster{}, false, fmt.Errorf("%s names process %d, which is alive but is not the PostgreSQL server of this folder (%s): "+
				"ensure that no server is using the folder, then remove that file and start again", file, p.pid, name)
		}
		if !announced {
			announced = true
			c.log.Warn("private PostgreSQL is still running, left behind by another worker; adopting it",
				"data_dir", c.dir, "pid", p.pid)
		}

		err = errStarting
		if p.socketDir != "" {
			err = p.check(ctx, c.pgdata)
		}
		if err == nil {
			return p, true, nil
		}
		if state == processUnknown {
			// The owner of the process is unknown. PostgreSQL refuses to start if the
			// folder is in use.
			return postmaster{}, false, nil
		}
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); errors.Is(err, errOtherServer) || ok && pgErr.Code != cannotConnectNow {
			return postmaster{}, false, fmt.Errorf("adopting the server that is still running (pid %d): %w: stop it with: kill -INT %d", p.pid, err, p.pid)
		}
		select {
		case <-ctx.Done():
			return postmaster{}, false, fmt.Errorf("adopting the server that is still running (pid %d): %w (last answer: %v): see %s, or stop it with: kill -INT %d",
				p.pid, context.Cause(ctx), err, c.logName(), p.pid)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
