package verify_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/store"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

func TestAccepted(t *testing.T) {
	t.Parallel()
	t.Run("OtherEnvironment", testAcceptedOtherEnvironment)
	t.Run("DisabledProvider", testAcceptedDisabledProvider)
	t.Run("UntilEitherSideChanges", testAcceptedUntilEitherSideChanges)
	t.Run("UntilItsEnd", testAcceptedUntilItsEnd)
	t.Run("AlertedAtItsEnd", testAcceptedAlertedAtItsEnd)
	t.Run("Again", testAcceptedAgain)
	t.Run("EarlierCommits", testAcceptedEarlierCommits)
}

// testAcceptedAgain has an operator accept a drift again, which a verification has seen end and
// which has begun again since.
func testAcceptedAgain(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	accept := func() {
		t.Helper()
		recorded, err := store.On(pool).ReadRecorded(t.Context(), []string{"a"})
		require.NoError(t, err)
		state := recorded["a"].State
		require.NoError(t, store.On(pool).AcceptDrift(t.Context(), "a", drift.Acceptance{Kind: drift.Disabled, EnvHash: state.EnvHash, DBHash: state.DBHash}, "test", ""))
	}
	accept()
	require.NoError(t, v.Verify(t.Context(), resync))
	want := []string{"1 disabled a resync", "2 resolved a resync"}
	require.Equal(t, want, alerts(t, pool))

	traced := pool.Config()
	traced.ConnConfig.Tracer = &beforeQuery{text: "name: record ", do: func() {
		exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
		accept()
	}}
	recording, err := pgxpool.NewWithConfig(t.Context(), traced)
	require.NoError(t, err)
	t.Cleanup(recording.Close)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = true`)
	require.NoError(t, verify.New(recording, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, &counter{}).Verify(t.Context(), resync))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, want, alerts(t, pool))
	require.Equal(t, "1", value(t, pool, `SELECT count(*)::text FROM provwatch.accepted_drift`))
}

// testAcceptedEarlierCommits has the WAL show, after an operator has accepted the last of several
// changes, the commits that came before: as after a time without a worker.
func testAcceptedEarlierCommits(t *testing.T) {
	t.Parallel()
	desired := at("a", "https://1/")
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired)
	hasher, err := v.Hasher(t.Context())
	require.NoError(t, err)
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://3/'`)
	before := time.Now().Add(-time.Minute)
	_, err = reconcile.Resolve(t.Context(), pool, nil, []provider.Desired{desired}, reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials})
	require.NoError(t, err)
	xid := int64(0)
	commit := func(baseURL string, committed time.Time) {
		t.Helper()
		xid++
		row := &provider.Row{ID: idOf(t, pool, "a"), Name: "a", Type: provider.OpenAI, BaseURL: baseURL, Enabled: true}
		observed := []verify.Observed{{Observation: drift.Compare(hasher, desired, row, false), Commit: &pubsub.Commit{LSN: "0/1", XID: xid, CommittedAt: committed}}}
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
			return err
		}))
	}
	for _, baseURL := range []string{"https://2/", "https://1/", "https://2/", "https://3/"} {
		commit(baseURL, before)
	}
	require.NoError(t, v.Verify(t.Context(), resync))
	want := []string{"1 changed a database", "2 resolved a reverted ends 1", "3 changed a database", "4 resolved a accepted ends 3"}
	require.Equal(t, want, causes(t, pool))
	require.Equal(t, "https://1/ https://3/", value(t, pool, `SELECT concat_ws(' ', env_base_url, db_base_url) FROM provwatch.base_pairs`))
	commit("https://4/", time.Now().Add(time.Minute))
	commit("https://3/", time.Now().Add(time.Minute))
	require.Equal(t, append(want, "5 changed a database", "6 changed a unknown"), causes(t, pool), "it was withdrawn")
}

// beforeQuery does something before the first query that has a text.
type beforeQuery struct {
	text string
	do   func()
	done atomic.Bool
}

func (b *beforeQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, b.text) && !b.done.Swap(true) {
		b.do()
	}
	return ctx
}

func (*beforeQuery) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// testAcceptedUntilItsEnd checks that an acceptance that has expired holds no more: for a
// verification, for a change that the WAL shows and for a single comparison. A standby
// leaves the alert to the leader.
func testAcceptedUntilItsEnd(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, v)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	accept := func() {
		t.Helper()
		exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by, expires_at)
			SELECT provider, 'disabled', env_hash, db_hash, 'test', now() + interval '1 hour' FROM provwatch.drift_state`)
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	drifts := func() bool {
		t.Helper()
		plan, err := verify.Once(t.Context(), pool, []provider.Desired{openAI("a")}, nil, drift.IgnoreCredentials, quiet)
		require.NoError(t, err)
		return plan.Steps[0].IsDrift()
	}
	accept()
	require.False(t, drifts())
	exec(t, pool, `UPDATE provwatch.accepted_drift SET expires_at = now()`)
	require.True(t, drifts())
	due, err := v.Unrecorded(t.Context(), resync)
	require.NoError(t, err)
	require.Empty(t, due)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.NoError(t, v.Verify(t.Context(), resync))
	want := []string{"1 disabled a resync", "2 resolved a resync", "3 disabled a resync"}
	require.Equal(t, want, alerts(t, pool))
	require.Equal(t, "0", value(t, pool, `SELECT count(*)::text FROM provwatch.accepted_drift`))

	accept()
	want = append(want, "4 resolved a resync")
	exec(t, pool, `UPDATE provwatch.accepted_drift SET expires_at = now()`)
	observed, err := v.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
	require.NoError(t, err)
	observed[0].Commit = &pubsub.Commit{LSN: "0/10", XID: 7, CommittedAt: time.Unix(1, 0)}
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
		return err
	}))
	require.Equal(t, append(want, "5 disabled a wal"), alerts(t, pool))

	// An acceptance that was given another end meanwhile is not withdrawn.
	accept()
	exec(t, pool, `UPDATE provwatch.accepted_drift SET expires_at = now() + interval '1 day'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, "1", value(t, pool, `SELECT count(*)::text FROM provwatch.accepted_drift`))
}

// testAcceptedAlertedAtItsEnd runs a verifier without a resync: what makes it alert is the end of
// an acceptance, whether a former leader has left it or it is made meanwhile.
func testAcceptedAlertedAtItsEnd(t *testing.T) {
	t.Parallel()
	pool, v, _ := acceptedRow(t)
	want := alerts(t, pool)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'a'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by, expires_at)
		SELECT provider, 'disabled', env_hash, db_hash, 'test', now() + interval '1 hour' FROM provwatch.drift_state`)
	require.NoError(t, v.Verify(t.Context(), resync))
	want = append(want, "3 disabled a resync", "4 resolved a resync")
	require.Equal(t, want, alerts(t, pool))
	exec(t, pool, `UPDATE provwatch.accepted_drift SET expires_at = now()`)

	queue := verify.NewQueue()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { v.Run(ctx, queue, time.Second, host{}) })
	running.Go(func() { v.FollowAcceptances(ctx, queue) })
	defer running.Wait()
	defer cancel()
	expect := func(next string) {
		t.Helper()
		want = append(want, next)
		waittest.Until(t, func() bool { return len(alerts(t, pool)) == len(want) }, "%s", next)
		require.Equal(t, want, alerts(t, pool))
	}
	expect("5 disabled a resync")
	exec(t, pool, `UPDATE provwatch.accepted_rows SET expires_at = now() + interval '1 second'`)
	v.AcceptancesChanged()
	expect("6 unmanaged rogue resync")
}

// testAcceptedOtherEnvironment checks that an acceptance for another environment is left
// alone.
func testAcceptedOtherEnvironment(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://db/'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		SELECT provider, kind, env_hash, db_hash, 'test' FROM provwatch.drift_state`)
	other := openAI("a")
	other.BaseURL = "https://another-environment/"
	require.NoError(t, verify.New(pool, []provider.Desired{other}, drift.IgnoreCredentials, quiet, &counter{}).Verify(t.Context(), resync))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a resync", "2 changed a resync", "3 resolved a resync"}, alerts(t, pool))
}

// testAcceptedDisabledProvider checks that the acceptance of a disabled provider ends when
// it is enabled.
func testAcceptedDisabledProvider(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		SELECT provider, kind, env_hash, db_hash, 'test' FROM provwatch.drift_state`)
	for _, enabled := range []bool{false, true, false} {
		exec(t, pool, `UPDATE public.ai_providers SET enabled = $1`, enabled)
		require.NoError(t, v.Verify(t.Context(), resync))
	}
	require.Equal(t, []string{"1 disabled a resync", "2 resolved a resync", "3 disabled a resync"}, alerts(t, pool))
}

// testAcceptedUntilEitherSideChanges checks that an accepted drift is in sync until either
// side changes.
func testAcceptedUntilEitherSideChanges(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://db/'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		SELECT provider, kind, env_hash, db_hash, 'test' FROM provwatch.drift_state`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a resync", "2 resolved a resync"}, alerts(t, pool))

	// Another kind of drift was not accepted.
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = true`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"3 disabled a resync", "4 resolved a resync"}, alerts(t, pool)[2:])

	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://db-2/'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://db/'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"5 changed a resync", "6 changed a resync"}, alerts(t, pool)[4:], "it does not hold again once a side has changed")
}
