//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
	"provwatch/internal/workertest"
)

// listen gathers payloads until the test ends.
func (w *world) listen() {
	w.t.Helper()
	channels := []string{string(pubsub.DriftAlerts), string(pubsub.Seeds), string(pubsub.AuditEntries), string(pubsub.Statuses), string(pubsub.ProvidersChanged), string(markers)}
	workertest.Listen(w.t, w.url, channels, func(n *pgconn.Notification) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notes[pubsub.Channel(n.Channel)] = append(w.notes[pubsub.Channel(n.Channel)], n.Payload)
		if n.Channel != string(pubsub.ProvidersChanged) && n.Channel != string(markers) {
			fmt.Fprintln(&w.emitted, n.Payload)
		}
	})
}

// payloads returns what has arrived on the channel so far. What was committed can still be on its
// way.
func (w *world) payloads(channel pubsub.Channel) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.notes[channel])
}

// markers is a channel of the test's own.
const markers pubsub.Channel = "test_markers"

// published returns what was published on the channel by transactions that were committed before
// the call, and perhaps more.
func (w *world) published(channel pubsub.Channel) []string {
	w.t.Helper()
	marker := uuid.NewString()
	w.exec(`SELECT pg_notify($1, $2)`, string(markers), marker)
	eventually(w.t, func() bool { return slices.Contains(w.payloads(markers), marker) }, "what was committed before has arrived")
	return w.payloads(channel)
}

// alerts returns all alerts in order, each as "kind provider", or "kind" when it is about
// no provider.
func (w *world) alerts() []string {
	w.t.Helper()
	return w.strings(`SELECT rtrim(kind || ' ' || provider) FROM provwatch.drift_alerts ORDER BY seq`)
}

// expectAlerts waits until exactly these alerts have been published, as [world.alerts] has
// them, and checks that the rows, their gapless seq and the
// notifications agree.
func (w *world) expectAlerts(want ...string) {
	w.t.Helper()
	eventually(w.t, func() bool { return len(w.alerts()) >= len(want) }, "alerts %q, have %q", want, lazily(w.alerts))
	require.Equal(w.t, want, w.alerts())
	require.Equal(w.t, len(want), w.count(`SELECT coalesce(max(seq), 0) FROM provwatch.drift_alerts`), "seq has gaps")
	eventually(w.t, func() bool { return len(w.payloads(pubsub.DriftAlerts)) >= len(want) }, "notifications of %d alerts", len(want))
	var notified []string
	for i, payload := range w.payloads(pubsub.DriftAlerts) {
		var alert pubsub.DriftAlert
		require.NoError(w.t, json.Unmarshal([]byte(payload), &alert))
		require.EqualValues(w.t, i+1, alert.Seq)
		notified = append(notified, strings.TrimSpace(string(alert.Kind)+" "+alert.Provider))
	}
	require.Equal(w.t, want, notified, "notified on %s", pubsub.DriftAlerts)
}

// expectRows waits until the database has exactly these alerts, each as "kind provider", in this order
// for each provider, numbered without a gap. A change from before the connection was lost may be found by a
// verification after another provider's next change was read from the WAL. Notifications of those
// before the failover are the other server's.
func (w *world) expectRows(want ...string) {
	w.t.Helper()
	eventually(w.t, func() bool { return len(w.drifts()) >= len(want) }, "alerts %q, have %q", want, lazily(w.drifts))
	w.requireRows(want...)
	require.Zero(w.t, w.count(`SELECT max(seq) - count(*) FROM provwatch.drift_alerts`), "seq has no gaps")
}

// requireRows is [world.expectRows] of what the database has now.
func (w *world) requireRows(want ...string) {
	w.t.Helper()
	require.Equal(w.t, byProvider(want), byProvider(w.drifts()))
}

// byProvider returns alerts, each "kind provider", in the order of the names, and those of a provider
// in the order given: no other order is promised between providers of different transactions.
func byProvider(alerts []string) []string {
	provider := func(alert string) string { _, name, _ := strings.Cut(alert, " "); return name }
	return slices.SortedStableFunc(slices.Values(alerts), func(a, b string) int { return strings.Compare(provider(a), provider(b)) })
}

// drifts returns the alerts about providers, as [world.alerts] has them.
func (w *world) drifts() []string {
	w.t.Helper()
	return w.strings(`SELECT kind || ' ' || provider FROM provwatch.drift_alerts WHERE provider <> '' ORDER BY seq`)
}

// alertsBefore returns the alerts published so far, without next if it is
// already the last of them.
func (w *world) alertsBefore(next string) []string {
	w.t.Helper()
	alerts := w.alerts()
	if n := len(alerts); n > 0 && alerts[n-1] == next {
		return alerts[:n-1]
	}
	return alerts
}

// expectAuditOfTwoProviders checks that the log holds exactly the entries of a
// seed of the providers openai and anthropic, in order per provider, and that
// each was published once.
func (w *world) expectAuditOfTwoProviders() {
	w.t.Helper()
	w.awaitDelivery()
	for _, name := range []string{"anthropic", "openai"} {
		require.Equal(w.t, []string{"provider.create", "provider_key.create"},
			w.strings(`SELECT action FROM provwatch.audit_log WHERE provider = $1 ORDER BY seq`, name))
	}
	require.Equal(w.t, 4, w.count(`SELECT count(*) FROM provwatch.audit_log`))
	eventually(w.t, func() bool { return len(w.payloads(pubsub.AuditEntries)) == 4 }, "four entries are published")
}

// delivered returns the result of a query of one text column, once the worker that
// runs has delivered what is staged.
func (w *world) delivered(query string) []string {
	w.t.Helper()
	w.awaitDelivery()
	return w.strings(query)
}

// awaitDelivery waits until the worker that runs has delivered what is staged.
func (w *world) awaitDelivery() {
	w.t.Helper()
	eventually(w.t, func() bool { return w.count(`SELECT count(*) FROM provwatch.audit_outbox`) == 0 }, "the outbox is empty")
}
