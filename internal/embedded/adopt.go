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

// adopt looks for a server that is running in the data dir already and, if
// there is one, waits until it answers. It reports false when a server has to
// be started.
func (s *Server) adopt(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout,
		fmt.Errorf("it did not answer within %v", answerTimeout))
	defer cancel()

	file := filepath.Join(s.pgdata, "postmaster.pid")
	announced := false
	for {
		p, err := readPostmaster(s.pgdata)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errMalformed):
			// PostgreSQL has its own word on a file that it cannot read.
			return false, nil
		case err != nil:
			return false, fmt.Errorf("looking for a server that is still running: %w", err)
		}
		state, name := inspect(p.pid, s.pgdata)
		switch state {
		case processDead:
			if !announced {
				s.log.Warn("private PostgreSQL did not end properly; it will recover",
					"data_dir", s.dir, "stale_pid", p.pid)
			}
			s.removeSockets(p.socketDir)
			return false, nil
		case processForeign:
			return false, fmt.Errorf("%s names process %d, which is alive but is not the PostgreSQL server of this folder (%s): "+
				"ensure that no server is using the folder, then remove that file and start again", file, p.pid, name)
		}
		if !announced {
			announced = true
			s.log.Warn("private PostgreSQL is still running, left behind by another worker; adopting it",
				"data_dir", s.dir, "pid", p.pid)
		}

		err = errStarting
		if p.socketDir != "" {
			err = p.check(ctx, s.pgdata)
		}
		if err == nil {
			s.socketDir, s.port = p.socketDir, p.port
			return true, nil
		}
		if state == processUnknown {
			// The owner of the process is unknown. PostgreSQL refuses to start if the
			// folder is in use.
			return false, nil
		}
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); errors.Is(err, errOtherServer) || ok && pgErr.Code != cannotConnectNow {
			return false, fmt.Errorf("adopting the server that is still running (pid %d): %w: stop it with: kill -INT %d", p.pid, err, p.pid)
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("adopting the server that is still running (pid %d): %w (last answer: %v): see %s, or stop it with: kill -INT %d",
				p.pid, context.Cause(ctx), err, s.logName(), p.pid)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
