//go:build e2e

package test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

func TestHolders(t *testing.T) {
	t.Parallel()
	t.Run("LeaderLockOfNoWorker", testHoldersLeaderLockOfNoWorker)
	t.Run("TriggersOfARunningWorker", testHoldersTriggersOfARunningWorker)
	t.Run("LeaderLockOfPreparedTransaction", testHoldersLeaderLockOfPreparedTransaction)
	t.Run("FullServerWithItsSlot", testHoldersFullServerWithItsSlot)
	t.Run("PreparedTransactionsOfWriters", testHoldersPreparedTransactionsOfWriters)
	t.Run("SlotCreationWithAuto", testHoldersSlotCreationWithAuto)
	t.Run("FullServerAtStart", testHoldersFullServerAtStart)
}

// testHoldersLeaderLockOfNoWorker has another program hold the lock of the term
// before a worker starts.
func testHoldersLeaderLockOfNoWorker(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		s := &stated{world: w}
		s.hold(`SELECT pg_advisory_xact_lock(1886874724, (SELECT term % 2147483648 FROM provwatch.alert_counter)::int)`)
		s.p = w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0", "--takeover-after=12s")
		s.waitUntilUnready(`session \d+ \(role "provwatch", application "holder", database "\w+"\) has held the leader's lock for \d+s and is no worker that leads; SELECT pg_terminate_backend\(\d+\) ends it`)
		s.p.waitFor("level=WARN", `application \"holder\"`, "is no worker that leads")
		s.p.waitFor("msg=leading")
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		s.waitUntilReady()
		s.p.stop()
	})
}

// testHoldersTriggersOfARunningWorker drops a trigger under a worker, and
// leaves a transaction open that writes.
func testHoldersTriggersOfARunningWorker(t *testing.T) {
	t.Parallel()
	s := &stated{world: newWorldOf(t, "notify")}
	s.env = s.twoProviders().With("DATABASE_URL", s.url) // as the owner
	s.p = s.start(s.env, "run", "--http-addr=127.0.0.1:0").ready()
	s.waitUntilReady()
	end := s.hold(`DROP TRIGGER provwatch_provider_update ON ai_providers; COMMIT; BEGIN; LOCK TABLE ai_providers IN ROW EXCLUSIVE MODE`)
	s.waitUntilUnready(`not ready: the migration \(triggers on the provider tables\) ` + heldUp)
	s.p.waitFor("level=WARN", "not ready: alerts might not be published", "triggers on the provider tables", `application \"holder\"`)
	end()
	s.p.waitFor("schema migrated", "triggers on the provider tables")
	s.waitUntilReady()
	s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	s.expectAlerts("disabled openai")
	s.p.stop()
}

// testHoldersLeaderLockOfPreparedTransaction has a transaction that was prepared
// hold the locks of the term before a worker starts and of the next one.
func testHoldersLeaderLockOfPreparedTransaction(t *testing.T) {
	t.Parallel()
	s := &stated{cluster: pgtest.NewCluster(t)}
	s.world = newWorldOn(t, s.cluster.NewDatabase(t), "wal")
	s.allowPrepared()
	s.env = s.twoProviders()
	for _, terms := range []string{"0", "1, 2"} {
		s.exec(`BEGIN`)
		s.exec(`SELECT pg_advisory_xact_lock(1886874724, term) FROM unnest(ARRAY[` + terms + `]) term`)
		s.exec(`PREPARE TRANSACTION 'forgotten'`)
		s.p = s.start(s.env, "run", "--http-addr=127.0.0.1:0", "--takeover-after=12s")
		s.waitUntilUnready(`the prepared transaction "forgotten" \(role "provwatch", database "\w+", since \S+\) has held the leader's lock for \d+s and is no worker that leads; COMMIT PREPARED or ROLLBACK PREPARED it`)
		s.p.waitFor("level=WARN", `prepared transaction \"forgotten\"`, "is no worker that leads")
		s.p.waitFor("level=WARN", "taking over from a leader that shows no sign of life", "prepared_transaction=forgotten")
		s.p.waitFor("msg=leading")
		s.waitUntilReady()
		eventually(t, func() bool {
			return regexp.MustCompile(`Leader: +session \d+ of role test_wal`).MatchString(s.run(s.env, "status").Stdout)
		}, "the worker is seen to lead")
		s.p.stop()
		s.exec(`ROLLBACK PREPARED 'forgotten'`)
	}
}

// testHoldersFullServerWithItsSlot ends the sessions of a leader that may choose its
// source, but for the one that leads, while there is no room for others. What changes
// meanwhile, and back, is read from the slot.
func testHoldersFullServerWithItsSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	p.waitFor("alerts come from this source now", "source=wal")
	instead := p.logged("alerts come from this source instead") // while transactions of others held up the slot
	w.onServer(`ALTER DATABASE %s CONNECTION LIMIT 0`)
	w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'provwatch%' AND application_name NOT LIKE '%-listener'`)
	failed := func() int { return p.logged("replication stream ended, starting it again", "too many connections") }
	eventually(t, func() bool { return failed() >= 3 }, "it tries again")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	before := failed()
	eventually(t, func() bool { return failed() > before }, "and again")
	status, body := p.get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "or raise max_connections, or the CONNECTION LIMIT of the database or the role")
	w.onServer(`ALTER DATABASE %s CONNECTION LIMIT -1`)
	w.expectAlerts("disabled openai", "resolved openai")
	require.Equal(t, instead, p.logged("alerts come from this source instead"))
	require.Zero(t, p.logged("replication slot given up"))
	p.stop()
}

// testHoldersPreparedTransactionsOfWriters prepares a transaction that changes a provider.
func testHoldersPreparedTransactionsOfWriters(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			s := &stated{cluster: pgtest.NewCluster(t)}
			s.world = newWorldOn(t, s.cluster.NewDatabase(t), source)
			s.allowPrepared()
			p := s.start(s.twoProviders(), "run").ready()
			s.exec(`BEGIN`)
			s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
			_, err := s.db.Exec(t.Context(), `PREPARE TRANSACTION 'change'`)
			if source == "notify" {
				// PostgreSQL leaves no way: the trigger cannot know of it.
				var refused *pgconn.PgError
				require.ErrorAs(t, err, &refused)
				require.Equal(t, pgerrcode.FeatureNotSupported, refused.Code)
				p.waitFor("level=WARN", "PREPARE TRANSACTION fails for transactions that change a provider", "max_prepared_transactions=5", "--source=wal")
			} else {
				require.NoError(t, err)
				s.exec(`COMMIT PREPARED 'change'`)
				s.expectAlerts("disabled openai")
				require.Zero(t, p.logged("PREPARE TRANSACTION fails"))
			}
			p.stop()
		})
	}
}

// testHoldersSlotCreationWithAuto starts a worker that may choose its
// source beside a transaction of another database that was prepared and forgotten.
func testHoldersSlotCreationWithAuto(t *testing.T) {
	t.Parallel()
	s := &stated{cluster: pgtest.NewCluster(t)}
	s.world = newWorldOn(t, s.cluster.NewDatabase(t), "")
	s.allowPrepared()
	elsewhere := strings.Replace(s.url, "/"+s.db.Config().Database+"?", "/postgres?", 1)
	require.NoError(t, tryExec(t.Context(), elsewhere, `BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'forgotten'`))
	p := s.start(s.twoProviders(), "run").ready()
	p.waitFor("level=WARN", "alerts come from this source instead", "source=notify", "a replication slot was not created within 5s: it waits for the prepared transaction")
	require.Regexp(t, regexp.MustCompile(`prepared transaction \\"forgotten\\" \(role \\"provwatch\\", database \\"postgres\\", since \S+\); COMMIT PREPARED or ROLLBACK PREPARED it`), strings.Join(p.lines(), "\n"))
	s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	s.expectAlerts("disabled openai")
	require.NoError(t, tryExec(t.Context(), elsewhere, `ROLLBACK PREPARED 'forgotten'`))
	p.waitFor("alerts come from this source now", "source=wal")
	p.stop()
}

// testHoldersFullServerAtStart has no room for a worker that starts.
func testHoldersFullServerAtStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.onServer(`ALTER DATABASE %s CONNECTION LIMIT 0`)
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0")
	p.waitFor("level=WARN", fmt.Sprintf("too many connections for database %s", strings.ReplaceAll(fmt.Sprintf("%q", w.db.Config().Database), `"`, `\"`)), "CONNECTION LIMIT")
	w.onServer(`ALTER DATABASE %s CONNECTION LIMIT -1`)
	p.ready().stop()
}
