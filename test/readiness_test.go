//go:build e2e

package test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
)

// shippedLimits has the states run with the limits that are shipped, as "make soak" does.
// Each then lasts for as long as no alert is to come, and its reason must be told in time.
var shippedLimits = os.Getenv("PROVWATCH_TEST_SHIPPED_LIMITS") != ""

const (
	// noAlertFor is for how long no alert comes in a state of docs/readiness.md, and
	// toldWithin is how soon /readyz must say why.
	noAlertFor = time.Minute
	toldWithin = 15 * time.Second
)

// shortLimits are the flags that shorten the limits for tests.
var shortLimits = []string{"--answer-timeout=2s", "--probe-interval=1s", "--takeover-after=6s", "--max-backoff=1s"}

// unready is a state in which no alert would come, a row of docs/readiness.md.
type unready struct {
	state   string
	sources []string // in which it is one; nil for both
	reason  string   // what /readyz says, a regular expression
	flags   []string
	// server gives the world a server of its own.
	server bool
	// gap says that the slot of the WAL source is lost in it, so that a gap is alerted when it
	// has ended.
	gap bool
	// boot has the worker start in the state. It has run before.
	boot bool
	// ends says that such a start ends when the state has lasted for a minute.
	ends bool
	// stays says of a state of the WAL source that --source=auto does not fall back in it.
	stays bool
	// prepare is what the state needs of the server before the worker starts, nil for nothing.
	prepare func(s *stated)
	// begin makes the state, and returns what ends it.
	begin func(s *stated) (end func())
	// change commits a change in the state, and returns the alert that comes after it; nil
	// for one that disables a provider.
	change func(s *stated) string
}

// stated is the world of one state.
type stated struct {
	*world
	env     environ
	p       *worker         // nil before it starts
	cluster *pgtest.Cluster // its own server, nil for none
	pooler  *pooler
	relay   *relay
	disk    string // the folder of a small file system
	linked  string // the folder of the socket that is a link
	openai  string // the id of the provider
}

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
			s.env = s.env.with("DATABASE_URL", pooler.url)
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
	locked("alert_counter"), locked("drift_state"), locked("drift_alerts"), locked("accepted_drift"), locked("not_comparable"),
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
		state: "the schema provwatch is gone", reason: `stand by for the leader: .*schema "provwatch" does not exist`,
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
		state: "the role may no longer replicate", sources: []string{"wal"}, reason: `the role may not replicate`,
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
		state: "a pooler comes before the server that takes no replication connection", sources: []string{"wal"}, reason: `no replication connection is taken at this address`,
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
			s.exec(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`)
			return s.holdOn(strings.Replace(s.url, "/"+s.db.Config().Database+"?", "/postgres?", 1), `SELECT txid_current()`)
		},
	},
	{
		state: "a prepared transaction of another database holds up the creation of the slot", sources: []string{"wal"}, gap: true, server: true, boot: true,
		reason:  `creation of replication slot provwatch_\d+ has waited since \S+ for the prepared transaction "forgotten" \(role "provwatch", database "postgres", since `,
		prepare: (*stated).allowPrepared,
		begin: func(s *stated) func() {
			s.exec(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`)
			elsewhere := strings.Replace(s.url, "/"+s.db.Config().Database+"?", "/postgres?", 1)
			require.NoError(s.t, tryExec(s.t.Context(), elsewhere, `BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'forgotten'`))
			return func() { require.NoError(s.t, tryExec(s.t.Context(), elsewhere, `ROLLBACK PREPARED 'forgotten'`)) }
		},
	},
	{
		state: "another session holds the lock of seeds", reason: `the seed, which takes the lock of seeds and then the gateway's, ` + heldUp, boot: true,
		begin: func(s *stated) func() { return s.hold(fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, seed.Lock)) },
	},
	{
		state: "another session holds the gateway's lock", reason: `the seed, which takes the lock of seeds and then the gateway's, ` + heldUp, boot: true,
		begin: func(s *stated) func() {
			return s.hold(fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, seed.GatewayLock))
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
			s.env = s.env.with("DATABASE_URL", s.url) // as the owner, who may migrate
			return s.hold(fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, schema.Lock))
		},
	},
	{
		state: "a transaction holds up the creation of the triggers or the publication", boot: true, ends: true, gap: true, flags: defaultAnswerTimeout,
		reason: `the migration \((triggers on|the publication of) the provider tables\) ` + heldUp,
		begin: func(s *stated) func() {
			s.env = s.env.with("DATABASE_URL", s.url) // as the owner, who may migrate
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
			s.env = s.env.with("DATABASE_URL", s.url)
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

// TestReadiness makes each state of docs/readiness.md on a real server and commits a
// change in it. No alert comes, /readyz says why, and the log does once. The alert comes
// when the state has ended.
func TestReadiness(t *testing.T) {
	t.Parallel()
	for _, u := range unreadyStates {
		sources := u.sources
		if sources == nil {
			sources = []string{"notify", "wal"}
		}
		if shippedLimits {
			sources = sources[len(sources)-1:] // each state once
		}
		for _, source := range sources {
			t.Run(u.state+"/"+source, func(t *testing.T) {
				t.Parallel()
				u.run(t, source)
			})
		}
	}
}

// arrange makes the world of the state, with a worker that has been ready. start starts a
// worker.
func (u unready) arrange(t *testing.T, source string) (s *stated, start func()) {
	s = &stated{}
	if u.server {
		cluster := pgtest.NewCluster(t)
		s.world = newWorldOn(t, cluster.NewDatabase(t), source)
		s.cluster = cluster
	} else {
		s.world = newWorldOf(t, source)
	}
	s.env = s.twoProviders()
	args := []string{"run", "--http-addr=127.0.0.1:0", "--on-boot-drift=alert", "--resync=24h"}
	if shippedLimits {
		s.env = s.env.with("PROVWATCH_MAX_BACKOFF", "")
	} else {
		args = append(args, shortLimits...)
	}
	args = append(args, u.flags...)
	if u.prepare != nil {
		u.prepare(s)
	}
	start = func() { s.p = s.start(s.env, args...) }
	start()
	s.p.ready()
	s.waitUntilReady()
	if u.boot {
		s.p.stop()
	}
	s.openai = s.strings(`SELECT id::text FROM ai_providers WHERE name = 'openai'`)[0]
	return s, start
}

// run makes the state, and returns the worker.
func (u unready) run(t *testing.T, source string) *worker {
	s, start := u.arrange(t, source)
	end := u.begin(s)
	began := time.Now()
	if u.boot {
		start()
		s.waitUntilUnready(u.reason)
	}
	change := u.change
	if change == nil {
		change = (*stated).disable
	}
	alert := change(s)
	if !u.boot {
		began = time.Now()
		s.waitUntilUnready(u.reason)
	}
	told := time.Since(began)
	if shippedLimits {
		require.LessOrEqual(t, told, toldWithin)
		lasts := noAlertFor
		if u.ends {
			lasts /= 2
		}
		time.Sleep(time.Until(began.Add(lasts)))
	}
	require.Empty(t, s.payloads(pubsub.DriftAlerts), "an alert came in the state")
	reason := regexp.MustCompile(u.reason)
	warned := func() []string {
		return slices.DeleteFunc(s.p.lines(), func(line string) bool {
			return !strings.Contains(line, "level=WARN") || !strings.Contains(line, `msg="not ready`) || !reason.MatchString(unquoted(line))
		})
	}
	eventually(t, func() bool { return len(warned()) > 0 }, "the log has it at WARN") // a moment after /readyz
	require.Len(t, warned(), 1, "and once")

	end()
	if u.gap && source == "wal" {
		s.expectAlerts("gap", alert)
	} else {
		s.expectAlerts(alert)
	}
	s.waitUntilReady()
	s.p.stop()
	return s.p
}

// unquoted undoes the quoting of a line of the log.
func unquoted(line string) string { return strings.ReplaceAll(line, `\"`, `"`) }

func (s *stated) waitUntilReady() {
	s.t.Helper()
	eventually(s.t, func() bool { status, _ := s.p.get("/readyz"); return status == http.StatusOK }, "the worker is ready")
}

func (s *stated) waitUntilUnready(reason string) {
	s.t.Helper()
	want := regexp.MustCompile(reason)
	var body string
	eventually(s.t, func() bool {
		var status int
		status, body = s.p.get("/readyz")
		return status == http.StatusServiceUnavailable && want.MatchString(body)
	}, "the worker is not ready for %s, but: %s", reason, lazily(func() []string { return []string{body} }))
}

// disable disables a provider.
func (s *stated) disable() (alert string) {
	s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	return "disabled openai"
}

// deleteKeys deletes the keys of a provider whose row another session has locked.
func (s *stated) deleteKeys() (alert string) {
	s.exec(`DELETE FROM ai_provider_keys WHERE provider_id = $1::uuid`, s.openai)
	return "changed openai"
}

// once is end, which is also called at the end of a test that has failed.
func (s *stated) once(end func()) func() {
	s.t.Cleanup(func() {
		if s.t.Failed() {
			end()
		}
	})
	return end
}

// hold runs a statement in a transaction that another session leaves open.
func (s *stated) hold(statement string) (end func()) {
	s.t.Helper()
	return s.holdOn(s.url, statement)
}

func (s *stated) holdOn(databaseURL, statement string) (end func()) {
	s.t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	require.NoError(s.t, err)
	config.RuntimeParams["application_name"] = "holder"
	conn, err := pgx.ConnectConfig(s.t.Context(), config)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	require.NoError(s.t, conn.PgConn().Exec(s.t.Context(), "BEGIN; "+statement).Close())
	return func() { require.NoError(s.t, conn.Close(s.t.Context())) }
}

// freeze stops the server's processes of the worker's sessions that the condition selects.
func (s *stated) freeze(condition string) (thaw func()) {
	s.t.Helper()
	var pids []int
	eventually(s.t, func() bool {
		pids = nil
		rows, err := s.db.Query(s.t.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'provwatch%' AND `+condition)
		require.NoError(s.t, err)
		pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
		require.NoError(s.t, err)
		return len(pids) > 0
	}, "the session is there")
	signalAll := func(signal syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, signal)
		}
	}
	s.t.Cleanup(func() { signalAll(syscall.SIGCONT) })
	signalAll(syscall.SIGSTOP)
	return func() { signalAll(syscall.SIGCONT) }
}

// logInAlone makes the worker log in as a role that no other test has.
func (s *stated) logInAlone() {
	s.t.Helper()
	name := fmt.Sprintf("alone_%s_%s", s.db.Config().Database, s.source)
	s.createRole(name, map[string]string{"notify": "IN ROLE provwatch_notify", "wal": "REPLICATION IN ROLE provwatch_wal", "auto": "REPLICATION IN ROLE provwatch_wal"}[s.source])
	s.login["run"] = name
}

// restart restarts the world's own server with a setting.
func (s *stated) restart(setting string) {
	s.t.Helper()
	s.exec(`ALTER SYSTEM SET ` + setting)
	s.cluster.Restart(s.t, "fast")
	s.db = s.connect()
	s.listen()
}

// restartWith restarts the world's own server with another value of a setting that it is
// started with, without its replication slots. The test listens before a worker connects.
func (s *stated) restartWith(name, value string) {
	s.t.Helper()
	s.onServer(`ALTER DATABASE %s CONNECTION LIMIT 0`) // of others than superusers
	s.endSessions()
	s.exec(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`)
	s.cluster.RestartWith(s.t, name, value)
	s.db = s.connect()
	s.listen()
	s.onServer(`ALTER DATABASE %s CONNECTION LIMIT -1`)
}

func (s *stated) allowPrepared() { s.restart(`max_prepared_transactions = 5`) }

// addServer gives the worker a second host, of another server that has the same database.
// It reaches the first one by a relay.
func (s *stated) addServer() {
	s.t.Helper()
	other := newWorldOn(s.t, pgtest.NewCluster(s.t).NewDatabase(s.t), s.source)
	require.Equal(s.t, s.db.Config().Database, other.db.Config().Database)
	first, err := url.Parse(s.withPassword(s.login["run"]))
	require.NoError(s.t, err)
	second, err := url.Parse(other.withPassword(other.login["run"]))
	require.NoError(s.t, err)
	s.relay = newRelay(s.t, first.Host)
	first.Host = s.relay.address + "," + second.Host
	s.env = s.env.with("DATABASE_URL", first.String())
}

// connectByLink has the worker connect by a socket that is a link: to that of the server, until
// [stated.link] lets it lead elsewhere.
func (s *stated) connectByLink() {
	s.t.Helper()
	role := s.login["run"]
	s.pooler = s.startPooler("session", role, passwordOf(role))
	s.linked = s.t.TempDir()
	s.link(s.socket())
	u, err := url.Parse(s.pooler.url)
	require.NoError(s.t, err)
	query := u.Query()
	query.Set("host", s.linked)
	u.RawQuery = query.Encode()
	s.env = s.env.with("DATABASE_URL", u.String())
}

// link makes the link lead to a socket.
func (s *stated) link(socket string) {
	s.t.Helper()
	next := filepath.Join(s.linked, "next")
	require.NoError(s.t, os.Symlink(socket, next))
	require.NoError(s.t, os.Rename(next, filepath.Join(s.linked, filepath.Base(s.pooler.socket()))))
}

// socket returns that of the server.
func (s *stated) socket() string {
	s.t.Helper()
	config, err := pgx.ParseConfig(s.url)
	require.NoError(s.t, err)
	return filepath.Join(config.Host, fmt.Sprintf(".s.PGSQL.%d", config.Port))
}

// moveAlertsToSmallDisk moves the table of alerts to a file system of its own.
func (s *stated) moveAlertsToSmallDisk() {
	s.t.Helper()
	s.disk = filepath.Join(s.server, "small")
	require.NoError(s.t, os.Mkdir(s.disk, 0o755))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "provwatch-test", s.disk).CombinedOutput(); err != nil {
		s.t.Skipf("no file system can be mounted: %v: %s", err, out)
	}
	s.t.Cleanup(func() {
		// What was stored is searched for secrets later.
		if err := tryExec(context.Background(), s.url, `ALTER TABLE provwatch.drift_alerts SET TABLESPACE pg_default`); err != nil {
			s.t.Errorf("move the alerts back: %v", err)
		}
		_ = exec.Command("umount", "-l", s.disk).Run()
	})
	folder := filepath.Join(s.disk, "space")
	require.NoError(s.t, os.Mkdir(folder, 0o700))
	data, err := os.Stat(s.strings("SHOW data_directory")[0])
	require.NoError(s.t, err)
	owner := data.Sys().(*syscall.Stat_t)
	require.NoError(s.t, os.Chown(folder, int(owner.Uid), int(owner.Gid)))
	s.exec(`CREATE TABLESPACE small LOCATION '` + folder + `'`)
	s.exec(`ALTER TABLE provwatch.drift_alerts SET TABLESPACE small`)
}

func (s *stated) fillSmallDisk() (end func()) {
	s.t.Helper()
	file := filepath.Join(s.disk, "filling")
	fill, err := os.Create(file)
	require.NoError(s.t, err)
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	require.ErrorIs(s.t, err, syscall.ENOSPC)
	require.NoError(s.t, fill.Close())
	return func() { require.NoError(s.t, os.Remove(file)) }
}

// makeQueueSmall gives the server a queue of notifications that can be filled.
func (s *stated) makeQueueSmall() {
	s.t.Helper()
	if s.count(`SELECT count(*) FROM pg_settings WHERE name = 'max_notify_queue_pages'`) == 0 {
		s.t.Skip("the queue's size cannot be set before PostgreSQL 17")
	}
	s.restart(`max_notify_queue_pages = 64`)
}

func (s *stated) fillQueue() (end func()) {
	s.t.Helper()
	end = s.hold(`LISTEN held; COMMIT; BEGIN; SELECT 1`)
	var err error
	for range 100 {
		if _, err = s.db.Exec(s.t.Context(), "SELECT pg_notify('held', n || repeat('x', 800)) FROM generate_series(1, 50) n"); err != nil {
			break
		}
	}
	require.ErrorContains(s.t, err, "too many notifications")
	return end
}

// TestTheTableOfStatesIsThatOfTheTest compares docs/readiness.md with the states that the
// test makes.
func TestTheTableOfStatesIsThatOfTheTest(t *testing.T) {
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
