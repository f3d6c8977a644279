package reconcile_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/seed"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	t.Run("AllOrNone", testResolveAllOrNone)
	t.Run("EveryDrift", testResolveEveryDrift)
	t.Run("Reason", testResolveReason)
	t.Run("End", testResolveEnd)
}

// drifted returns a database in which the providers "changed", "disabled", "lost" and
// "unread" are so, and "same" is in sync; and what the environment asks for.
func drifted(t *testing.T) (*pgxpool.Pool, []provider.Desired) {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	var desired []provider.Desired
	for _, name := range []string{"changed", "disabled", "lost", "same"} {
		desired = append(desired, provider.Desired{Name: name, Type: provider.OpenAI, BaseURL: "https://" + name + ".invalid/", Variables: "X"})
	}
	unread := bedrock("us-east-1")
	unread.Name = "unread"
	desired = append(desired, unread)
	_, err := seed.Seed(t.Context(), pool, desired, false, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `
		UPDATE public.ai_providers SET base_url = 'https://other.invalid/' WHERE name = 'changed';
		UPDATE public.ai_providers SET enabled = false WHERE name = 'disabled';
		DELETE FROM public.ai_providers WHERE name = 'lost';
		UPDATE public.ai_providers SET settings = 'no JSON' WHERE name = 'unread';
		DELETE FROM provwatch.audit_outbox`)
	require.NoError(t, err)
	return pool, desired
}

// everything is all that a resolution can write.
const everything = `SELECT to_jsonb(p)::text FROM public.ai_providers p
	UNION ALL SELECT to_jsonb(a)::text FROM provwatch.accepted_drift a
	UNION ALL SELECT to_jsonb(o)::text FROM provwatch.audit_outbox o ORDER BY 1`

var byTest = reconcile.Operator{User: "test", UID: -1}

// testResolveAllOrNone checks that nothing is written where one of several drifts cannot be
// ended, and that the error names each such provider.
func testResolveAllOrNone(t *testing.T) {
	t.Parallel()
	pool, desired := drifted(t)
	before := list(t, pool, everything)
	for _, dryRun := range []bool{true, false} {
		_, err := reconcile.Resolve(t.Context(), pool, noKeys, desired,
			reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials, Operator: byTest, DryRun: dryRun})
		require.ErrorContains(t, err, "resolve 5 providers, all or none: ")
		require.ErrorContains(t, err, `provider "lost": it has no row that could be kept`)
		require.ErrorContains(t, err, `provider "unread": its row cannot be compared and is not accepted`)
		require.NotContains(t, err.Error(), `provider "changed"`)
		require.Equal(t, before, list(t, pool, everything))
	}
	// A write that fails takes those before it with it.
	_, err := pool.Exec(t.Context(), `
		CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON public.ai_providers FOR EACH ROW WHEN (OLD.name = 'disabled') EXECUTE FUNCTION public.refuse()`)
	require.NoError(t, err)
	_, err = reconcile.Resolve(t.Context(), pool, noKeys, desired[:3],
		reconcile.Request{Side: reconcile.Environment, Credentials: drift.IgnoreCredentials, Operator: byTest})
	require.Error(t, err)
	require.Equal(t, before, list(t, pool, everything))
}

// testResolveEveryDrift checks that what does not drift is left out, that a provider that
// cannot be compared is reported, and that a dry run has the same outcomes.
func testResolveEveryDrift(t *testing.T) {
	t.Parallel()
	pool, desired := drifted(t)
	request := reconcile.Request{Side: reconcile.Environment, Credentials: drift.IgnoreCredentials, Operator: byTest, Drifting: true, DryRun: true}
	summaries := func() (lines []string) {
		t.Helper()
		outcomes, err := reconcile.Resolve(t.Context(), pool, noKeys, desired, request)
		require.NoError(t, err)
		for _, o := range outcomes {
			line := o.Provider + " " + string(o.Kind)
			for _, f := range o.Fields {
				line += " " + f.Name + "=" + f.Env + "|" + f.DB
			}
			lines = append(lines, line)
			require.Equal(t, o.Kind == drift.NotComparable, o.NotComparable != "")
		}
		return lines
	}
	before := list(t, pool, everything)
	want := []string{
		"changed changed base_url=https://changed.invalid/|https://other.invalid/",
		"disabled disabled enabled=true|false",
		"lost missing type=openai| base_url=https://lost.invalid/| api_keys=0|",
		"unread not_comparable",
	}
	require.Equal(t, want, summaries())
	require.Equal(t, before, list(t, pool, everything), "a dry run writes nothing")
	request.DryRun = false
	require.Equal(t, want, summaries())
	require.Equal(t, []string{"unread not_comparable"}, summaries())
	require.Equal(t, []string{"changed", "disabled", "lost"}, list(t, pool, `SELECT provider FROM provwatch.audit_outbox ORDER BY provider`))

	// A drift that is accepted is left out.
	_, err := pool.Exec(t.Context(), `UPDATE public.ai_providers SET enabled = false WHERE name = 'same'`)
	require.NoError(t, err)
	request.Side = reconcile.Database
	require.Equal(t, []string{"same disabled enabled=true|false", "unread not_comparable"}, summaries())
	request.Side = reconcile.Environment
	require.Equal(t, []string{"unread not_comparable"}, summaries())
	require.Equal(t, "f", value(t, pool, `SELECT enabled::text::char FROM public.ai_providers WHERE name = 'same'`))
}

// testResolveReason checks that the reason and the role of the session are recorded with
// what is accepted and with each audit entry.
func testResolveReason(t *testing.T) {
	t.Parallel()
	pool, desired := drifted(t)
	role := value(t, pool, `SELECT session_user`)
	for _, side := range []reconcile.Side{reconcile.Database, reconcile.Environment} {
		_, err := reconcile.Resolve(t.Context(), pool, noKeys, desired[:2], reconcile.Request{
			Side: side, Credentials: drift.IgnoreCredentials, Operator: reconcile.Operator{User: "alice", UID: 1000}, Reason: "change " + string(side),
		})
		require.NoError(t, err)
		if side == reconcile.Database {
			require.Equal(t, []string{"changed change db", "disabled change db"}, list(t, pool, `SELECT provider || ' ' || reason FROM provwatch.accepted_drift ORDER BY 1`))
		}
	}
	actor := "operator:role=" + role + ",user=alice,uid=1000"
	require.Equal(t, []string{
		actor + " drift.accept changed change db", actor + " drift.accept disabled change db",
		actor + " provider.update changed change env", actor + " provider.update disabled change env",
	}, list(t, pool, `SELECT concat_ws(' ', actor, action, provider, details ->> 'reason') FROM provwatch.audit_outbox ORDER BY seq`))
	require.Empty(t, list(t, pool, `SELECT provider FROM provwatch.accepted_drift`))
}

// testResolveEnd gives acceptances an end, by the database's clock, and then another one.
func testResolveEnd(t *testing.T) {
	t.Parallel()
	pool, desired := drifted(t)
	at := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Microsecond)
	resolve := func(end reconcile.End, dryRun bool) (reconcile.Outcome, error) {
		return resolveOne(t.Context(), pool, noKeys, desired[0], reconcile.Request{Side: reconcile.Database, Credentials: drift.IgnoreCredentials, Expires: end, DryRun: dryRun})
	}
	recorded := func() string {
		return value(t, pool, `SELECT coalesce(to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '') FROM provwatch.accepted_drift`)
	}
	_, err := resolve(reconcile.End{At: time.Now().Add(-time.Hour)}, false)
	require.ErrorContains(t, err, "the acceptance would end at ")
	require.Empty(t, recorded())
	for _, dryRun := range []bool{true, false} {
		outcome, err := resolve(reconcile.End{At: at}, dryRun)
		require.NoError(t, err)
		require.Equal(t, at, outcome.AcceptedUntil)
		require.False(t, outcome.AlreadyAccepted)
	}
	require.Equal(t, at.Format("2006-01-02T15:04:05.000000"), recorded())
	outcome, err := resolve(reconcile.End{At: at}, false)
	require.NoError(t, err)
	require.True(t, outcome.AlreadyAccepted)
	outcome, err = resolve(reconcile.End{After: 7 * 24 * time.Hour}, false)
	require.NoError(t, err)
	require.True(t, outcome.Written(), "it has another end")
	require.Equal(t, outcome.AcceptedUntil.Format("2006-01-02T15:04:05.000000"), recorded())
	require.Equal(t, "7 days", value(t, pool, `SELECT date_trunc('day', justify_hours(expires_at - accepted_at + interval '1 minute'))::text FROM provwatch.accepted_drift`))
	outcome, err = resolve(reconcile.End{}, false)
	require.NoError(t, err)
	require.True(t, outcome.Written(), "it has no end any more")
	require.Empty(t, recorded())
	require.Equal(t, []string{at.Format(time.RFC3339Nano), ""}, list(t, pool, `SELECT coalesce(details ->> 'expires', '') FROM provwatch.audit_outbox WHERE seq IN (
		SELECT min(seq) FROM provwatch.audit_outbox UNION SELECT max(seq) FROM provwatch.audit_outbox) ORDER BY seq`))
}
