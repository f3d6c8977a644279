package status_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/observe"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/schema"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/sink"
	"provwatch/internal/status"
	"provwatch/internal/verify"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	quiet = slog.New(slog.DiscardHandler)
	full  = verify.Request{All: true, Source: pubsub.SourceBoot}
	every = status.Query{Providers: 100, Alerts: 100, Audit: 100}
)

const key = "sk-status-0123456789-abcdefghij-STATUS"

func desired(names ...string) []provider.Desired {
	var list []provider.Desired
	for _, name := range names {
		list = append(list, provider.Desired{
			Name: name, Type: provider.OpenAI, BaseURL: "https://" + name + ".example/v1/", Variables: "X", Keys: []secret.Text{secret.New(key)},
		})
	}
	return list
}

// noKeys are those of a worker for which none is configured.
var noKeys = dbcrypt.NewRing(dbcrypt.Keys{})

// lived is a database with a provider in each state but unverified.
func lived(t *testing.T) (*pgxpool.Pool, []provider.Desired) {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	environment := desired("accepted", "changed", "deleted", "disabled", "missing", "synced")
	_, err := seed.Seed(t.Context(), pool, environment, false, quiet)
	require.NoError(t, err)
	v := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	require.NoError(t, v.Verify(t.Context(), full))
	_, err = pool.Exec(t.Context(), `
		UPDATE public.ai_providers SET base_url = 'https://user:password@other.example/v1/?key=hidden' WHERE name = 'changed';
		UPDATE public.ai_providers SET enabled = false WHERE name IN ('accepted', 'disabled');
		UPDATE public.ai_providers SET deleted = true WHERE name = 'deleted';
		DELETE FROM public.ai_providers WHERE name = 'missing';
		INSERT INTO public.ai_providers (id, type, name, base_url, enabled)
		VALUES (gen_random_uuid(), 'openai', 'unnamed', 'https://user:password@unnamed.example/', false)`)
	require.NoError(t, err)
	_, err = reconcile.TakeDB(t.Context(), pool, noKeys, environment[0], false, "operator:test")
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context(), full))
	require.NoError(t, audit.NewDeliverer(pool, quiet, nil).Deliver(t.Context()))
	return pool, environment
}

// summary is a provider in one line.
func summary(p status.Provider) string {
	line := fmt.Sprintf("%s %s %s", p.State, p.Name, p.Kind)
	for _, f := range p.Fields {
		line += fmt.Sprintf(" %s=%s|%s", f.Name, f.Env, f.DB)
	}
	return line
}

func summaries(s status.Status) (list []string) {
	for _, p := range s.Providers {
		list = append(list, summary(p))
	}
	return list
}

var livedSummaries = []string{
	"drifted changed changed base_url=https://changed.example/v1/|https://other.example/v1/",
	"drifted disabled disabled enabled=true|false",
	"drifted missing missing",
	"soft_deleted deleted deleted deleted=false|true",
	"database_only unnamed ",
	"accepted accepted disabled enabled=true|false",
	"in_sync synced ",
}

func TestEachStateIsToldFromTheEnvironmentAndFromWhatWasRecorded(t *testing.T) {
	t.Parallel()
	pool, environment := lived(t)
	for name, e := range map[string]status.Environment{
		"compared":                status.EnvironmentOf(environment),
		"compared, names unknown": {Desired: status.EnvironmentOf(environment).Desired},
		"recorded":                {},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := status.Collect(t.Context(), pool, noKeys, e, every)
			require.NoError(t, err)
			require.Equal(t, livedSummaries, summaries(s))
			require.Equal(t, map[status.State]int{
				status.Drifted: 3, status.SoftDeleted: 1, status.DBOnly: 1, status.Unverified: 0, status.Accepted: 1, status.InSync: 1,
				status.NotComparable: 0,
			}, s.Counts)
			require.Equal(t, 7, s.Total())
			require.Equal(t, "operator:test", s.Providers[5].AcceptedBy)
			require.False(t, *s.Providers[4].Enabled)
			require.Equal(t, "https://unnamed.example/", s.Providers[4].BaseURL)
			require.Len(t, s.Alerts, 4)
			require.EqualValues(t, 4, s.Alerts[0].Seq)
			require.Equal(t, audit.DriftAccepted, s.Audit[0].Action)
			require.Len(t, s.Audit, 6*2+1)
			require.Empty(t, s.Database.Workers)
			require.Nil(t, s.Database.Slot)
			require.Zero(t, s.Database.Undelivered)
		})
	}
}

// TestWhatChangedSinceTheLastVerificationIsShownAsItIs compares a page with rows
// that nobody has verified since.
func TestWhatChangedSinceTheLastVerificationIsShownAsItIs(t *testing.T) {
	t.Parallel()
	pool, environment := lived(t)
	_, err := pool.Exec(t.Context(), `
		UPDATE public.ai_providers SET enabled = true WHERE name IN ('accepted', 'disabled');
		UPDATE public.ai_providers SET deleted = true WHERE name = 'synced'`)
	require.NoError(t, err)
	environment = append(environment, desired("unnamed", "new")...)
	e := status.Environment{Desired: status.EnvironmentOf(environment).Desired}
	s, err := status.Collect(t.Context(), pool, noKeys, e, every)
	require.NoError(t, err)
	require.Equal(t, []string{
		livedSummaries[0],
		"in_sync disabled ",
		livedSummaries[2],
		livedSummaries[3],
		"unverified unnamed disabled enabled=true|false base_url=https://unnamed.example/v1/|https://unnamed.example/",
		"in_sync accepted ",
		"soft_deleted synced deleted deleted=false|true",
	}, summaries(s))

	s, err = status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(environment), every)
	require.NoError(t, err)
	require.Equal(t, 2, s.Counts[status.Unverified])
	require.Zero(t, s.Counts[status.DBOnly])
	require.Contains(t, summaries(s), "unverified new missing")
}

func TestPagesAreBoundedAndContinueWhereTheOneBeforeEnds(t *testing.T) {
	t.Parallel()
	pool, environment := lived(t)
	e := status.EnvironmentOf(environment)
	var providers []string
	var alerts, entries []int64
	query := status.Query{Providers: 2, Alerts: 3, Audit: 5}
	for {
		s, err := status.Collect(t.Context(), pool, noKeys, e, query)
		require.NoError(t, err)
		providers = append(providers, summaries(s)...)
		for _, a := range s.Alerts {
			alerts = append(alerts, a.Seq)
		}
		for _, a := range s.Audit {
			entries = append(entries, a.Seq)
		}
		if !s.MoreProviders && !s.MoreAlerts && !s.MoreAudit {
			break
		}
		if query.After = s.Next; !s.MoreProviders {
			query.After = status.Cursor{State: status.InSync, Name: "~"}
		}
		query.AlertsBefore, query.AuditBefore = alerts[len(alerts)-1], entries[len(entries)-1]
	}
	require.Equal(t, livedSummaries, providers)
	require.Equal(t, []int64{4, 3, 2, 1}, alerts)
	require.Len(t, entries, 13)
	require.IsDecreasing(t, entries)

	s, err := status.Collect(t.Context(), pool, noKeys, e, status.Query{States: []status.State{status.Drifted, status.InSync}, Search: "s", Providers: 100})
	require.NoError(t, err)
	require.Equal(t, []string{livedSummaries[1], livedSummaries[2], livedSummaries[6]}, summaries(s))
	// The search is a text and no pattern.
	s, err = status.Collect(t.Context(), pool, noKeys, e, status.Query{Search: "%", Providers: 100})
	require.NoError(t, err)
	require.Empty(t, s.Providers)
}

// TestAReaderSeesWhatWasRecordedAndNoSettings collects as the roles of
// sql/roles.sql.
func TestAReaderSeesWhatWasRecordedAndNoSettings(t *testing.T) {
	t.Parallel()
	pool, environment := lived(t)
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), string(script))
	require.NoError(t, err)
	as := func(role string) *pgx.Conn {
		conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		_, err = conn.Exec(t.Context(), "SET ROLE "+role)
		require.NoError(t, err)
		return conn
	}
	s, err := status.Collect(t.Context(), as("provwatch_reader"), noKeys, status.EnvironmentOf(environment), every)
	require.NoError(t, err)
	require.Equal(t, livedSummaries, summaries(s))
	require.Empty(t, s.Providers[4].BaseURL)
	require.False(t, *s.Providers[4].Enabled)

	for _, role := range []string{"provwatch_notify", "provwatch_wal"} {
		s, err := status.Collect(t.Context(), as(role), noKeys, status.EnvironmentOf(environment), every)
		require.NoError(t, err)
		require.Equal(t, livedSummaries, summaries(s))
		require.Equal(t, "https://unnamed.example/", s.Providers[4].BaseURL)
	}

	_, err = status.Collect(t.Context(), as("provwatch_operator"), noKeys, status.Environment{}, every)
	var unusable *schema.UnusableError
	require.ErrorAs(t, err, &unusable)
	require.ErrorContains(t, err, `GRANT SELECT ON TABLE provwatch.drift_alerts TO "provwatch_operator";`)
}

// TestAnAcceptedDriftIsToldWithoutTheKeyOfItsHashes collects, as a role that may compare
// and may not read the key of digests, base URLs with passwords.
func TestAnAcceptedDriftIsToldWithoutTheKeyOfItsHashes(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	environment := desired("accepted", "drifts", "synced")
	for i := range environment {
		environment[i].BaseURL = "https://svc:password@" + environment[i].Name + ".example/v1/"
	}
	_, err := seed.Seed(t.Context(), pool, environment, false, quiet)
	require.NoError(t, err)
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), string(script))
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `
		REVOKE SELECT (key) ON provwatch.hash_key FROM provwatch_notify;
		UPDATE public.ai_providers SET base_url = 'https://svc:other@host.example/v1/' WHERE name <> 'synced'`)
	require.NoError(t, err)
	_, err = reconcile.TakeDB(t.Context(), pool, noKeys, environment[0], false, "operator:test")
	require.NoError(t, err)
	v := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	require.NoError(t, v.Verify(t.Context(), full))
	config := pool.Config().ConnConfig
	config.RuntimeParams["role"] = "provwatch_notify"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	told := func() []string {
		s, err := status.Collect(t.Context(), conn, noKeys, status.EnvironmentOf(environment), every)
		require.NoError(t, err)
		return summaries(s)
	}
	require.Equal(t, []string{
		"drifted drifts changed base_url=https://drifts.example/v1/|https://host.example/v1/",
		"accepted accepted changed base_url=https://accepted.example/v1/|https://host.example/v1/",
		"in_sync synced ",
	}, told())

	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://plain.example/' WHERE name = 'accepted'`)
	require.NoError(t, err)
	require.Contains(t, told(), "drifted accepted changed base_url=https://accepted.example/v1/|https://plain.example/")

	// And the other way round.
	_, err = reconcile.TakeDB(t.Context(), pool, noKeys, environment[0], false, "operator:test")
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context(), full))
	require.Contains(t, told(), "accepted accepted changed base_url=https://accepted.example/v1/|https://plain.example/")
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://svc:other@host.example/v1/' WHERE name = 'accepted'`)
	require.NoError(t, err)
	require.Contains(t, told(), "drifted accepted changed base_url=https://accepted.example/v1/|https://host.example/v1/")
}

// TestWhatKeepsSinksFromBeingReadKeepsNothingElse collects how far sinks are, and
// then without the privilege for it, the time and the tables.
func TestWhatKeepsSinksFromBeingReadKeepsNothingElse(t *testing.T) {
	t.Parallel()
	pool, _ := lived(t)
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), string(script))
	require.NoError(t, err)
	config := pool.Config().ConnConfig
	config.RuntimeParams["role"] = "provwatch_reader"
	reader, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), "SET lock_timeout = '10ms'")
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close(context.Background()) })
	collected := func() status.Status {
		t.Helper()
		s, err := status.Collect(t.Context(), reader, noKeys, status.Environment{}, every)
		require.NoError(t, err)
		require.Equal(t, livedSummaries, summaries(s))
		require.Len(t, s.Alerts, 4)
		return s
	}
	s := collected()
	require.Empty(t, s.Sinks)
	require.Empty(t, s.DeadLetters)
	require.Empty(t, s.SinksUnread)

	_, err = pool.Exec(t.Context(), `
		INSERT INTO provwatch.sink_cursors (sink, stream, seq) VALUES ('nats', 'drift', 4), ('webhook', 'drift', 1);
		INSERT INTO provwatch.sink_dead_letters (sink, stream, seq, event_id, provider, reason, attempts, at)
		SELECT 'nats', 'drift', n, gen_random_uuid(), 'openai', 'HTTP 410 Gone', 2, '2026-07-01'::timestamptz + n * interval '1 second'
		FROM generate_series(1, 21) n`)
	require.NoError(t, err)
	s = collected()
	for i := range s.Sinks {
		require.WithinDuration(t, time.Now(), s.Sinks[i].MovedAt, time.Hour)
		s.Sinks[i].MovedAt = time.Time{}
	}
	require.Equal(t, []sink.Progress{
		{Sink: "nats", Stream: sink.Drift, Seq: 4, DeadLetters: 21}, {Sink: "webhook", Stream: sink.Drift, Seq: 1, Behind: 3},
	}, s.Sinks)
	require.Len(t, s.DeadLetters, status.MaxDeadLetters)
	latest := s.DeadLetters[0]
	latest.EventID = uuid.Nil
	require.Equal(t, sink.DeadLetter{
		Sink: "nats", Stream: sink.Drift, Seq: 21, Provider: "openai", Reason: "HTTP 410 Gone", Attempts: 2,
		At: time.Date(2026, 7, 1, 0, 0, 21, 0, time.UTC),
	}, latest)
	require.EqualValues(t, 2, s.DeadLetters[19].Seq)

	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE provwatch.sink_cursors`)
	require.NoError(t, err)
	s = collected()
	require.NoError(t, tx.Rollback(t.Context()))
	require.Contains(t, s.SinksUnread, "lock timeout")
	require.Empty(t, s.Sinks)

	_, err = pool.Exec(t.Context(), `REVOKE SELECT ON provwatch.sink_cursors, provwatch.sink_dead_letters FROM provwatch_reader`)
	require.NoError(t, err)
	s = collected()
	for _, table := range []string{"sink_cursors", "sink_dead_letters"} {
		require.Contains(t, s.SinksUnread, `GRANT SELECT ON TABLE provwatch.`+table+` TO "provwatch_reader";`)
	}
	require.Empty(t, s.DeadLetters)

	// A database that an earlier version has migrated.
	_, err = pool.Exec(t.Context(), `DROP TABLE provwatch.sink_cursors, provwatch.sink_dead_letters`)
	require.NoError(t, err)
	s = collected()
	require.Empty(t, s.Sinks)
	require.Empty(t, s.SinksUnread)
}

// TestWhenEverythingWasVerifiedIsToldWhereItIsNotedAndMayBeRead collects it as a
// reader, and then without the privilege for it and without the column.
func TestWhenEverythingWasVerifiedIsToldWhereItIsNotedAndMayBeRead(t *testing.T) {
	t.Parallel()
	pool, _ := lived(t)
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), string(script))
	require.NoError(t, err)
	config := pool.Config().ConnConfig
	config.RuntimeParams["role"] = "provwatch_reader"
	reader, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close(context.Background()) })
	after := func(change string) status.Database {
		t.Helper()
		_, err := pool.Exec(t.Context(), change)
		require.NoError(t, err)
		s, err := status.Collect(t.Context(), reader, noKeys, status.Environment{}, every)
		require.NoError(t, err)
		require.Equal(t, livedSummaries, summaries(s))
		require.Nil(t, s.Database.Replica)
		return s.Database
	}
	d := after("")
	require.True(t, d.KeepsVerified)
	require.Nil(t, d.VerifiedAt, "no leader has noted it yet")
	require.Empty(t, d.VerifiedUnread)

	d = after(`UPDATE provwatch.alert_counter SET verified_at = '2026-07-01 14:00+02'`)
	require.Equal(t, time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), *d.VerifiedAt)

	d = after(`REVOKE SELECT (verified_at) ON provwatch.alert_counter FROM provwatch_reader`)
	require.Nil(t, d.VerifiedAt)
	require.Contains(t, d.VerifiedUnread, `GRANT SELECT (verified_at) ON TABLE provwatch.alert_counter TO "provwatch_reader";`)

	// A database that an earlier version has migrated.
	d = after(`ALTER TABLE provwatch.alert_counter DROP COLUMN verified_at`)
	require.False(t, d.KeepsVerified)
	require.Nil(t, d.VerifiedAt)
	require.Empty(t, d.VerifiedUnread)
}

// TestARowThatCannotBeComparedIsAStateOfItsOwn encrypts the settings of a row that was
// in sync.
func TestARowThatCannotBeComparedIsAStateOfItsOwn(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key := dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key)
	environment := desired("one", "two")
	environment[1].Type, environment[1].Keys, environment[1].BaseURL = provider.Anthropic, nil, ""
	environment[1].Bedrock = &provider.Bedrock{Region: "us-east-1"}
	_, err := seed.Seed(t.Context(), pool, environment, false, quiet, seed.WithKeys(dbcrypttest.NewRing(t, key)))
	require.NoError(t, err)
	v := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	v.Decrypt(dbcrypttest.NewRing(t, key))
	require.NoError(t, v.Verify(t.Context(), full))
	reason := "cannot be compared: encrypted with key " + key.Digest() + ", which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS"
	collected := func(e status.Environment, query status.Query, keys *dbcrypt.Ring) status.Status {
		s, err := status.Collect(t.Context(), pool, keys, e, query)
		require.NoError(t, err)
		return s
	}
	known := status.EnvironmentOf(environment)
	require.Equal(t, []string{"in_sync one ", "in_sync two "}, summaries(collected(known, every, dbcrypttest.NewRing(t, key))))
	require.Equal(t, []string{"in_sync one ", "not_comparable two  settings=bedrock|" + reason}, summaries(collected(known, every, noKeys)), "compared as they are now")

	// As a leader without the key has recorded it.
	v.Decrypt(noKeys)
	require.NoError(t, v.Verify(t.Context(), full))
	for _, e := range []status.Environment{known, {Desired: known.Desired}, {}} {
		s := collected(e, every, noKeys)
		field := "row=|"
		if e.Desired != nil {
			field = "settings=bedrock|"
		}
		require.Equal(t, []string{"not_comparable two  " + field + reason, "in_sync one "}, summaries(s))
		require.Equal(t, []int{1, 1, 2}, []int{s.Counts[status.InSync], s.Counts[status.NotComparable], s.Total()})
		alone := every
		alone.States = []status.State{status.NotComparable}
		require.Len(t, summaries(collected(e, alone, noKeys)), 1)
	}
	// The next leader has the key, and knows what is recorded alone.
	next := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	next.Decrypt(dbcrypttest.NewRing(t, key))
	require.NoError(t, next.Verify(t.Context(), full))
	s := collected(status.Environment{}, every, noKeys)
	require.Equal(t, []string{"in_sync one ", "in_sync two "}, summaries(s))
	require.Zero(t, s.Counts[status.NotComparable])

	// Nothing stays of one that the environment names no longer, or that was damaged
	// before anything was recorded of it.
	_, err = pool.Exec(t.Context(), `TRUNCATE provwatch.drift_state`)
	require.NoError(t, err)
	v.Decrypt(noKeys)
	v.SetDesired(environment)
	require.NoError(t, v.Verify(t.Context(), full))
	require.Equal(t, []string{"not_comparable two  row=|" + reason, "in_sync one "}, summaries(collected(status.Environment{}, every, noKeys)))
	v.SetDesired(environment[:1])
	require.NoError(t, v.Verify(t.Context(), full))
	require.Equal(t, []string{"database_only two ", "in_sync one "}, summaries(collected(status.Environment{}, every, noKeys)))
}

func TestADriftOfCredentialsIsShownInCounts(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	environment := desired("one")
	_, err := seed.Seed(t.Context(), pool, environment, false, quiet)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_provider_keys SET api_key = 'sk-another-secret-key-0123456789'`)
	require.NoError(t, err)
	v := verify.New(pool, environment, drift.AlertCredentials, quiet, observe.NewMetrics("test"))
	require.NoError(t, v.Verify(t.Context(), full))
	want := "drifted one changed api_keys=1, of these 1 not in the database|1, of these 1 not in the environment"
	s, err := status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(environment), every)
	require.NoError(t, err)
	require.Equal(t, []string{want}, summaries(s))
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, err)
	s, err = status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(environment), every)
	require.NoError(t, err)
	require.Equal(t, "drifted one disabled enabled=true|false"+want[len("drifted one changed"):], summary(s.Providers[0]))

	// What is recorded of credentials stands until they are compared, as it does for a worker.
	environment[0].BaseURL = "https://moved.example/"
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET enabled = true, base_url = 'https://moved.example/'`)
	require.NoError(t, err)
	s, err = status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(environment), every)
	require.NoError(t, err)
	require.Equal(t, []string{want}, summaries(s))
}

// TestTheLeaderIsTheSessionThatHoldsItsLock makes sessions as workers have them.
func TestTheLeaderIsTheSessionThatHoldsItsLock(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	config := pool.Config().ConnConfig
	config.RuntimeParams["application_name"] = "provwatch-listener"
	var pids []int
	for range 2 {
		conn, err := pgx.ConnectConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		pids = append(pids, int(conn.PgConn().PID()))
		_, err = conn.Exec(t.Context(), `SELECT pg_try_advisory_lock(1886874724, 0)`) // of the first term
		require.NoError(t, err)
	}
	s, err := status.Collect(t.Context(), pool, noKeys, status.Environment{}, every)
	require.NoError(t, err)
	require.Len(t, s.Database.Workers, 2)
	leader := s.Database.Leader()
	require.NotNil(t, leader)
	require.Equal(t, pids[0], leader.PID)
	require.WithinDuration(t, time.Now(), *leader.Since, time.Hour)
	require.Empty(t, s.Database.LockHolder)
}

// TestASessionThatHoldsTheLeadersLockAndIsNoWorkerIsShown has another program hold it.
func TestASessionThatHoldsTheLeadersLockAndIsNoWorkerIsShown(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	config := pool.Config().ConnConfig
	config.RuntimeParams["application_name"] = "a stranger"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), `SELECT pg_try_advisory_lock(1886874724, 0)`) // of the first term
	require.NoError(t, err)
	s, err := status.Collect(t.Context(), pool, noKeys, status.Environment{}, every)
	require.NoError(t, err)
	require.Nil(t, s.Database.Leader())
	require.Contains(t, s.Database.LockHolder, fmt.Sprintf("session %d (role ", conn.PgConn().PID()))
	require.Contains(t, s.Database.LockHolder, `application "a stranger"`)
}
