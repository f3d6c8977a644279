package reconcile_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/schema"
)

// TestGatewayNotification resolves in tables without triggers, as where the WAL
// is the source: a gateway that listens on ai_providers_changed receives the provider that
// is written, and workers receive that there are audit entries to deliver.
func TestGatewayNotification(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	require.NoError(t, schema.RemoveTriggers(t.Context(), pool))
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), `LISTEN ai_providers_changed; LISTEN provwatch_outbox`)
	require.NoError(t, err)
	// changed returns the notifications since the last call.
	changed := func() (payloads []string) {
		t.Helper()
		// What was committed before the marker is delivered before it.
		_, err := conn.Exec(t.Context(), `NOTIFY ai_providers_changed, 'marker'`)
		require.NoError(t, err)
		for {
			n, err := conn.WaitForNotification(t.Context())
			require.NoError(t, err)
			if n.Payload == "marker" {
				return payloads
			}
			payloads = append(payloads, n.Channel+" "+n.Payload)
		}
	}
	writeEnv := func(d provider.Desired) (reconcile.Outcome, error) {
		return takeEnv(t.Context(), pool, noKeys, d, true, drift.IgnoreCredentials)
	}
	acceptDB := func(d provider.Desired) (reconcile.Outcome, error) {
		return takeDB(t.Context(), pool, noKeys, d, drift.IgnoreCredentials)
	}

	inserted, err := writeEnv(bedrock("us-east-1"))
	require.NoError(t, err)
	sent := []string{"ai_providers_changed " + inserted.ProviderID.String(), "provwatch_outbox "}
	require.Equal(t, sent, changed(), "a row was inserted")
	_, err = writeEnv(bedrock("eu-west-1"))
	require.NoError(t, err)
	require.Equal(t, sent, changed(), "a row was updated")
	_, err = acceptDB(bedrock("us-east-1"))
	require.NoError(t, err)
	require.Equal(t, sent, changed(), "a drift was accepted")
	elsewhere := bedrock("us-east-1")
	elsewhere.BaseURL = "https://elsewhere/"
	_, err = acceptDB(elsewhere)
	require.NoError(t, err)
	require.Equal(t, sent, changed())
	applied, err := reconcile.Apply(t.Context(), pool, noKeys, []provider.Desired{bedrock("us-east-1")}, reconcile.ApplyRequest{
		Credentials: drift.IgnoreCredentials, Operator: &reconcile.Operator{User: "test", UID: -1},
	})
	require.NoError(t, err)
	require.True(t, applied[0].AcceptanceRenewed && !applied[0].Written())
	require.Equal(t, sent, changed(), "an acceptance was renewed")
	require.Equal(t, "drift.accept changed bedrock_region", value(t, pool, `SELECT concat_ws(' ', action, details ->> 'kind', details -> 'changes' -> 0 ->> 'field')
		FROM provwatch.audit_outbox ORDER BY seq DESC LIMIT 1`), "which is audited")
	require.Equal(t, []string{"true"}, list(t, pool, `SELECT (details ->> 'env_hash' = env_hash AND details ->> 'db_hash' = db_hash)::text
		FROM provwatch.accepted_drift, provwatch.audit_outbox WHERE audit_outbox.seq = (SELECT max(seq) FROM provwatch.audit_outbox)`))
	require.Equal(t, "never", value(t, pool, `SELECT coalesce(applied_lsn::text, 'never') FROM provwatch.base_pairs`), "no row was written")

	// What writes nothing sends nothing.
	for _, take := range []func() (reconcile.Outcome, error){
		func() (reconcile.Outcome, error) { return writeEnv(bedrock("eu-west-1")) },
		func() (reconcile.Outcome, error) { return acceptDB(bedrock("eu-west-1")) },
	} {
		outcome, err := take()
		require.NoError(t, err)
		require.False(t, outcome.Written())
		require.Empty(t, changed())
	}
	// Nor does what is rolled back.
	_, err = pool.Exec(t.Context(), `
		CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
		CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON public.ai_providers DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	require.NoError(t, err)
	_, err = writeEnv(bedrock("ap-east-1"))
	require.Error(t, err)
	require.Empty(t, changed())
}
