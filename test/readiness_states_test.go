//go:build e2e

package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/schema"
	"provwatch/internal/store"
)

// unreadyStates are all of them, in the order of docs/readiness.md.
var unreadyStates = []unready{
	{
		state: "the server is down, or takes no connection to the database", reason: `not listening: .*is not currently accepting connections`,
		begin: func(s *stated) func() {
			s.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS false`)
			s.endSessions()
			return s.once(func() { s.onServer(`ALTER DATABASE %s ALLOW_CONNECTIONS true`) })
		},
	},
	{
		state: "the server, the database or the role has no room for another session", reason: `not listening: .*too many connections.*CONNECTION LIMIT`,
		begin: func(s *stated) func() {
			s.onServer(`ALTER DATABASE %s CONNECTION LIMIT 0`)
			s.endSessions()
			return s.once(func() { s.onServer(`ALTER DATABASE %s CONNECTION LIMIT -1`) })
		},
	},
	{
		state: "the server refuses the login", reason: `not listening: .*password authentication failed`,
		prepare: func(s *stated) { s.logInAlone() },
		begin: func(s *stated) func() {
			role := s.login["run"]
			s.exec(`SET log_statement = none`)
			s.exec(`ALTER ROLE ` + role + ` LOGIN PASSWORD 'another'`)
			s.endSessions()
			return func() {
				s.exec(`ALTER ROLE ` + role + ` PASSWORD '` + strings.ReplaceAll(passwordOf(role), "'", "''") + `'`)
			}
		},
	},
	{
		state: "a pooler before the server begins to pool transactions", sources: []string{"notify"}, reason: `there is a pooler before the server that keeps no session`,
		prepare: func(s *stated) {
			pooler := s.startPooler("session", "test_notify", passwordOf("test_notify"))
			s.env = s.env.With("DATABASE_URL", pooler.url)
			s.pooler = pooler
		},
		begin: func(s *stated) func() {
			s.pooler.use("transaction")
			s.waitUntilUnready(`pooler`) // it goes on with a session until that has ended its transaction
			return func() { s.pooler.use("session") }
		},
	},
	{
		state: "the listening session and the others are on different servers", reason: `the listening session is on the server at .*, and the others are on that at `, server: true,
		prepare: (*stated).addServer,
		begin: func(s *stated) func() {
			// The pool stays, also when it is reset, and the listener goes on to the other host.
			s.relay.refuse("-listener")
			s.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%-listener'`)
			s.p.waitFor("listening connection lost") // it still leads until then
			return func() { s.relay.refuse("") }
		},
	},
	{
		state: "the server process of the replication stream is frozen", sources: []string{"wal"}, reason: `the replication stream has not ended since`,
		begin: func(s *stated) func() { return s.freeze(`backend_type = 'walsender'`) },
	},
	{
		state: "another session keeps the alerts' counter", reason: waitsForSession,
		begin: func(s *stated) func() { return s.hold(`SELECT FROM provwatch.alert_counter FOR UPDATE`) },
	},
	locked("alert_counter"), locked("drift_state"), locked("drift_alerts"), locked("accepted_drift"), locked("not_comparable"), locked("environments"),
	staying(locked("wal_position", "wal")), staying(locked("wal_mirror", "wal")),
	{
		state: "another session locks the provider tables", reason: waitsForSession, flags: []string{"--credential-drift=alert"},
		begin:  func(s *stated) func() { return s.hold(`LOCK TABLE ai_providers IN ACCESS EXCLUSIVE MODE`) },
		change: (*stated).deleteKeys,
	},
	{
		state: "the role lacks a privilege", reason: `the role "\w+" lacks privileges`,
		begin: func(s *stated) func() {
			s.exec(`REVOKE INSERT ON provwatch.drift_alerts FROM provwatch_notify, provwatch_wal`)
			return func() { s.exec(`GRANT INSERT ON provwatch.drift_alerts TO provwatch_notify, provwatch_wal`) }
		},
	},
	{
		state: "row level security could hide rows from the role", sources: []string{"notify"}, reason: `row level security applies to the role "\w+" on `,
		begin: func(s *stated) func() {
			s.exec(`ALTER TABLE ai_providers ENABLE ROW LEVEL SECURITY`)
			return func() { s.exec(`ALTER TABLE ai_providers DISABLE ROW LEVEL SECURITY`) }
		},
	},
	{
		state: "the schema provwatch was dropped", reason: `stand by for the leader: .*schema "provwatch" does not exist`,
		begin: func(s *stated) func() {
			s.exec(`ALTER SCHEMA provwatch RENAME TO gone`)
			return func() { s.exec(`ALTER SCHEMA gone RENAME TO provwatch`) }
		},
	},
	{
		state: "the database is read-only", reason: `begin to lead: .*read-only transaction`,
		begin: func(s *stated) func() {
			s.onServer(`ALTER DATABASE %s SET default_transaction_read_only = on`)
			s.endSessions()
			return func() {
				s.onServer(`ALTER DATABASE %s RESET default_transaction_read_only`)
				s.endSessions()
			}
		},
	},
	{
		state: "the disk is full", reason: `No space left on device`, server: true,
		prepare: (*stated).moveAlertsToSmallDisk,
		begin:   (*stated).fillSmallDisk,
	},
	{
		state: "the queue of notifications is full", sources: []string{"wal"}, stays: true, reason: `too many notifications in the NOTIFY queue`, server: true,
		prepare: (*stated).makeQueueSmall,
		begin:   (*stated).fillQueue,
	},
	{
		state: "the provider tables are no longer published", sources: []string{"wal"}, gap: true, reason: `the provider tables are not published`,
		begin: func(s *stated) func() {
			s.exec(`DROP PUBLICATION provwatch`)
			return func() { require.NoError(s.t, migrateAndGrant(s.url, s.source)) }
		},
	},
	{
		state: "the role may no longer replicate", sources: []string{"wal"}, reason: `the role cannot replicate`,
		prepare: func(s *stated) { s.logInAlone() },
		begin: func(s *stated) func() {
			s.exec(`ALTER ROLE ` + s.login["run"] + ` NOREPLICATION`)
			s.endSessions()
			return func() { s.exec(`ALTER ROLE ` + s.login["run"] + ` REPLICATION`) }
		},
	},
	{
		state: "the server was restarted with another `wal_level`", sources: []string{"wal"}, gap: true, reason: `the server has wal_level=replica; set wal_level=logical and restart it`, server: true,
		begin: func(s *stated) func() {
			s.restartWith("wal_level", "replica")
			return func() { s.restartWith("wal_level", "logical") }
		},
	},
	{
		state: "the replica identity of a provider table is another", sources: []string{"wal"}, reason: `the replica identity of the provider tables is not their primary key id`,
		begin: func(s *stated) func() {
			s.exec(`ALTER TABLE ai_providers REPLICA IDENTITY FULL`)
			s.p.waitFor("the replica identity of the provider tables is not their primary key id") // it is seen within seconds
			return func() { s.exec(`ALTER TABLE ai_providers REPLICA IDENTITY DEFAULT`) }
		},
	},
	{
		state: "a pooler comes before the server that takes no replication connection", sources: []string{"wal"}, reason: `this address does not accept replication connections`,
		prepare: (*stated).connectByLink,
		begin: func(s *stated) func() {
			s.link(s.pooler.socket())
			s.endSessions()
			return func() {
				s.link(s.socket())
				s.endSessions()
			}
		},
	},
	{
		state: "all replication slots are in use", sources: []string{"wal"}, gap: true, reason: `replication slots or walsenders are in use`, server: true, boot: true,
		begin: func(s *stated) func() {
			s.awaitFreeSlots()
			s.exec(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`)
			s.exec(`SELECT pg_create_physical_replication_slot('other_' || n) FROM generate_series(1, current_setting('max_replication_slots')::int) n`)
			return func() {
				s.exec(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'other%' AND NOT active`)
			}
		},
	},
	{
		state: "a transaction of another database holds up the creation of the slot", sources: []string{"wal"}, gap: true, reason: `creation of replication slot provwatch_\d+ has waited since \S+ for session \d+ \(role "provwatch", `, server: true, boot: true,
		begin: func(s *stated) func() {
			s.awaitFreeSlots()
			s.exec(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`)
			return s.holdOn(strings.Replace(s.url, "/"+s.db.Config().Database+"?", "/postgres?", 1), `SELECT txid_current()`)
		},
	},
	{
		state: "a prepared transaction of another database holds up the creation of the slot", sources: []string{"wal"}, gap: true, server: true, boot: true,
		reason:  `creation of replication slot provwatch_\d+ has waited since \S+ for the prepared transaction "forgotten" \(role "provwatch", database "postgres", since `,
		prepare: (*stated).allowPrepared,
		begin: func(s *stated) func() {
			s.awaitFreeSlots()
			s.exec(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`)
			elsewhere := strings.Replace(s.url, "/"+s.db.Config().Database+"?", "/postgres?", 1)
			require.NoError(s.t, tryExec(s.t.Context(), elsewhere, `BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'forgotten'`))
			return func() { require.NoError(s.t, tryExec(s.t.Context(), elsewhere, `ROLLBACK PREPARED 'forgotten'`)) }
		},
	},
	{
		state: "another session holds the lock of seeds", reason: `the seed, which takes the lock of seeds and then the gateway's, ` + heldUp, boot: true,
		begin: func(s *stated) func() { return s.hold(fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, store.SeedLock)) },
	},
	{
		state: "another session holds the gateway's lock", reason: `the seed, which takes the lock of seeds and then the gateway's, ` + heldUp, boot: true,
		begin: func(s *stated) func() {
			return s.hold(fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, store.GatewaySeedLock))
		},
	},
	{
		state: "another session holds the lock of migrations", reason: `the migration, which takes the lock of migrations, ` + heldUp, boot: true, gap: true,
		begin: func(s *stated) func() {
			if s.source == "wal" {
				s.exec(`DROP PUBLICATION provwatch`)
			} else {
				s.exec(`DROP TRIGGER provwatch_provider_insert ON ai_providers`)
			}
			s.env = s.env.With("DATABASE_URL", s.url) // as the owner, who may migrate
			return s.hold(fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, schema.Lock))
		},
	},
	{
		state: "a transaction holds up the creation of the triggers or the publication", boot: true, ends: true, gap: true, flags: defaultAnswerTimeout,
		reason: `the migration \((triggers on|the publication of) the provider tables\) ` + heldUp,
		begin: func(s *stated) func() {
			s.env = s.env.With("DATABASE_URL", s.url) // as the owner, who may migrate
			if s.source == "wal" {
				s.exec(`DROP PUBLICATION provwatch`)
				return s.hold(`LOCK TABLE ai_providers IN SHARE UPDATE EXCLUSIVE MODE`)
			}
			s.exec(`DROP TRIGGER provwatch_provider_insert ON ai_providers`)
			return s.hold(`UPDATE ai_providers SET name = name WHERE name = 'anthropic'`)
		},
	},
	{
		state: "a prepared transaction holds up the creation of the triggers", sources: []string{"notify"}, boot: true, ends: true, server: true, flags: defaultAnswerTimeout,
		reason:  `the migration \(triggers on the provider tables\) has waited since \S+ for the prepared transaction "forgotten" \(role "provwatch", database "\w+", since `,
		prepare: (*stated).allowPrepared,
		begin: func(s *stated) func() {
			s.env = s.env.With("DATABASE_URL", s.url)
			s.exec(`DROP TRIGGER provwatch_provider_insert ON ai_providers`)
			// A transaction that notifies cannot be prepared.
			require.NoError(s.t, tryExec(s.t.Context(), s.url, `BEGIN; LOCK TABLE ai_providers IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'forgotten'`))
			return func() { require.NoError(s.t, tryExec(s.t.Context(), s.url, `ROLLBACK PREPARED 'forgotten'`)) }
		},
	},
}

// defaultAnswerTimeout is for states with limits of their own that must not pass each other.
var defaultAnswerTimeout = []string{"--answer-timeout=10s"}

// heldUp ends the reason where another session holds a lock, and waitsForSession is that of
// any statement.
const (
	heldUp          = `has waited since \S+ for session \d+ \(role "provwatch", application "holder"`
	waitsForSession = `statements? \(.+\) ` + heldUp
)

// locked is the state in which a session has locked a table of provwatch.
func locked(table string, sources ...string) unready {
	return unready{
		state: "another session locks `provwatch." + table + "`", sources: sources, reason: waitsForSession,
		begin: func(s *stated) func() { return s.hold(`LOCK TABLE provwatch.` + table + ` IN ACCESS EXCLUSIVE MODE`) },
	}
}

// staying is the state, in which --source=auto does not fall back.
func staying(u unready) unready {
	u.stays = true
	return u
}

// testDocsReadinessStates compares docs/readiness.md with the states that the
// test makes.
func testDocsReadinessStates(t *testing.T) {
	t.Parallel()
	var documented, tested []string
	_, table, found := strings.Cut(read(t, "../docs/readiness.md"), "\n## States in which no alert comes\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`).FindAllStringSubmatch(table, -1)[1:] {
		documented = append(documented, row[1]+" | "+row[2])
	}
	for _, u := range unreadyStates {
		source := "both"
		if u.sources != nil {
			source = "`" + strings.Join(u.sources, "`, `") + "`"
		}
		tested = append(tested, u.state+" | "+source)
	}
	require.Equal(t, tested, documented)
}
