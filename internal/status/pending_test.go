package status_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/observe"
	"provwatch/internal/status"
	"provwatch/internal/verify"
)

// TestPending has drifts that are not alerted yet: of a provider in sync, of one whose acceptance
// does not hold any more, and of one without a record.
func TestPending(t *testing.T) {
	t.Parallel()
	pool, environment := lived(t)
	_, err := pool.Exec(t.Context(), `
		UPDATE public.ai_providers SET deleted = true WHERE name = 'synced';
		UPDATE public.ai_providers SET enabled = true, base_url = 'https://other.example/v1/' WHERE name = 'accepted'`)
	require.NoError(t, err)
	environment = append(environment, desired("added")...)
	v := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	v.AlertAfter(time.Hour)
	require.NoError(t, v.Verify(t.Context(), full))
	want := []string{
		livedSummaries[0], livedSummaries[1], livedSummaries[2], livedSummaries[3],
		"pending accepted changed base_url=https://accepted.example/v1/|https://other.example/v1/",
		"pending added missing",
		"pending synced deleted deleted=false|true",
		livedSummaries[4],
	}
	ways := map[string]status.Environment{
		"compared":                status.EnvironmentOf(environment),
		"compared, names unknown": {Desired: status.EnvironmentOf(environment).Desired},
		"recorded":                {},
	}
	collect := func(name string) status.Status {
		t.Helper()
		s, err := status.Collect(t.Context(), pool, noKeys, ways[name], every)
		require.NoError(t, err)
		return s
	}
	for name := range ways {
		s := collect(name)
		require.Equal(t, want, summaries(s), name)
		require.Equal(t, map[status.State]int{
			status.Drifted: 3, status.NotComparable: 0, status.SoftDeleted: 1, status.Pending: 3, status.Unmanaged: 1, status.Unsupported: 0,
			status.Unverified: 0, status.Accepted: 0, status.InSync: 0,
		}, s.Counts, name)
		require.Equal(t, "soft-deleted, pending", s.Providers[6].Label(), name)
		require.Equal(t, drift.DatabaseMoved, s.Providers[6].Moved, name)
		require.WithinRange(t, *s.Providers[6].Since, time.Now().Add(-time.Minute), time.Now().Add(time.Minute), name)
		require.Len(t, s.Alerts, 4, "%s: none of them is alerted", name)

		paged := every
		paged.Providers, paged.States = 2, []status.State{status.Pending}
		s, err := status.Collect(t.Context(), pool, noKeys, ways[name], paged)
		require.NoError(t, err)
		require.Equal(t, want[4:6], summaries(s), name)
		require.True(t, s.MoreProviders, name)
		paged.After = s.Next
		s, err = status.Collect(t.Context(), pool, noKeys, ways[name], paged)
		require.NoError(t, err)
		require.Equal(t, want[6:7], summaries(s), name)
	}

	// It has ended, and no worker has looked at it since.
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET deleted = false WHERE name = 'synced'`)
	require.NoError(t, err)
	s := collect("compared")
	require.Equal(t, "in_sync synced ", summary(s.Providers[6]))
	require.Equal(t, 2, s.Counts[status.Pending])
	require.Equal(t, 1, s.Counts[status.InSync])

	require.NoError(t, v.Verify(t.Context(), full))
	for name := range ways {
		s := collect(name)
		require.Equal(t, 2, s.Counts[status.Pending], name)
		require.Equal(t, 1, s.Counts[status.InSync], name)
	}
}
