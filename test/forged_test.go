//go:build e2e

package test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestForged(t *testing.T) {
	t.Parallel()
	t.Run("NotificationsCostOneVerification", testForgedNotificationsCostOneVerification)
	t.Run("OperatorCannotHideAChange", testForgedOperatorCannotHideAChange)
}

// testForgedNotificationsCostOneVerification lets a role that may
// do nothing but connect notify the worker.
func testForgedNotificationsCostOneVerification(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		w.exec(`INSERT INTO ai_providers (id, type, name, base_url)
			SELECT gen_random_uuid(), 'openai', 'other-' || n, 'https://h/' FROM generate_series(1, 10000) n`)
		_, url := w.role("hostile")
		hostile, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = hostile.Close(context.Background()) })
		for _, forbidden := range []string{
			`SELECT name FROM ai_providers`, `SELECT seq FROM provwatch.drift_alerts`, `SELECT pg_create_logical_replication_slot('x', 'pgoutput')`,
			`INSERT INTO provwatch.drift_state (provider, kind, env_hash, db_hash) VALUES ('openai', 'in_sync', '', '')`,
		} {
			_, err := hostile.Exec(t.Context(), forbidden)
			require.ErrorContains(t, err, "42501", forbidden)
		}
		var ids []string
		require.NoError(t, w.db.QueryRow(t.Context(), `SELECT array_agg(id::text) FROM ai_providers`).Scan(&ids))

		p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
		const verifications, received, coalesced = "provwatch_verification_duration_seconds_count",
			"provwatch_notifications_received_total", "provwatch_notifications_coalesced_total"
		// Of the last of the boot it may be ready before the others.
		atMost := p.metric(verifications) + 1
		before := w.observable()
		for _, forged := range []struct{ name, query string }{
			{"garbage", `SELECT pg_notify('ai_providers_changed', 'garbage ' || n) FROM generate_series(1, $1::int) n`},
			{"ids of providers", `SELECT pg_notify('ai_providers_changed', id) FROM unnest($2::text[]) id LIMIT $1::int`},
			{"other ids", `SELECT pg_notify('ai_providers_changed', gen_random_uuid()::text) FROM generate_series(1, $1::int)`},
		} {
			for _, n := range []int{1, 10_000, 1, 10_000} {
				all, joined := p.metric(received), p.metric(coalesced)
				args := []any{n, ids}[:1+strings.Count(forged.query, "$2")]
				_, err := hostile.Exec(t.Context(), forged.query, args...)
				require.NoError(t, err)
				eventually(t, func() bool { return p.metric(received) == all+float64(n) }, "%d of %s are received", n, forged.name)
				// What coalesced with nothing that waits begins a verification: the first,
				// and all the others together. A notification is counted before it coalesces.
				var began float64
				eventually(t, func() bool {
					began = float64(n) - (p.metric(coalesced) - joined)
					return began <= min(float64(n), 2)
				}, "no more verifications of %d at once of %s", n, forged.name)
				atMost += began
			}
		}
		require.Equal(t, before, w.observable())

		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		// By notifications, the change itself costs one.
		require.LessOrEqual(t, p.metric(verifications), atMost+1)
		require.Zero(t, p.logged("level=ERROR"))
		require.Zero(t, p.logged("verification failed"))
		p.stop()
	})
}

// observable returns what a worker reports of drifts and has audited, and what it
// compares.
func (w *world) observable() []string {
	w.t.Helper()
	w.awaitDelivery()
	var rows []string
	for _, table := range []string{
		"ai_providers", "ai_provider_keys", "provwatch.drift_state", "provwatch.drift_alerts", "provwatch.accepted_drift", "provwatch.audit_outbox",
		"provwatch.audit_log",
	} {
		rows = append(rows, w.strings("SELECT to_jsonb(r)::text FROM "+table+" r ORDER BY 1")...)
	}
	return rows
}

// testForgedOperatorCannotHideAChange sets what keeps the triggers silent in a seed, as
// anyone can, and changes a row.
func testForgedOperatorCannotHideAChange(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		p := w.start(w.twoProviders(), "run").ready()
		operator, err := pgx.Connect(t.Context(), w.as("test_operator"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = operator.Close(context.Background()) })
		_, err = operator.Exec(t.Context(), `SET provwatch.seeding = 'on'; UPDATE ai_providers SET base_url = 'https://evil.example/' WHERE name = 'openai'`)
		require.NoError(t, err)
		w.expectAlerts("changed openai")
		p.stop()
	})
}
