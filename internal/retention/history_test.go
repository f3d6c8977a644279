package retention

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

const (
	day  = 24 * time.Hour
	keep = 90 * day
	old  = 100 * day // of a row that is older than keep
)

// history is a database with alerts and audit entries.
type history struct {
	t    testing.TB
	pool *pgxpool.Pool
}

func newHistory(t testing.TB) *history {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	return &history{t, pool}
}

func (h *history) exec(statement string, args ...any) {
	h.t.Helper()
	_, err := h.pool.Exec(context.Background(), statement, args...)
	require.NoError(h.t, err)
}

// alert records alerts of an age, each "kind provider".
func (h *history) alert(age time.Duration, alerts ...string) {
	h.t.Helper()
	for _, alert := range alerts {
		kind, name, _ := strings.Cut(alert, " ")
		h.exec(`
			WITH next AS (UPDATE provwatch.alert_counter SET last_seq = last_seq + 1 RETURNING last_seq, epoch)
			INSERT INTO provwatch.drift_alerts (seq, id, kind, provider, fields, env_hash, db_hash, source, detected_at, epoch)
			SELECT last_seq, $1, $2, $3, '[]', '', '', 'notify', now() - make_interval(secs => $4), epoch FROM next`,
			uuid.New(), kind, name, age.Seconds())
	}
}

// rowAlert records alerts of an age about unmanaged rows, each "kind provider row": the row has
// the id of that number.
func (h *history) rowAlert(age time.Duration, alerts ...string) {
	h.t.Helper()
	for _, alert := range alerts {
		words := strings.Fields(alert)
		h.exec(`
			WITH next AS (UPDATE provwatch.alert_counter SET last_seq = last_seq + 1 RETURNING last_seq, epoch)
			INSERT INTO provwatch.drift_alerts (seq, id, kind, provider, provider_id, unmanaged, fields, env_hash, db_hash, source, detected_at, epoch)
			SELECT last_seq, $1, $2, $3, ('00000000-0000-0000-0000-00000000000' || $5::text)::uuid, true, '[]', '', '', 'notify', now() - make_interval(secs => $4), epoch FROM next`,
			uuid.New(), words[0], words[1], age.Seconds(), words[2])
	}
}

// entry delivers audit entries of an age.
func (h *history) entry(age time.Duration, names ...string) {
	h.t.Helper()
	for _, name := range names {
		h.exec(`
			WITH next AS (UPDATE provwatch.audit_counter SET last_seq = last_seq + 1 RETURNING last_seq)
			INSERT INTO provwatch.audit_log (id, seq, occurred_at, actor, action, provider, details, delivered_at)
			SELECT $1, last_seq, now(), 'system', 'provider.create', $2, '{}', now() - make_interval(secs => $3) FROM next`,
			uuid.New(), name, age.Seconds())
	}
}

// cursor sets how far a sink is.
func (h *history) cursor(sink, stream string, seq int64) {
	h.t.Helper()
	h.exec(`INSERT INTO provwatch.sink_cursors (sink, stream, seq) VALUES ($1, $2, $3)
		ON CONFLICT (sink, stream) DO UPDATE SET seq = excluded.seq`, sink, stream, seq)
}

// letter makes a dead letter of the row of a seq.
func (h *history) letter(stream string, seq int64) {
	h.t.Helper()
	table := map[string]string{"drift": "drift_alerts", "audit": "audit_log"}[stream]
	h.exec(`INSERT INTO provwatch.sink_dead_letters (sink, stream, seq, event_id, provider, reason, attempts)
		SELECT 'webhook', $1, seq, id, provider, 'refused', 1 FROM provwatch.`+table+` WHERE seq = $2`, stream, seq)
}

// prune prunes once, and returns the report.
func (h *history) prune() Report {
	h.t.Helper()
	report, err := Prune(context.Background(), h.pool, Request{OlderThan: keep, Actor: "operator:test"})
	require.NoError(h.t, err)
	return report
}

func (h *history) list(query string, args ...any) []string {
	h.t.Helper()
	rows, err := h.pool.Query(context.Background(), query, args...)
	require.NoError(h.t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(h.t, err)
	return list
}

// alerts returns the alerts that are left, each "seq kind provider".
func (h *history) alerts() []string {
	h.t.Helper()
	return h.list(`SELECT rtrim(format('%s %s %s', seq, kind, provider)) FROM provwatch.drift_alerts ORDER BY seq`)
}

// entries returns the audit entries that are left, each "seq provider".
func (h *history) entries() []string {
	h.t.Helper()
	return h.list(`SELECT format('%s %s', seq, provider) FROM provwatch.audit_log ORDER BY seq`)
}

// pruned returns the seq up to which a stream was pruned.
func (h *history) pruned(stream string) int64 {
	h.t.Helper()
	seq, err := store.On(h.pool).ReadPruned(context.Background(), stream)
	require.NoError(h.t, err)
	return seq
}

// staged returns the audit entries that were staged, each "actor action provider", and the
// details of the last.
func (h *history) staged() (entries []string, details map[string]any) {
	h.t.Helper()
	entries = h.list(`SELECT format('%s %s %s', actor, action, provider) FROM provwatch.audit_outbox ORDER BY seq`)
	for _, text := range h.list(`SELECT details::text FROM provwatch.audit_outbox ORDER BY seq DESC LIMIT 1`) {
		require.NoError(h.t, json.Unmarshal([]byte(text), &details))
	}
	return entries, details
}

// many returns n alerts of as many providers, each of which is over.
func many(n int) (alerts []string) {
	for i := range n {
		alerts = append(alerts, fmt.Sprint("changed p", i), fmt.Sprint("resolved p", i))
	}
	return alerts
}
