package leader_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Short, so that tests do not wait, and a leader that has its turns is not silent.
const (
	takeOverAfter = 3 * time.Second
	answer        = 2 * time.Minute
)

var quiet = slog.New(slog.DiscardHandler)

// member is a worker as far as the election goes: a session and its elector, driven by
// the test.
type member struct {
	t    *testing.T
	conn *pgx.Conn
	*leader.Elector

	mu       sync.Mutex
	noLeader []string // what it was told, each once
	epoch    uuid.UUID
	lastSeq  int64
	seen     leader.Seen // of the leader
}

// newPatientMember returns a member that takes no leader for silent, however busy the machine is.
// Its turns last for five seconds.
func newPatientMember(t *testing.T, pool *pgxpool.Pool) *member {
	t.Helper()
	m := newMember(t, pool)
	m.Elector = leader.NewElector(leader.NewLimits(time.Hour, time.Hour, answer), quiet, m)
	return m
}

func newMember(t *testing.T, pool *pgxpool.Pool) *member {
	t.Helper()
	m := &member{t: t}
	conn, err := pgx.ConnectConfig(t.Context(), postgres.ListenConfig(pool.Config()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	m.conn = conn
	m.Elector = leader.NewElector(leader.NewLimits(takeOverAfter, time.Minute, answer), quiet, m)
	return m
}

// AlertsSeen implements [leader.Observer].
func (m *member) AlertsSeen(epoch uuid.UUID, lastSeq int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch, m.lastSeq = epoch, lastSeq
}

// LeaderSeen implements [leader.Observer].
func (m *member) LeaderSeen(seen leader.Seen) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = seen
}

// NoLeader implements [leader.Observer].
func (m *member) NoLeader(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil && (len(m.noLeader) == 0 || m.noLeader[len(m.noLeader)-1] != err.Error()) {
		m.noLeader = append(m.noLeader, err.Error())
	}
}

func (m *member) attend() {
	m.t.Helper()
	_, err := m.Attend(m.t.Context(), m.conn)
	require.NoError(m.t, err)
}

// leads attends until the member leads, and returns its term.
func (m *member) leads() *leader.Term {
	m.t.Helper()
	for {
		m.attend()
		select {
		case term := <-m.Terms():
			m.attend() // the first sign of life
			<-term.Listening()
			return term
		default:
		}
	}
}

// keepAttending attends until the function that it returns is called, as a listener does.
func (m *member) keepAttending() (stop func()) {
	ctx, cancel := context.WithCancel(m.t.Context())
	var group conc.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			next, err := m.Attend(ctx, m.conn)
			if err != nil {
				m.Left(err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(next):
			}
		}
	})
	return func() { cancel(); group.Wait() }
}

func TestElector(t *testing.T) {
	t.Parallel()
	t.Run("FirstSession", testElectorFirstSession)
	t.Run("NextTerm", testElectorNextTerm)
	t.Run("CancelledTurn", testElectorCancelledTurn)
	t.Run("RefusedTerm", testElectorRefusedTerm)
}

func testElectorFirstSession(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	m := newMember(t, pool)
	m.attend()
	term := <-m.Terms()
	require.EqualValues(t, 1, term.Number)
	require.Equal(t, m.conn.PgConn().PID(), term.PID)
	select {
	case <-term.Listening():
		require.Fail(t, "it listens after it has attended")
	default:
	}
	m.attend()
	<-term.Listening()
	require.NoError(t, term.Confirm(t.Context(), pool))
	require.NoError(t, term.Context().Err())
	listens, err := leader.HasWorker(t.Context(), pool)
	require.NoError(t, err)
	require.True(t, listens)

	cause := errors.New("the connection is lost")
	m.Left(cause)
	require.Equal(t, cause, context.Cause(term.Context()))
	require.NoError(t, m.conn.Close(t.Context()))
	waittest.Until(t, func() bool {
		listens, err = leader.HasWorker(t.Context(), pool)
		require.NoError(t, err)
		return !listens
	}, "nobody listens")
}

// testElectorNextTerm has several sessions that wait for the end of the leader.
func testElectorNextTerm(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first := newMember(t, pool)
	former := first.leads()
	var next []*member
	for range 4 {
		m := newPatientMember(t, pool)
		next = append(next, m)
		defer m.keepAttending()()
	}
	waits := `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	waittest.Until(t, func() bool {
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), waits).Scan(&n))
		return n == len(next)
	}, "all wait in the server")
	require.NoError(t, first.conn.Close(t.Context()))
	var terms []*leader.Term
	waittest.Until(t, func() bool {
		for _, m := range next {
			select {
			case term := <-m.Terms():
				terms = append(terms, term)
			default:
			}
		}
		return len(terms) > 0
	}, "another one leads")
	require.Len(t, terms, 1, "one alone")
	term := terms[0]
	require.EqualValues(t, 2, term.Number)
	require.NoError(t, term.Confirm(t.Context(), pool))
	require.ErrorContains(t, former.Confirm(t.Context(), pool), "later term")
	waittest.Until(t, func() bool {
		var held int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1886874724
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&held))
		return held == 1
	}, "the others release the lock of the former term")
}

// testElectorCancelledTurn cancels a turn. The session can still be used: the server has answered.
func testElectorCancelledTurn(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	first := newMember(t, pool)
	first.leads()
	m := newPatientMember(t, pool)
	m.attend()
	ctx, cancel := context.WithCancel(t.Context())
	var group conc.WaitGroup
	var err error
	group.Go(func() {
		for err == nil { // another turn, if one has ended before
			_, err = m.Attend(ctx, m.conn)
		}
	})
	waittest.Until(t, func() bool {
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1`, m.conn.PgConn().PID()).Scan(&n))
		return n == 1
	}, "it waits in the server")
	cancel()
	group.Wait()
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, m.conn.Ping(t.Context()))
}

// testElectorRefusedTerm has a database that is read-only.
func testElectorRefusedTerm(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	m := newMember(t, pool)
	_, err := m.conn.Exec(t.Context(), "SET default_transaction_read_only = on")
	require.NoError(t, err)
	next, err := m.Attend(t.Context(), m.conn)
	require.NoError(t, err)
	require.Positive(t, next)
	require.Contains(t, m.noLeader[0], "begin to lead: ")
	other := newMember(t, pool)
	require.EqualValues(t, 1, other.leads().Number)
	require.Empty(t, other.noLeader, "it keeps no other session from leading")
}
