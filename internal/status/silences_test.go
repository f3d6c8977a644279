package status_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/status"
)

// TestSilences collects as a reader, while silences last that match some providers.
func TestSilences(t *testing.T) {
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
	collected := func() (silences, providers []string, s status.Status) {
		t.Helper()
		s, err := status.Collect(t.Context(), reader, noKeys, status.Environment{}, every)
		require.NoError(t, err)
		for _, one := range s.Silences {
			silences = append(silences, fmt.Sprintf("%d of %s by %s: %s", one.ID, one.Provider, one.Author, one.Reason))
		}
		for _, p := range s.Providers {
			if p.SilencedUntil != nil {
				providers = append(providers, p.Name+": "+p.Label())
			}
		}
		return silences, providers, s
	}
	silences, providers, s := collected()
	require.NotNil(t, s.Silences, "an empty list in JSON")
	require.Empty(t, silences)
	require.Empty(t, providers)

	_, err = pool.Exec(t.Context(), `
		INSERT INTO provwatch.silences (provider, author, reason, begins_at, ends_at) VALUES
			('changed', 'operator:x', 'a new proxy', now(), now() + interval '2 hours'), ('changed', 'operator:x', '', now(), now() + interval '1 hour'),
			('synced', 'operator:x', '', now(), now() + interval '3 hours'), ('deleted', 'operator:x', '', now() - interval '2 hours', now() - interval '1 hour');
		UPDATE provwatch.drift_alerts SET silenced = true WHERE provider = 'changed'`)
	require.NoError(t, err)
	silences, providers, s = collected()
	require.Equal(t, []string{"2 of changed by operator:x: ", "1 of changed by operator:x: a new proxy", "3 of synced by operator:x: "}, silences)
	require.False(t, s.MoreSilences)
	require.Equal(t, []string{"changed: changed, silenced", "synced: in sync"}, providers)
	for _, p := range s.Providers {
		if p.Name == "changed" {
			require.True(t, s.Silences[1].Ends.Equal(*p.SilencedUntil), "the last one to end")
		}
	}
	for _, a := range s.Alerts {
		require.Equal(t, a.Provider == "changed", a.Silenced)
	}

	_, err = pool.Exec(t.Context(), `INSERT INTO provwatch.silences (provider, author, reason, begins_at, ends_at)
		SELECT '*', '', '', now(), now() + make_interval(hours => n) FROM generate_series(10, 10 + $1::int) n`, status.MaxPage)
	require.NoError(t, err)
	silences, providers, s = collected()
	require.Len(t, silences, status.MaxPage)
	require.True(t, s.MoreSilences)
	require.Len(t, providers, len(s.Providers))
}
