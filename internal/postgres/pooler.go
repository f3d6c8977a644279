package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/semaphore"
)

// The worker needs sessions: for LISTEN, for the leader's lock, for its settings and for
// prepared statements. A pooler that pools transactions or statements gives each of them
// the session of the server that is free. Where there is a pooler, each session marks
// itself by a setting of its own and asks later whether the mark is still there.

const (
	// maxPID is the highest process id of a server on Linux, which other systems stay
	// below. A pooler has its own key in the place of the process id, of 32 bits.
	maxPID = 1 << 22
	// otherTimeout is how long the session may take that is opened to compare with.
	otherTimeout = 5 * time.Second
	// comparisons is how often a new session is compared with another one: each time a
	// session of somebody else can come in between, so that both seem to be kept.
	comparisons = 20
	// markKey is where the data of a connection through a pooler has its mark.
	markKey = "provwatch.session"

	setMark = `SELECT pg_catalog.set_config('provwatch.session', '%s', false)`
	getMark = `SELECT pg_catalog.current_setting('provwatch.session', true)`
	getPID  = `SELECT pg_catalog.pg_backend_pid(), ` + describeServer

	// ours selects a session of the server that was set up as one of the worker's.
	ours = `pg_catalog.current_setting('provwatch.search_path', true) OPERATOR(pg_catalog.<>) ''`
	// restore takes back what the worker has set and holds in a session that a pooler
	// has given to others, or gives to the worker after others. Where it is none of the
	// worker's it changes nothing.
	restore = `SELECT pg_catalog.set_config(name, reset_val, false) FROM pg_catalog.pg_settings WHERE ` + ours + ` AND name OPERATOR(pg_catalog.=) ANY ` +
		`('{default_transaction_isolation,row_security,idle_in_transaction_session_timeout,statement_timeout,lock_timeout,idle_session_timeout,` +
		`transaction_timeout,synchronous_commit,tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,tcp_user_timeout,client_connection_check_interval}'::pg_catalog.text[]); ` +
		`SELECT pg_catalog.pg_advisory_unlock_all(), pg_catalog.set_config('search_path', pg_catalog.current_setting('provwatch.search_path'), false), ` +
		`pg_catalog.set_config('provwatch.search_path', '', false) WHERE ` + ours + `; UNLISTEN *; `
)

// keepSession is the remedy of a [*PoolingError].
const keepSession = "connect to the server itself, or have the pooler pool sessions for this database and role (pool_mode=session of PgBouncer)"

// sessions is what the sessions of one configuration have in common.
type sessions struct {
	tables   location
	servers  servers
	activity *Activity
	// config is that of a session without settings.
	config *pgconn.Config
	// pooled is set where the server's process id is not that of the connection, and kept
	// once a session was found to be kept, until one was not.
	pooled, kept atomic.Bool
	// turn is held by the session that compares: two that do so at once would keep a
	// server's session busy for each other, and each seem to be kept.
	turn *semaphore.Weighted
}

func newSessions() *sessions {
	return &sessions{activity: newActivity(), turn: semaphore.NewWeighted(1)}
}

// mark is that of one session.
type mark struct {
	of   *sessions
	text string
}

// setUp is how a session begins: with its search path, its settings, and what the
// configuration's sessions know of the provider tables. Behind a pooler it fails with a
// [*PoolingError] before it sets anything that another program could come to have.
func (s *sessions) setUp(ctx context.Context, conn *pgconn.PgConn) error {
	conn.CustomData()[locationKey] = &s.tables
	pooled, begin := s.pooled.Load() || conn.PID() > maxPID, ""
	if pooled {
		if err := s.checkNew(ctx, conn); err != nil {
			return err
		}
		begin = restore
	}
	results, err := conn.Exec(ctx, begin+fixSearchPath+sessionSettings+"; "+getPID).ReadAll()
	if err != nil {
		return err
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 || len(last.Rows[0]) != 4 {
		return errors.New("the server has not described the session that has begun")
	}
	own := last.Rows[0]
	conn.CustomData()[serverKey] = placement{newServer(string(own[1]), string(own[2]), string(own[3])), &s.servers}
	if pooled || string(own[0]) == strconv.FormatUint(uint64(conn.PID()), 10) {
		return nil
	}
	s.pooled.Store(true)
	return s.checkNew(ctx, conn)
}

// checkNew marks a new session, and compares it unless sessions are known to be kept.
func (s *sessions) checkNew(ctx context.Context, conn *pgconn.PgConn) error {
	if err := s.turn.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("compare the session with another: %w", err)
	}
	defer s.turn.Release(1)
	own := mark{s, uuid.NewString()}
	if err := own.set(ctx, conn); err != nil {
		return err
	}
	conn.CustomData()[markKey] = own
	if s.kept.Load() {
		return nil
	}
	if err := own.compare(ctx, conn, comparisons); err != nil {
		return err
	}
	s.kept.Store(true)
	return nil
}

// compare has another session mark itself: the mark of this one is then another where
// both are one. Without another session to compare with nothing is known against it.
func (m mark) compare(ctx context.Context, conn *pgconn.PgConn, times int) error {
	limit := otherTimeout
	if deadline, limited := ctx.Deadline(); limited {
		limit = min(limit, time.Until(deadline)/2) // the rest is for this one
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	other, err := pgconn.ConnectConfig(limited, m.of.config.Copy())
	if err == nil {
		defer func() { _ = other.Close(limited) }()
	}
	for range times {
		if err == nil {
			err = mark{m.of, uuid.NewString()}.set(limited, other)
		}
		// A pooler that takes its sessions in turns would give the first one again.
		for range 2 {
			if err := m.check(ctx, conn); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
	return nil
}

func (m mark) set(ctx context.Context, conn *pgconn.PgConn) error {
	return conn.Exec(ctx, fmt.Sprintf(setMark, m.text)).Close()
}

func (m mark) check(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, getMark).ReadAll()
	if err != nil {
		return err
	}
	if len(results) == 1 && len(results[0].Rows) == 1 && string(results[0].Rows[0][0]) == m.text {
		return nil
	}
	m.of.kept.Store(false)
	// It is most likely the session that was this one's until now.
	_ = conn.Exec(ctx, restore).Close()
	return &PoolingError{}
}

// CheckSession fails with a [*PoolingError] where a pooler has given the session of the
// connection to others. It asks nothing of a server that is connected to directly.
func CheckSession(ctx context.Context, conn *pgconn.PgConn) error {
	own, pooled := conn.CustomData()[markKey].(mark)
	if !pooled {
		return nil
	}
	return own.compare(ctx, conn, 1) // it is asked again and again
}

// prepareConn gives out no connection of the pool whose session is another's by now.
// The next one is checked as it is set up.
func prepareConn(ctx context.Context, conn *pgx.Conn) (usable bool, err error) {
	own, pooled := conn.PgConn().CustomData()[markKey].(mark)
	if !pooled {
		return true, nil
	}
	switch err := own.check(ctx, conn.PgConn()); {
	case err == nil:
		return true, nil
	case IsPooling(err):
		return false, err
	default:
		return false, nil // it is lost
	}
}

// lost reports whether the server's error shows that the session is another's. The
// connection is then to be closed, and the next one to be checked.
func (s *sessions) lost(failed *pgconn.PgError) bool {
	if !IsPooling(failed) {
		return false
	}
	s.kept.Store(false)
	return true
}
