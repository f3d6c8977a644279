package status_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/observe"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/schema"
	"provwatch/internal/status"
	"provwatch/internal/verify"
)

func TestProviders(t *testing.T) {
	t.Parallel()
	t.Run("EachState", testProvidersEachState)
	t.Run("Pages", testProvidersPages)
	t.Run("SeenByAReader", testProvidersSeenByAReader)
	t.Run("UnmanagedRows", testProvidersUnmanagedRows)
	t.Run("UnmanagedRowPending", testProvidersUnmanagedRowPending)
}

func testProvidersEachState(t *testing.T) {
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
				status.Drifted: 3, status.SoftDeleted: 1, status.Unmanaged: 1, status.Unsupported: 0, status.Unverified: 0, status.Accepted: 1, status.InSync: 1,
				status.NotComparable: 0, status.Pending: 0,
			}, s.Counts)
			require.Equal(t, 7, s.Total())
			require.Regexp(t, `^operator:role=\S+,user=test$`, s.Providers[5].AcceptedBy)
			require.Equal(t, "planned", s.Providers[5].AcceptedReason)
			require.Equal(t, "planned", s.Audit[0].Details.Reason)
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

// testProvidersPages checks that pages are bounded, and that each continues where the one
// before ends.
func testProvidersPages(t *testing.T) {
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

// testProvidersSeenByAReader collects as the roles of sql/roles.sql.
func testProvidersSeenByAReader(t *testing.T) {
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

// testProvidersUnmanagedRows checks that an unmanaged row which was alerted drifts, and that one
// which is known does not.
func testProvidersUnmanagedRows(t *testing.T) {
	t.Parallel()
	pool, environment := lived(t)
	v := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	v.LookForUnmanaged(drift.AlertUnmanaged)
	for _, name := range []string{"known", "rogue", "wanted"} {
		_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', $1, 'https://user:password@h.example/')`, name)
		require.NoError(t, err)
		if name != "rogue" { // which is seen together with the next one
			require.NoError(t, v.Verify(t.Context(), full))
		}
	}
	request := accepting
	request.Unmanaged, request.Named = []string{"wanted"}, provider.Names(environment)
	_, err := reconcile.Resolve(t.Context(), pool, noKeys, nil, request)
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context(), full))

	row := " type=|openai base_url=|https://h.example/"
	want := []string{
		livedSummaries[0], livedSummaries[1], livedSummaries[2], "drifted rogue unmanaged" + row, livedSummaries[3],
		"unmanaged known ", livedSummaries[4], livedSummaries[5], "accepted wanted unmanaged" + row, livedSummaries[6],
	}
	for name, e := range map[string]status.Environment{
		"compared":                status.EnvironmentOf(environment),
		"compared, names unknown": {Desired: status.EnvironmentOf(environment).Desired},
		"recorded":                {},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := status.Collect(t.Context(), pool, noKeys, e, every)
			require.NoError(t, err)
			require.Equal(t, want, summaries(s))
			require.Equal(t, []int{4, 2, 2}, []int{s.Counts[status.Drifted], s.Counts[status.Unmanaged], s.Counts[status.Accepted]})
			require.Equal(t, len(want), s.Total())
			require.Equal(t, drift.DatabaseMoved, s.Providers[3].Moved)
			require.Equal(t, "planned", s.Providers[8].AcceptedReason)
			require.Empty(t, s.Providers[8].Moved)

			one := every
			one.Providers, one.States, one.Search = 1, []status.State{status.Drifted, status.Accepted}, "w"
			s, err = status.Collect(t.Context(), pool, noKeys, e, one)
			require.NoError(t, err)
			require.Equal(t, []string{want[8]}, summaries(s))
			require.False(t, s.MoreProviders)
		})
	}

	// The environment begins to name them.
	environment = append(environment, desired("rogue", "wanted")...)
	for name, e := range map[string]status.Environment{
		"names known":   status.EnvironmentOf(environment),
		"names unknown": {Desired: status.EnvironmentOf(environment).Desired},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := status.Collect(t.Context(), pool, noKeys, e, every)
			require.NoError(t, err)
			for _, name := range []string{"rogue", "wanted"} {
				require.Contains(t, summaries(s), "unverified "+name+" changed base_url=https://"+name+".example/v1/|https://h.example/")
			}
		})
	}
}

// testProvidersUnmanagedRowPending has an unmanaged row whose drift is not alerted yet, and then
// silences it.
func testProvidersUnmanagedRowPending(t *testing.T) {
	t.Parallel()
	pool, environment := lived(t)
	v := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
	v.LookForUnmanaged(drift.AlertUnmanaged)
	require.NoError(t, v.Verify(t.Context(), full))
	v.AlertAfter(time.Hour)
	exec := func(query string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), query)
		require.NoError(t, err)
	}
	exec(`INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'rogue', 'https://user:password@h.example/')`)
	require.NoError(t, v.Verify(t.Context(), full))
	const row = " rogue unmanaged type=|openai base_url=|https://h.example/"
	listed := func(at int, state status.State, label string) {
		t.Helper()
		want := slices.Insert(slices.Clone(livedSummaries[:]), at, string(state)+row)
		for name, e := range map[string]status.Environment{
			"compared":                status.EnvironmentOf(environment),
			"compared, names unknown": {Desired: status.EnvironmentOf(environment).Desired},
			"recorded":                {},
		} {
			s, err := status.Collect(t.Context(), pool, noKeys, e, every)
			require.NoError(t, err)
			require.Equal(t, want, summaries(s), name)
			require.Equal(t, len(want), s.Total(), name)
			require.Equal(t, label, s.Providers[at].Label(), name)
			require.Equal(t, drift.DatabaseMoved, s.Providers[at].Moved, name)
			require.NotNil(t, s.Providers[at].Since, name)
		}
	}
	listed(4, status.Pending, "unmanaged, pending")
	s, err := status.Collect(t.Context(), pool, noKeys, status.EnvironmentOf(append(slices.Clone(environment), desired("rogue")...)), every)
	require.NoError(t, err)
	require.Contains(t, summaries(s), "unverified rogue changed base_url=https://rogue.example/v1/|https://h.example/")
	exec(`UPDATE provwatch.pending_rows SET since = since - interval '1 hour'`)
	exec(`INSERT INTO provwatch.silences (provider, author, reason, begins_at, ends_at) VALUES ('rogue', '', '', now(), now() + interval '1 hour')`)
	require.NoError(t, v.Verify(t.Context(), full))
	listed(3, status.Drifted, "unmanaged, alerted, silenced")
}

// TestUnsupportedTypes checks that a provider whose type the enum lacks has a state of its
// own, for a command and for a worker. A row of its name is not unmanaged.
func TestUnsupportedTypes(t *testing.T) {
	t.Parallel()
	pool, environment := lived(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'alien', 'https://alien.example/')`)
	require.NoError(t, err)
	for _, name := range []string{"alien", "stranger"} {
		environment = append(environment, provider.Desired{Name: name, Type: provider.Azure, BaseURL: "https://" + name + ".invalid/"})
	}
	known := status.EnvironmentOf(environment[:len(environment)-2])
	for name, e := range map[string]status.Environment{
		"of the environment": status.EnvironmentOf(environment),
		"of the worker":      {Desired: known.Desired, Unsupported: []string{"alien", "stranger"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := status.Collect(t.Context(), pool, noKeys, e, every)
			require.NoError(t, err)
			require.Equal(t, 2, s.Counts[status.Unsupported])
			require.Equal(t, 1, s.Counts[status.Unmanaged])
			require.Equal(t, len(s.Providers), s.Total())
			require.Subset(t, summaries(s), []string{"unsupported alien ", "unsupported stranger "})
			one := every
			one.Providers, one.States = 1, []status.State{status.Unsupported}
			s, err = status.Collect(t.Context(), pool, noKeys, e, one)
			require.NoError(t, err)
			require.Equal(t, []string{"unsupported alien "}, summaries(s))
			require.True(t, s.MoreProviders)
			one.After = s.Next
			s, err = status.Collect(t.Context(), pool, noKeys, e, one)
			require.NoError(t, err)
			require.Equal(t, []string{"unsupported stranger "}, summaries(s))
			require.False(t, s.MoreProviders)
		})
	}
}

// TestExpiredAcceptance checks that a drift whose acceptance has expired is shown as a drift
// before a worker has verified it. Recorded states alone show it too.
func TestExpiredAcceptance(t *testing.T) {
	t.Parallel()
	for kind, change := range map[string]string{"disabled": `enabled = false`, "deleted": `deleted = true`} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			pool, environment := lived(t)
			_, err := pool.Exec(t.Context(), `UPDATE public.ai_providers SET `+change+` WHERE name = 'synced'`)
			require.NoError(t, err)
			v := verify.New(pool, environment, drift.IgnoreCredentials, quiet, observe.NewMetrics("test"))
			require.NoError(t, v.Verify(t.Context(), full))
			request := accepting
			request.Expires.After = time.Hour
			_, err = reconcile.Resolve(t.Context(), pool, noKeys, environment[5:], request)
			require.NoError(t, err)
			require.NoError(t, v.Verify(t.Context(), full))
			ways := map[string]status.Environment{"compared": status.EnvironmentOf(environment), "recorded": {}}
			for name, e := range ways {
				s, err := status.Collect(t.Context(), pool, noKeys, e, every)
				require.NoError(t, err)
				require.Equal(t, 2, s.Counts[status.Accepted], name)
				require.WithinRange(t, *s.Providers[len(s.Providers)-1].AcceptedUntil, time.Now(), time.Now().Add(time.Hour), name)
			}
			_, err = pool.Exec(t.Context(), `UPDATE provwatch.accepted_drift SET expires_at = now() WHERE provider = 'synced'`)
			require.NoError(t, err)
			for name, e := range ways {
				s, err := status.Collect(t.Context(), pool, noKeys, e, every)
				require.NoError(t, err)
				require.Equal(t, 1, s.Counts[status.Accepted], name)
				require.Zero(t, s.Counts[status.InSync], name)
				require.Equal(t, 5, s.Counts[status.Drifted]+s.Counts[status.SoftDeleted], name)
				require.Equal(t, len(s.Providers), s.Total(), name)
				state := map[string]string{"disabled": "drifted", "deleted": "deleted"}[kind]
				require.Condition(t, func() bool {
					return slices.ContainsFunc(summaries(s), func(line string) bool { return strings.HasPrefix(line, state+" synced "+kind) })
				}, "%s: %v", name, summaries(s))
			}
		})
	}
}
