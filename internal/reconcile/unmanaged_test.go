package reconcile_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
)

// everythingOfRows is [everything], with the acceptances of unmanaged rows.
const everythingOfRows = `SELECT * FROM (` + everything + `) AS others UNION ALL SELECT to_jsonb(a)::text FROM provwatch.accepted_rows a ORDER BY 1`

// TestAcceptUnmanaged accepts rows that the environment does not name, beside the drift of a
// provider.
func TestAcceptUnmanaged(t *testing.T) {
	t.Parallel()
	pool, desired := drifted(t)
	named := provider.Names(desired)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'rogue', 'https://u:q7zleak@h/v1'), (gen_random_uuid(), 'openai', 'known', 'https://h/');
		INSERT INTO public.ai_providers (id, type, name, base_url, settings) VALUES (gen_random_uuid(), 'anthropic', 'locked', 'https://h/', 'no JSON');
		INSERT INTO public.ai_providers (id, type, name, base_url, enabled) VALUES (gen_random_uuid(), 'openai', 'off', 'https://h/', false);
		INSERT INTO public.ai_providers (id, type, name, base_url, deleted) VALUES (gen_random_uuid(), 'openai', 'deleted', 'https://h/', true);
		INSERT INTO provwatch.unmanaged_rows (provider_id, provider, kind, alert_seq) SELECT id, name, 'unmanaged', 1 FROM public.ai_providers WHERE name = 'rogue'`)
	require.NoError(t, err)
	resolve := func(desired []provider.Desired, request reconcile.Request) ([]reconcile.Outcome, error) {
		request.Side, request.Credentials, request.Operator, request.Named = reconcile.Database, drift.IgnoreCredentials, byTest, named
		return reconcile.Resolve(t.Context(), pool, noKeys, desired, request)
	}
	before := list(t, pool, everythingOfRows)

	for _, dryRun := range []bool{true, false} {
		_, err = resolve(desired[:1], reconcile.Request{Unmanaged: []string{"rogue", "off", "deleted", "nobody", "\xff"}, DryRun: dryRun})
		var unknown *reconcile.UnknownError
		require.ErrorAs(t, err, &unknown)
		require.Equal(t, []string{"off", "deleted", "nobody", "\xff"}, unknown.Names)
		require.Equal(t, []string{"known", "locked", "rogue"}, unknown.Rows)
		_, err = resolve(desired[:1], reconcile.Request{Unmanaged: []string{"rogue", "locked"}, DryRun: dryRun})
		require.ErrorContains(t, err, `resolve 3 providers, all or none: provider "locked": its row cannot be read and is not accepted`)
		require.Equal(t, before, list(t, pool, everythingOfRows))
	}
	_, err = resolve(nil, reconcile.Request{Unmanaged: []string{"locked"}})
	require.ErrorContains(t, err, `resolve unmanaged provider "locked": its row cannot be read`)

	// The environment of the workers names it, and that of the command does not.
	_, err = pool.Exec(t.Context(), `INSERT INTO provwatch.base_pairs (provider, env_hash, env_type, env_base_url, env_bedrock_region, db_hash, db_type, db_base_url, db_bedrock_region, origin)
		SELECT 'known', '', '', '', '', '', '', '', '', 'agreement'`)
	require.NoError(t, err)
	_, err = resolve(nil, reconcile.Request{Unmanaged: []string{"known", "rogue"}})
	var managed *reconcile.ManagedError
	require.ErrorAs(t, err, &managed)
	require.Equal(t, []string{"known"}, managed.Names)
	require.Empty(t, list(t, pool, `SELECT provider FROM provwatch.accepted_rows`))
	_, err = pool.Exec(t.Context(), `UPDATE provwatch.base_pairs SET named = false WHERE provider = 'known'`)
	require.NoError(t, err)

	hints, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer hints.Release()
	_, err = hints.Exec(t.Context(), `LISTEN ai_providers_changed`)
	require.NoError(t, err)

	request := reconcile.Request{Unmanaged: []string{"rogue"}, Reason: "ticket 12", Expires: reconcile.End{After: time.Hour}}
	planned := request
	planned.DryRun = true
	foretold, err := resolve(desired[:1], planned)
	require.NoError(t, err)
	require.Equal(t, before, list(t, pool, everythingOfRows))
	outcomes, err := resolve(desired[:1], request)
	require.NoError(t, err)
	require.Len(t, outcomes, 2)
	require.Equal(t, "changed", outcomes[0].Provider)
	rogue := outcomes[1]
	require.Equal(t, []any{"rogue", drift.Unmanaged, true}, []any{rogue.Provider, rogue.Kind, rogue.Written()})
	require.Equal(t, []drift.Field{{Name: "type", DB: "openai"}, {Name: "base_url", DB: "https://h/v1"}}, rogue.Fields)
	require.WithinDuration(t, time.Now().Add(time.Hour), rogue.AcceptedUntil, time.Minute)
	require.Equal(t, rogue.Fields, foretold[1].Fields)

	notified, err := hints.Conn().WaitForNotification(t.Context())
	require.NoError(t, err)
	require.Equal(t, outcomes[0].ProviderID.String(), notified.Payload)
	notified, err = hints.Conn().WaitForNotification(t.Context())
	require.NoError(t, err)
	require.Equal(t, rogue.ProviderID.String(), notified.Payload)

	var name, hash, by, reason string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT provider, db_hash, accepted_by, reason FROM provwatch.accepted_rows`).Scan(&name, &hash, &by, &reason))
	require.Equal(t, []string{"rogue", "ticket 12"}, []string{name, reason})
	require.Regexp(t, "^hmac:[0-9a-f]{64}$", hash)
	require.Contains(t, by, "user=test")
	require.Equal(t, []string{"drift.accept unmanaged ticket 12 " + hash}, list(t, pool,
		`SELECT concat_ws(' ', action, details ->> 'kind', details ->> 'reason', details ->> 'db_hash') FROM provwatch.audit_outbox WHERE provider = 'rogue'`))

	// It is accepted already, as long as it ends when it did.
	request.Expires = reconcile.End{At: rogue.AcceptedUntil}
	outcomes, err = resolve(nil, request)
	require.NoError(t, err)
	require.True(t, outcomes[0].AlreadyAccepted)
	require.False(t, outcomes[0].Written())
	outcomes, err = resolve(nil, reconcile.Request{Unmanaged: []string{"rogue"}})
	require.NoError(t, err)
	require.True(t, outcomes[0].Written())
	require.Zero(t, outcomes[0].AcceptedUntil)

	// A row that is not alerted can be accepted by its name.
	outcomes, err = resolve(nil, reconcile.Request{Unmanaged: []string{"known"}})
	require.NoError(t, err)
	require.True(t, outcomes[0].Written())
}

// TestAcceptEveryUnmanaged accepts all drifts: with them the unmanaged rows that were alerted,
// and no known one.
func TestAcceptEveryUnmanaged(t *testing.T) {
	t.Parallel()
	pool, desired := drifted(t)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO public.ai_providers (id, type, name, base_url) SELECT gen_random_uuid(), 'openai', name, 'https://h/' FROM unnest('{alerted,known,new}'::text[]) AS name;
		INSERT INTO public.ai_providers (id, type, name, base_url, settings) VALUES (gen_random_uuid(), 'anthropic', 'locked', 'https://h/', 'no JSON');
		INSERT INTO provwatch.unmanaged_rows (provider_id, provider, kind)
		SELECT id, name, CASE name WHEN 'known' THEN 'known' ELSE 'unmanaged' END FROM public.ai_providers WHERE name IN ('alerted', 'known', 'locked')`)
	require.NoError(t, err)
	request := reconcile.Request{Credentials: drift.IgnoreCredentials, Operator: byTest, Drifting: true, Named: provider.Names(desired)}
	for _, c := range []struct {
		side reconcile.Side
		want []string
	}{
		{reconcile.Environment, []string{"changed", "disabled", "lost", "unread"}},
		{reconcile.Database, []string{"alerted", "locked", "unread"}},
		{reconcile.Database, []string{"locked", "unread"}},
	} {
		request.Side = c.side
		outcomes, err := reconcile.Resolve(t.Context(), pool, noKeys, desired, request)
		require.NoError(t, err)
		var names []string
		for _, o := range outcomes {
			names = append(names, o.Provider)
			require.Equal(t, o.Provider == "locked" || o.Provider == "unread", o.NotComparable != "", o.Provider)
		}
		require.Equal(t, c.want, names)
	}
}

// TestAcceptEveryUnmanagedFails has rows of which the acceptances cannot be recorded, where the environment
// names one provider: the error names the rows, and not the provider.
func TestAcceptEveryUnmanagedFails(t *testing.T) {
	t.Parallel()
	pool, desired := drifted(t)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'rogue', 'https://h/'), (gen_random_uuid(), 'openai', 'other', 'https://h/');
		INSERT INTO provwatch.unmanaged_rows (provider_id, provider, kind) SELECT id, name, 'unmanaged' FROM public.ai_providers WHERE name IN ('rogue', 'other');
		CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused' USING ERRCODE = 'insufficient_privilege'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON provwatch.accepted_rows FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	require.NoError(t, err)
	request := reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials, Operator: byTest, Drifting: true, Named: provider.Names(desired)}
	_, err = reconcile.Resolve(t.Context(), pool, noKeys, desired[:1], request)
	require.ErrorContains(t, err, `resolve all drifts, all or none: accept the unmanaged rows "other", "rogue": ERROR: refused`)
	require.Empty(t, list(t, pool, `SELECT provider FROM provwatch.accepted_drift`))

	one := request
	one.Drifting, one.Unmanaged = false, []string{"rogue"}
	_, err = reconcile.Resolve(t.Context(), pool, noKeys, nil, one)
	require.ErrorContains(t, err, `resolve unmanaged provider "rogue": accept the unmanaged rows "rogue": ERROR: refused`)

	_, err = pool.Exec(t.Context(), `DROP TRIGGER refuse ON provwatch.accepted_rows;
		CREATE TRIGGER refuse BEFORE INSERT ON provwatch.accepted_drift FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	require.NoError(t, err)
	_, err = reconcile.Resolve(t.Context(), pool, noKeys, desired[:1], request)
	require.ErrorContains(t, err, `resolve all drifts, all or none: provider "changed": `)
	require.Empty(t, list(t, pool, `SELECT provider FROM provwatch.accepted_rows`))
}

// TestAcceptUnmanagedBeside has another program write to the row meanwhile: the row is
// accepted as it is then.
func TestAcceptUnmanagedBeside(t *testing.T) {
	t.Parallel()
	pool, desired := drifted(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'rogue', 'https://h/')`)
	require.NoError(t, err)
	accept := func() error {
		_, err := reconcile.Resolve(t.Context(), pool, noKeys, nil, reconcile.Request{
			Side: reconcile.Database, Credentials: drift.IgnoreCredentials, Operator: byTest, Unmanaged: []string{"rogue"}, Named: provider.Names(desired),
		})
		return err
	}
	require.NoError(t, during(t, pool, `UPDATE public.ai_providers SET base_url = 'https://other/' WHERE name = 'rogue'`, accept))
	require.Equal(t, provider.Canonical{Type: provider.OpenAI, BaseURL: "https://other/"}.Hash(), value(t, pool, `SELECT db_hash FROM provwatch.accepted_rows`))
	var unknown *reconcile.UnknownError
	require.ErrorAs(t, during(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'rogue'`, accept), &unknown)
	require.Equal(t, "1", value(t, pool, `SELECT count(*)::text FROM provwatch.audit_outbox WHERE provider = 'rogue'`))

	// Meanwhile a gateway can insert a key of the row, and write to a former row of the name.
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET enabled = true WHERE name = 'rogue';
		INSERT INTO public.ai_providers (id, type, name, base_url, deleted) VALUES (gen_random_uuid(), 'openai', 'rogue', 'https://h/', true)`)
	require.NoError(t, err)
	var key, former error
	accepting := through(t, pool, &around{before: "name: acceptRow", doBefore: func() {
		_, key = pool.Exec(t.Context(), `SELECT FROM public.ai_providers WHERE name = 'rogue' AND NOT deleted FOR KEY SHARE NOWAIT`)
		_, former = pool.Exec(t.Context(), `SELECT FROM public.ai_providers WHERE name = 'rogue' AND deleted FOR UPDATE NOWAIT`)
	}})
	_, err = reconcile.Resolve(t.Context(), accepting, noKeys, nil, reconcile.Request{
		Side: reconcile.Database, Credentials: drift.IgnoreCredentials, Operator: byTest, Unmanaged: []string{"rogue"}, Reason: "again", Expires: reconcile.End{After: time.Hour},
	})
	require.NoError(t, err)
	require.NoError(t, key)
	require.NoError(t, former)
}
