package status_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/observe"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/remedy"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/status"
	"provwatch/internal/verify"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	quiet = slog.New(slog.DiscardHandler)
	full  = verify.Request{All: true, Source: pubsub.SourceBoot}
	every = status.Query{Providers: 100, Alerts: 100, Audit: 100}
)

// everyOfBilling is every, for the target billing of --config.
func everyOfBilling() status.Query {
	query := every
	query.Site.Target = &remedy.Target{Name: "billing", File: "/etc/provwatch.yaml"}
	return query
}

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

// lived is a database with a provider in each state but unverified, and with a disabled row that the environment
// does not name, which is in no state.
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
		VALUES (gen_random_uuid(), 'openai', 'unnamed', 'https://user:password@unnamed.example/', true), (gen_random_uuid(), 'openai', 'unnamed-off', 'https://h/', false)`)
	require.NoError(t, err)
	_, err = reconcile.Resolve(t.Context(), pool, noKeys, environment[:1], accepting)
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context(), full))
	require.NoError(t, audit.NewDeliverer(pool, quiet, nil).Deliver(t.Context()))
	return pool, environment
}

// accepting accepts the database's side.
var accepting = reconcile.Request{
	Side: reconcile.Database, Credentials: drift.IgnoreCredentials, Operator: reconcile.Operator{User: "test", UID: -1}, Reason: "planned",
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
	"deleted deleted deleted deleted=false|true",
	"unmanaged unnamed ",
	"accepted accepted disabled enabled=true|false",
	"in_sync synced ",
}
