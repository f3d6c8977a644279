package verify_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

func TestHints(t *testing.T) {
	t.Parallel()
	t.Run("NothingNewIsOneQuery", testHintsNothingNewIsOneQuery)
	t.Run("ReadsOnlyTheHinted", testHintsReadsOnlyTheHinted)
	t.Run("UnknownRow", testHintsUnknownRow)
	t.Run("RenamedOrRemoved", testHintsRenamedOrRemoved)
}

func testHintsNothingNewIsOneQuery(t *testing.T) {
	t.Parallel()
	pool, _, metrics := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	var statements int
	config := pool.Config()
	config.ConnConfig.Tracer = queryCounter{&statements}
	counted, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer counted.Close()
	v := verify.New(counted, []provider.Desired{openAI("a"), openAI("b")}, drift.IgnoreCredentials, quiet, metrics)
	for _, request := range []verify.Request{resync, {ProviderIDs: []uuid.UUID{idOf(t, pool, "a")}, Source: pubsub.SourceNotify}} {
		require.NoError(t, v.Verify(t.Context(), request))
		statements = 0
		require.NoError(t, v.Verify(t.Context(), request))
		require.Equal(t, 1, statements)
	}
}

type queryCounter struct{ n *int }

func (c queryCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	*c.n++
	return ctx
}
func (queryCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func testHintsReadsOnlyTheHinted(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), verify.Request{ProviderIDs: []uuid.UUID{idOf(t, pool, "b")}, Source: pubsub.SourceNotify}))
	require.Equal(t, []string{"1 disabled b notify"}, alerts(t, pool))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 disabled b notify", "2 disabled a resync"}, alerts(t, pool))
}

// testHintsUnknownRow checks that a hint that belongs to no row asks for everything.
func testHintsUnknownRow(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	hints := []uuid.UUID{idOf(t, pool, "b"), uuid.New()}
	require.NoError(t, v.Verify(t.Context(), verify.Request{ProviderIDs: hints, Source: pubsub.SourceNotify}))
	require.Equal(t, []string{"1 disabled a notify", "2 disabled b notify"}, alerts(t, pool))
}

// testHintsRenamedOrRemoved checks that a renamed or removed row is found by the ID that
// it had.
func testHintsRenamedOrRemoved(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	a, b := idOf(t, pool, "a"), idOf(t, pool, "b")
	exec(t, pool, `UPDATE public.ai_providers SET name = 'elsewhere' WHERE name = 'a'`)
	exec(t, pool, `DELETE FROM public.ai_providers WHERE name = 'b'`)
	require.NoError(t, v.Verify(t.Context(), verify.Request{ProviderIDs: []uuid.UUID{a, b}, Source: pubsub.SourceNotify}))
	require.Equal(t, []string{"1 missing a notify", "2 missing b notify"}, alerts(t, pool))
	var id uuid.UUID
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT provider_id FROM provwatch.drift_alerts WHERE provider = 'b'`).Scan(&id))
	require.Equal(t, b, id, "the alert names the row that was there")
}

func TestUndecodable(t *testing.T) {
	t.Parallel()
	t.Run("NotForJSONB", testUndecodableNotForJSONB)
	t.Run("UnneededSettings", testUndecodableUnneededSettings)
	t.Run("NeitherDriftNorEqual", testUndecodableNeitherDriftNorEqual)
}

// testUndecodableNotForJSONB checks that a row that jsonb cannot hold stops no other
// alert.
func testUndecodableNotForJSONB(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), anthropic("b"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'a'`)
	exec(t, pool, `UPDATE public.ai_providers SET settings = '{"_type":"bedrock","_version":1,"region":"us\u0000"}', updated_at = 'infinity' WHERE name = 'b'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 disabled a resync"}, alerts(t, pool))
	require.Equal(t, "1", value(t, pool, `SELECT count(*)::text FROM provwatch.not_comparable WHERE provider = 'b'`))
}

// testUndecodableUnneededSettings checks that settings that the hash does not need are not
// decoded.
func testUndecodableUnneededSettings(t *testing.T) {
	t.Parallel()
	for _, mode := range []drift.CredentialMode{drift.IgnoreCredentials, drift.AlertCredentials} {
		pool, v, _ := seeded(t, mode, openAI("a"))
		exec(t, pool, `UPDATE public.ai_providers SET settings = 'a secret that is not JSON'`)
		require.NoError(t, v.Verify(t.Context(), resync))
		exec(t, pool, `UPDATE public.ai_providers SET settings = '{"_type":"bedrock","_version":1,"region":"r","access_key":"AKIAX"}'`)
		require.NoError(t, v.Verify(t.Context(), resync))
		exec(t, pool, `INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES (1, 'key-7', '')`)
		exec(t, pool, `UPDATE public.ai_providers SET settings_key_id = 'key-7'`)
		require.NoError(t, v.Verify(t.Context(), resync))
		require.Empty(t, alerts(t, pool))
	}
}

// testUndecodableNeitherDriftNorEqual checks that a row that cannot be decoded is no
// drift, and never equal.
func testUndecodableNeitherDriftNorEqual(t *testing.T) {
	t.Parallel()
	pool, v, metrics := seeded(t, drift.IgnoreCredentials, anthropic("a"))
	exec(t, pool, `INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES (1, 'key-7', '')`)
	exec(t, pool, `UPDATE public.ai_providers SET settings = 'a secret that is not JSON', enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, map[string]string{"a": "settings are not a JSON object"}, metrics.notComparable)
	exec(t, pool, `UPDATE public.ai_providers SET settings = NULL, settings_key_id = 'key-7'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, map[string]string{"a": `encrypted with key "key-7", which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS`}, metrics.notComparable)
	require.Empty(t, alerts(t, pool))
	exec(t, pool, `UPDATE public.ai_providers SET settings_key_id = NULL`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 disabled a resync"}, alerts(t, pool))
	require.Empty(t, metrics.notComparable)

	// A provider that no longer exists, or is soft-deleted, is reported so whatever its settings.
	exec(t, pool, `UPDATE public.ai_providers SET settings = 'not JSON', deleted = true`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"2 deleted a resync"}, alerts(t, pool)[1:])
	require.Empty(t, metrics.notComparable)
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	t.Run("OnceByManyWorkers", testTransitionsOnceByManyWorkers)
	t.Run("OtherValues", testTransitionsOtherValues)
	t.Run("NoLongerNamed", testTransitionsNoLongerNamed)
	t.Run("FormerLeader", testTransitionsFormerLeader)
	t.Run("EndedMeanwhile", testTransitionsEndedMeanwhile)
}

// testTransitionsOnceByManyWorkers checks that workers that see one transition alert it
// once.
func testTransitionsOnceByManyWorkers(t *testing.T) {
	t.Parallel()
	pool, first, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	var workers []*verify.Verifier
	for range 7 {
		workers = append(workers, verify.New(pool, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, &counter{}))
	}
	workers = append(workers, first)
	var want []string
	for i := range 20 {
		exec(t, pool, `UPDATE public.ai_providers SET enabled = $1`, i%2 == 1)
		kind := "disabled"
		if i%2 == 1 {
			kind = "resolved"
		}
		want = append(want, fmt.Sprintf("%d %s a resync", i+1, kind))
		var group sync.WaitGroup
		failed := make([]error, len(workers))
		for n, v := range workers {
			group.Go(func() { failed[n] = v.Verify(t.Context(), resync) })
		}
		group.Wait()
		require.NoError(t, errors.Join(failed...))
		require.Equal(t, want, alerts(t, pool))
	}
}

// testTransitionsOtherValues checks that a drift to other values is another alert, unless
// the row is deleted.
func testTransitionsOtherValues(t *testing.T) {
	t.Parallel()
	pool, v, metrics := seeded(t, drift.IgnoreCredentials, openAI("a"))
	for _, change := range []string{
		`UPDATE public.ai_providers SET base_url = 'https://1/'`,
		`UPDATE public.ai_providers SET base_url = 'https://2/'`,
		`UPDATE public.ai_providers SET updated_at = now()`,
		`UPDATE public.ai_providers SET deleted = true`,
		`UPDATE public.ai_providers SET base_url = 'https://3/'`,
		`DELETE FROM public.ai_providers`,
	} {
		exec(t, pool, change)
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	require.Equal(t, []string{"1 changed a resync", "2 changed a resync", "3 deleted a resync", "4 missing a resync"}, alerts(t, pool))
	require.Equal(t, map[drift.Kind]int{drift.Missing: 1}, metrics.drifting)
}

// testTransitionsNoLongerNamed checks that providers that the environment no longer names
// are closed once.
func testTransitionsNoLongerNamed(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"), openAI("c"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name IN ('a', 'b')`)
	require.NoError(t, v.Verify(t.Context(), resync))
	v.SetDesired([]provider.Desired{openAI("a")})
	require.NoError(t, v.Verify(t.Context(), verify.Request{ProviderIDs: []uuid.UUID{idOf(t, pool, "a")}, Source: pubsub.SourceNotify}))
	require.Len(t, alerts(t, pool), 2, "a hinted verification is about what is hinted at")
	require.NoError(t, v.Verify(t.Context(), verify.Request{All: true, Source: pubsub.SourceReload}))
	want := []string{"1 disabled a resync", "2 disabled b resync", "3 resolved b reload"}
	require.Equal(t, want, alerts(t, pool))

	// What another worker records of others afterwards is not ours to close, until
	// we take over from it.
	_, err := pool.Exec(t.Context(), `INSERT INTO provwatch.drift_state (provider, kind, env_hash, db_hash) VALUES ('c', 'changed', 'x', 'y')
		ON CONFLICT (provider) DO UPDATE SET kind = 'changed'`)
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, want, alerts(t, pool))
	takeOver(t, pool, v)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, append(want, "4 resolved c resync"), alerts(t, pool))
}

// testTransitionsFormerLeader lets a former leader look again after the next term has
// begun, as after a freeze.
func testTransitionsFormerLeader(t *testing.T) {
	t.Parallel()
	pool, former, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, former)
	next := verify.New(pool, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, &counter{})
	takeOver(t, pool, next)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.Error(t, former.Verify(t.Context(), resync))
	require.Error(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		observed, err := former.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
		require.NoError(t, err)
		_, err = former.Record(t.Context(), tx, observed, pubsub.SourceWAL)
		return err
	}))
	require.Empty(t, alerts(t, pool))
	require.NoError(t, next.Verify(t.Context(), resync))
	require.Len(t, alerts(t, pool), 1)
}

// testTransitionsEndedMeanwhile checks that a drift that ended while another worker led is
// no longer counted.
func testTransitionsEndedMeanwhile(t *testing.T) {
	t.Parallel()
	pool, v, metrics := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, map[drift.Kind]int{drift.Disabled: 2}, metrics.drifting)

	exec(t, pool, `UPDATE public.ai_providers SET enabled = true WHERE name = 'a'`)
	another := verify.New(pool, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, &counter{})
	takeOver(t, pool, another)
	require.NoError(t, another.Verify(t.Context(), resync))
	require.Len(t, alerts(t, pool), 4, "a is in sync, and b is named no longer")

	v.SetDesired([]provider.Desired{openAI("a")})
	takeOver(t, pool, v)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Len(t, alerts(t, pool), 4)
	require.Empty(t, metrics.drifting)
}

func TestFailedVerification(t *testing.T) {
	t.Parallel()
	t.Run("LosesNothing", testFailedVerificationLosesNothing)
	t.Run("IsRetried", testFailedVerificationIsRetried)
}

// testFailedVerificationLosesNothing checks that a failed verification loses no alert and
// leaves no gap in seq.
func testFailedVerificationLosesNothing(t *testing.T) {
	t.Parallel()
	pool, v, metrics := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'a'`)
	exec(t, pool, `ALTER TABLE provwatch.drift_state ADD CONSTRAINT refuse CHECK (kind = 'in_sync')`)
	require.Error(t, v.Verify(t.Context(), resync))
	require.Equal(t, 1, metrics.failed)
	require.Empty(t, alerts(t, pool))
	exec(t, pool, `ALTER TABLE provwatch.drift_state DROP CONSTRAINT refuse`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 disabled a resync"}, alerts(t, pool))
}

func testFailedVerificationIsRetried(t *testing.T) {
	t.Parallel()
	pool, v, metrics := seeded(t, drift.IgnoreCredentials, openAI("a"))
	exec(t, pool, `ALTER TABLE provwatch.drift_alerts RENAME TO hidden`)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	pending := verify.NewQueue()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.Run(ctx, pending, time.Second, host{})
	}()
	pending.Hint(idOf(t, pool, "a").String())
	failures := func() int {
		metrics.mu.Lock()
		defer metrics.mu.Unlock()
		return metrics.failed
	}
	waittest.Until(t, func() bool { return failures() >= 2 }, "two verifications fail")
	exec(t, pool, `ALTER TABLE provwatch.hidden RENAME TO drift_alerts`)
	waittest.Until(t, func() bool { return len(alerts(t, pool)) == 1 }, "the drift is alerted")
	cancel()
	<-ended
}

func TestCredentialDrift(t *testing.T) {
	t.Parallel()
	t.Run("AlertOnRequest", testCredentialDriftAlertOnRequest)
	t.Run("WarnedOnce", testCredentialDriftWarnedOnce)
}

func testCredentialDriftAlertOnRequest(t *testing.T) {
	t.Parallel()
	for mode, want := range map[drift.CredentialMode][]string{
		drift.IgnoreCredentials: {},
		drift.WarnCredentials:   {},
		drift.AlertCredentials:  {"1 changed a resync", "2 changed a resync", "3 resolved a resync"},
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			pool, v, _ := seeded(t, mode, openAI("a", "key-1", "key-2"))
			for _, change := range []string{
				`INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'key-3' FROM public.ai_providers`,
				`UPDATE public.ai_provider_keys SET updated_at = now()`,
				`DELETE FROM public.ai_provider_keys WHERE api_key IN ('key-1', 'key-3')`,
				`INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'key-1' FROM public.ai_providers`,
			} {
				exec(t, pool, change)
				require.NoError(t, v.Verify(t.Context(), resync))
			}
			require.Equal(t, want, alerts(t, pool))
			var fields string
			require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce(string_agg(fields::text, ''), '') FROM provwatch.drift_alerts`).Scan(&fields))
			require.NotContains(t, fields, "key-")
		})
	}
}

func testCredentialDriftWarnedOnce(t *testing.T) {
	t.Parallel()
	pool, _, _ := seeded(t, drift.IgnoreCredentials, openAI("a", "key-1"))
	exec(t, pool, `UPDATE public.ai_provider_keys SET api_key = 'key-2'`)
	var log strings.Builder
	v := verify.New(pool, []provider.Desired{openAI("a", "key-1")}, drift.WarnCredentials, slog.New(slog.NewTextHandler(&log, nil)), &counter{})
	for range 3 {
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	require.Equal(t, 1, strings.Count(log.String(), "credentials in the database differ"), log.String())
	require.NotContains(t, log.String(), "key-1")
	require.NotContains(t, log.String(), "key-2")
	require.Empty(t, alerts(t, pool))
}

// host is a [verify.Host] that does nothing.
type host struct{}

func (host) Verified(context.Context, verify.Request, error) {}
