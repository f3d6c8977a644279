package seed_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func openAI(name, baseURL string, keys ...string) provider.Desired {
	d := provider.Desired{Name: name, Type: provider.OpenAI, BaseURL: baseURL, Variables: "CODER_AIBRIDGE_PROVIDER_0_*"}
	for _, key := range keys {
		d.Keys = append(d.Keys, secret.New(key))
	}
	return d
}

func anthropic(name, baseURL string) provider.Desired {
	d := openAI(name, baseURL)
	d.Type = provider.Anthropic
	return d
}

func bedrockIn(name, region string) provider.Desired {
	return provider.Desired{Name: name, Type: provider.Anthropic, Variables: "CODER_AIBRIDGE_PROVIDER_1_*", Bedrock: &provider.Bedrock{
		Region: region, Model: "m", SmallFastModel: "s", AccessKey: secret.New("AKIA-test"), AccessKeySecret: secret.New("aws-secret"),
	}}
}

func lines(t *testing.T, pool *pgxpool.Pool, query string) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), query)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// contents returns every row of every table that a seed can write.
func contents(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	return lines(t, pool, `
		SELECT 'provider ' || to_jsonb(r)::text FROM public.ai_providers r
		UNION ALL SELECT 'key ' || to_jsonb(r)::text FROM public.ai_provider_keys r
		UNION ALL SELECT 'outbox ' || to_jsonb(r)::text FROM provwatch.audit_outbox r
		UNION ALL SELECT 'state ' || to_jsonb(r)::text FROM provwatch.drift_state r
		UNION ALL SELECT 'alert ' || to_jsonb(r)::text FROM provwatch.drift_alerts r
		UNION ALL SELECT 'accepted ' || to_jsonb(r)::text FROM provwatch.accepted_drift r
		ORDER BY 1`)
}

// listen returns a function that gives all payloads that arrived on the channel
// up to its call.
func listen(t *testing.T, config *pgxpool.Config, channel pubsub.Channel) func() []string {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), "LISTEN "+string(channel))
	require.NoError(t, err)
	return func() []string {
		// What was committed before the marker is delivered before it.
		_, err := conn.Exec(t.Context(), "SELECT pg_notify($1, 'marker')", string(channel))
		require.NoError(t, err)
		var payloads []string
		for {
			n, err := conn.WaitForNotification(t.Context())
			require.NoError(t, err)
			if n.Payload == "marker" {
				return payloads
			}
			payloads = append(payloads, n.Payload)
		}
	}
}
