//go:build e2e

package leader_test

import (
	"context"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/store"
	"provwatch/internal/waittest"
)

func TestElectorFaults(t *testing.T) {
	t.Parallel()
	t.Run("VanishedClient", testElectorFaultsVanishedClient)
	t.Run("OneLeaderPerTerm", testElectorFaultsOneLeaderPerTerm)
}

// testElectorFaultsVanishedClient closes the connection of a session that waits for
// the leader, in a turn of a minute. The server ends the session before the turn.
func testElectorFaultsVanishedClient(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	if _, err := pool.Exec(t.Context(), `SET client_connection_check_interval = '1s'`); err != nil {
		t.Skipf("the platform does not show that a client has vanished: %v", err)
	}
	first := newMember(t, pool)
	first.leads()
	// A client that has vanished cancels nothing, as the driver would when it is cut off.
	var vanished atomic.Bool
	config := postgres.ListenConfig(pool.Config())
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if vanished.Load() {
			return nil, net.ErrClosed
		}
		return dial(ctx, network, address)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	_, err = store.On(conn).StandBy(t.Context(), 1)
	require.NoError(t, err)
	const turn = time.Minute
	began := time.Now()
	var waits conc.WaitGroup
	waits.Go(func() { _, err = store.On(conn).StandBy(t.Context(), int32(turn/time.Millisecond)) })
	session := func(query string) int {
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), query, conn.PgConn().PID()).Scan(&n))
		return n
	}
	waittest.Until(t, func() bool {
		return session(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = $1`) == 1
	}, "it waits in the server")
	vanished.Store(true)
	require.NoError(t, conn.PgConn().Conn().Close())
	waits.Wait()
	require.Error(t, err)
	waittest.Until(t, func() bool { return session(`SELECT count(*) FROM pg_stat_activity WHERE pid = $1`) == 0 }, "its session ends")
	require.Less(t, time.Since(began), turn)
}

// testElectorFaultsOneLeaderPerTerm ends sessions at random, and lets others freeze.
func testElectorFaultsOneLeaderPerTerm(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	ctx, cancel := context.WithCancel(t.Context())
	var group conc.WaitGroup
	begun := make(chan int64, 1000)
	for range 5 {
		group.Go(func() {
			for ctx.Err() == nil {
				m := newMember(t, pool)
				stop := m.keepAttending()
				for alive := true; alive; {
					select {
					case term := <-m.Terms():
						begun <- term.Number
						select {
						case <-term.Context().Done():
							alive = false
						case <-ctx.Done():
							alive = false
						}
					case <-ctx.Done():
						alive = false
					}
				}
				stop()
				_ = m.conn.Close(context.WithoutCancel(ctx))
			}
		})
	}
	seen := map[int64]bool{}
	for range 30 {
		number := <-begun
		require.False(t, seen[number], "term %d has one leader", number)
		seen[number] = true
		if r.IntN(3) > 0 {
			_, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1886874724
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
			require.NoError(t, err)
			continue
		}
		// All that wait in the server are ended as well: their clients come back.
		_, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
		require.NoError(t, err)
	}
	cancel()
	group.Wait()
}
