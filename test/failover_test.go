//go:build e2e

package test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// servers are a primary and its hot standby, whose worker knows the addresses of both.
type servers struct {
	*world
	primary, standby *pgtest.Cluster
	env              environ
	// synchronises says that the standby synchronises slots, as from PostgreSQL 17 on.
	synchronises bool
}

// versionSlotSync is the first version with failover slots.
const versionSlotSync = 170000

// needsSlotSync skips a test that needs failover slots where the server has none.
func needsSlotSync(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.NewDatabase(t))
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	var version int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int`).Scan(&version))
	if version < versionSlotSync {
		t.Skipf("PostgreSQL %d synchronises no slots, 17 and later do", version/10000)
	}
}

// newServers starts them. The world is on the primary.
func newServers(t *testing.T, source string) *servers {
	t.Helper()
	primary := pgtest.NewCluster(t)
	standby := primary.NewStreamingStandby(t)
	w := newWorldOn(t, primary.URL(), source)
	s := &servers{world: w, primary: primary, standby: standby}
	s.synchronises = w.count(`SELECT current_setting('server_version_num')::int`) >= versionSlotSync
	role := w.login["run"]
	hosts := primary.TCPAddr() + "," + s.standby.TCPAddr()
	s.env = w.twoProviders().With("DATABASE_URL", strings.Replace(w.withPassword(role), "@"+primary.TCPAddr(), "@"+hosts, 1)+"&target_session_attrs=read-write")
	require.Contains(t, s.env["DATABASE_URL"], hosts)
	return s
}

// start starts a worker that may connect to either server.
func (s *servers) start() *worker {
	s.t.Helper()
	return s.world.start(s.env, "run", "--http-addr=127.0.0.1:0").ready()
}

// onStandby returns the only value that a query gives on the standby.
func (s *servers) onStandby(query string, args ...any) string {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.standby.URL())
	require.NoError(s.t, err)
	defer func() { _ = conn.Close(s.t.Context()) }()
	list, err := queryStrings(s.t.Context(), conn, query, args...)
	require.NoError(s.t, err)
	require.Len(s.t, list, 1)
	return list[0]
}

// waitForSlot waits until the standby has synchronised a slot of each of these names.
func (s *servers) waitForSlot(names ...string) {
	s.t.Helper()
	eventually(s.t, func() bool {
		// A slot is taken over once it has passed all transactions that the standby knows
		// to run, of which the primary writes a list at each checkpoint.
		s.exec(`CREATE TABLE noise (); DROP TABLE noise`)
		s.exec(`CHECKPOINT`)
		for _, name := range names {
			if name == "probe" {
				s.exec(`SELECT pg_logical_slot_get_changes('probe', pg_current_wal_flush_lsn(), NULL)`)
			}
			if s.onStandby(`SELECT count(*)::text FROM pg_replication_slots WHERE slot_name LIKE $1 AND synced AND NOT temporary`, name) != "1" {
				return false
			}
		}
		return true
	}, "the standby has the slots %q", names)
}

// waitForStandby waits until the standby has all that was committed.
func (s *servers) waitForStandby() {
	s.t.Helper()
	end := s.strings(`SELECT pg_current_wal_lsn()::text`)[0]
	eventually(s.t, func() bool {
		return s.count(`SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walreceiver' AND flush_lsn >= $1::text::pg_lsn`, end) == 1
	}, "the standby has all")
}

// killPrimary kills the primary when the standby has all that the worker has seen of it, and leaves the
// worker stopped. An alert that only the primary had would be lost.
func (s *servers) killPrimary(p *worker) {
	s.t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(s.t, func() bool {
		return s.count(`SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'provwatch%' AND backend_type = 'client backend' AND state = 'active'`) == 0
	}, "what the worker has sent is done")
	s.waitForStandby()
	s.primary.Kill(s.t)
}

// promote makes the standby the primary, which the world is on then.
func (s *servers) promote() {
	s.t.Helper()
	s.standby.Promote(s.t)
	s.url = s.standby.URL()
	s.db = s.connect()
}

// enable changes a provider by one transaction.
func (s *servers) enable(name string, enabled bool) {
	s.t.Helper()
	s.exec(`UPDATE ai_providers SET enabled = $2 WHERE name = $1`, name, enabled)
}

// gaps returns how many gaps are announced.
func (w *world) gaps() int {
	w.t.Helper()
	return w.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE kind = 'gap'`)
}

// expectReady waits until the worker says that it is ready.
func (p *worker) expectReady() {
	p.w.t.Helper()
	eventually(p.w.t, func() bool { status, _ := p.get("/readyz"); return status == http.StatusOK }, "the worker is ready")
}

func TestFailover(t *testing.T) {
	t.Parallel()
	t.Run("Promotions", testFailoverPromotions)
	t.Run("PoolReturnsToPrimary", testFailoverPoolReturnsToPrimary)
	t.Run("UnsynchronisedSlotIsAGap", testFailoverUnsynchronisedSlotIsAGap)
	t.Run("SlotNotAheadOfStandby", testFailoverSlotNotAheadOfStandby)
}

// testFailoverPromotions promotes a standby after the primary was killed, and in a clean switch
// after which the primary comes back as a standby. There are changes before it, just
// before it, and after it; the worker finds the new primary by itself.
func testFailoverPromotions(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"Killed", "Switched"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			for _, source := range []string{"notify", "wal"} {
				t.Run(source, func(t *testing.T) {
					t.Parallel()
					s := newServers(t, source)
					p := s.start()
					s.enable("openai", false)
					want := []string{"disabled openai"}
					s.expectRows(want...)
					bySlot := source == "wal" && s.synchronises
					if bySlot {
						s.waitForSlot("provwatch%")
						s.enable("openai", true)
						s.enable("openai", false)
						want = append(want, "resolved openai", "disabled openai")
					}
					s.enable("anthropic", false)
					want = append(want, "disabled anthropic")
					s.waitForStandby()
					if way == "Killed" {
						s.killPrimary(p)
					} else {
						s.primary.Stop(t, "fast")
					}
					s.promote()
					p.signal(syscall.SIGCONT)
					if way == "Switched" {
						s.primary.Follow(t, s.standby)
					}
					s.enable("openai", true)
					want = append(want, "resolved openai")
					s.expectRows(want...)
					p.expectReady()
					s.enable("openai", false)
					want = append(want, "disabled openai")
					s.expectRows(want...)
					// Nothing was lost by it, which only the order of the alerts shows.
					rewinds := s.rewinds()
					require.Len(t, rewinds, 1)
					require.Regexp(t, ` f$`, rewinds[0])
					require.Equal(t, 2, s.count(`SELECT count(DISTINCT epoch) FROM provwatch.drift_alerts`))
					require.Equal(t, s.strings(`SELECT epoch::text FROM provwatch.drift_alerts WHERE kind = 'rewound'`), s.strings(`SELECT epoch::text FROM provwatch.alert_counter`))
					switch {
					case bySlot:
						require.Equal(t, want, s.drifts(), "in the order of the commits")
						require.Zero(t, s.gaps())
						require.Zero(t, s.count(`SELECT count(*) FROM provwatch.drift_alerts WHERE lsn IS NULL AND provider <> ''`), "each is of a transaction")
					case source == "wal":
						require.Equal(t, 1, s.gaps())
					}
					p.stop()
					s.requireRows(want...)
				})
			}
		})
	}
}

// testFailoverPoolReturnsToPrimary restarts the primary of a worker that may connect to its
// hot standby, too. Meanwhile the worker verifies on the standby, where it then has a
// connection that would last for an hour.
func testFailoverPoolReturnsToPrimary(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			s := newServers(t, source)
			s.env = s.env.With("DATABASE_URL", strings.Replace(s.env["DATABASE_URL"], "&target_session_attrs=read-write", "", 1))
			p := s.world.start(s.env, "run", "--http-addr=127.0.0.1:0", "--resync=1s").ready()
			s.waitForStandby()
			s.primary.Stop(t, "immediate")
			eventually(t, func() bool {
				return s.onStandby(`SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'provwatch'`) != "0"
			}, "the pool is on the standby")
			s.primary.StartAgain(t)
			s.db = s.connect()
			p.expectReady()
			s.enable("openai", false)
			s.expectRows("disabled openai")
			p.expectReady()
			eventually(t, func() bool {
				return s.onStandby(`SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'provwatch%' AND usename = $1`, s.login["run"]) == "0"
			}, "the worker has left the standby")
			p.stop()
		})
	}
}

// testFailoverUnsynchronisedSlotIsAGap kills the primary before the standby has
// synchronised the worker's slot.
func testFailoverUnsynchronisedSlotIsAGap(t *testing.T) {
	t.Parallel()
	needsSlotSync(t)
	s := newServers(t, "wal")
	var synchroniser int
	eventually(t, func() bool {
		_, err := fmt.Sscan(s.onStandby(`SELECT coalesce(max(pid), 0)::text FROM pg_stat_activity WHERE backend_type = 'slotsync worker'`), &synchroniser)
		return err == nil && synchroniser != 0
	}, "the standby synchronises")
	thaw := pgtest.FreezeWaiting(t, s.standby.URL(), synchroniser)
	p := s.start()
	s.enable("openai", false)
	s.expectRows("disabled openai")
	s.enable("anthropic", false)
	s.waitForStandby()
	s.primary.Kill(t)
	thaw()
	s.promote()
	s.enable("openai", true)
	s.expectRows("disabled openai", "disabled anthropic", "resolved openai")
	p.expectReady()
	require.Equal(t, 1, s.gaps())
	s.enable("openai", false)
	s.expectRows("disabled openai", "disabled anthropic", "resolved openai", "disabled openai")
	p.stop()
}

// testFailoverSlotNotAheadOfStandby kills the primary when the standby has
// the transactions that were alerted, and a slot that the worker has moved on since, but
// not the transaction that recorded the alerts.
func testFailoverSlotNotAheadOfStandby(t *testing.T) {
	t.Parallel()
	needsSlotSync(t)
	s := newServers(t, "wal")
	p := s.start()
	s.exec(`SELECT pg_create_logical_replication_slot('probe', 'test_decoding', false, false, true)`)
	s.waitForSlot("provwatch%", "probe")
	unlock := s.lock("provwatch.alert_counter", "EXCLUSIVE")
	s.enable("openai", false)
	s.enable("openai", true)
	end := s.strings(`SELECT pg_current_wal_lsn()::text`)[0]
	eventually(t, func() bool {
		return s.count(`SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND restart_lsn >= $2::text::pg_lsn`, pgtest.StandbySlot, end) == 1
	}, "the standby has both transactions")
	sender := s.count(`SELECT pid FROM pg_stat_replication WHERE application_name = 'walreceiver'`)
	pgtest.FreezeWaiting(t, s.primary.URL(), sender)
	unlock()
	s.expectRows("disabled openai", "resolved openai")
	eventually(t, func() bool {
		return s.count(`SELECT count(*) FROM pg_stat_replication
			WHERE application_name LIKE 'provwatch%' AND reply_time > (SELECT max(detected_at) FROM provwatch.drift_alerts) + interval '1 second'`) == 1
	}, "the worker confirms what it has recorded, if it does")
	s.exec(`SELECT pg_replication_slot_advance('probe', $1::text::pg_lsn)`, end)
	eventually(t, func() bool {
		return s.onStandby(`SELECT (confirmed_flush_lsn >= $1::text::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = 'probe'`, end) == "true"
	}, "the standby synchronises")
	s.primary.Kill(t)
	s.promote()
	s.enable("anthropic", false)
	s.expectRows("disabled openai", "resolved openai", "disabled anthropic")
	require.Zero(t, s.gaps())
	p.stop()
}
