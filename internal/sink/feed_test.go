package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// tally counts what a runner measures, as "what sink stream".
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (m *tally) add(what, sink, stream string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts == nil {
		m.counts = map[string]int{}
	}
	m.counts[what+" "+sink+" "+stream]++
}

func (m *tally) of(what string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[what]
}

func (m *tally) SinkConfigured(string, string)      {}
func (m *tally) SinkDelivered(sink, stream string)  { m.add("delivered", sink, stream) }
func (m *tally) SinkFailed(sink, stream string)     { m.add("failed", sink, stream) }
func (m *tally) SinkDeadLetter(sink, stream string) { m.add("dead", sink, stream) }
func (m *tally) SinkGap(sink, stream string)        { m.add("gap", sink, stream) }
func (m *tally) SinkStored(sink, stream string)     { m.add("stored", sink, stream) }
func (m *tally) SinkLag(sink, stream string, events int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts == nil {
		m.counts = map[string]int{}
	}
	m.counts["lag "+sink+" "+stream] = int(events)
}

// feed is a database whose events are delivered.
type feed struct {
	t       *testing.T
	pool    *pgxpool.Pool
	metrics tally
	logger  *slog.Logger

	mu        sync.Mutex
	announced []string
	deposed   bool
	seen      map[uuid.UUID]int64 // the last seq, by epoch
}

// Confirm implements [Term].
func (f *feed) Confirm(context.Context, store.DBTX) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deposed {
		return errors.New("another worker may be the leader by now")
	}
	return nil
}

// AlertsSeen implements [Observer].
func (f *feed) AlertsSeen(epoch uuid.UUID, seq int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[uuid.UUID]int64{}
	}
	f.seen[epoch] = max(f.seen[epoch], seq)
}

// lastSeen returns the last seq that was seen of an epoch.
func (f *feed) lastSeen(epoch uuid.UUID) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[epoch]
}

func newFeed(t *testing.T) *feed {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	return &feed{t: t, pool: pool, logger: quiet}
}

// run runs sinks until the test ends or the function that is returned is called.
// Their cursors are made, where they are new, at the start.
func (f *feed) run(giveUp time.Duration, sinks ...Sink) (*Runner, func()) {
	f.t.Helper()
	options := Options{Sinks: sinks, Cluster: "fleet 7", FromStart: true, GiveUp: giveUp}
	require.NoError(f.t, Register(f.t.Context(), f.pool, options))
	runner := NewRunner(f.pool, options, f.logger, &f.metrics, f, f)
	runner.shared.firstRetry = time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		runner.Run(ctx, f)
	}()
	stop := func() { cancel(); <-done }
	f.t.Cleanup(stop)
	return runner, stop
}

// PublishIn implements [Publisher].
func (f *feed) PublishIn(_ context.Context, _ store.DBTX, event pubsub.Event, reason string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.announced = append(f.announced, string(event)+": "+reason)
	return nil
}

func (f *feed) announcements() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.announced)
}

// lost adds up the events of the gaps that were announced.
func (f *feed) lost() int {
	f.t.Helper()
	sum := 0
	for _, text := range f.announcements() {
		var sink string
		var lost int
		_, err := fmt.Sscanf(text, "sink_gap: sink %s %d of", &sink, &lost)
		require.NoError(f.t, err, text)
		sum += lost
	}
	return sum
}

// alert records alerts, each "kind provider".
func (f *feed) alert(alerts ...string) {
	f.t.Helper()
	for _, alert := range alerts {
		kind, name, _ := strings.Cut(alert, " ")
		fields := "[]"
		if kind == string(drift.Changed) || kind == string(drift.Disabled) {
			// Longer than a notification may be.
			fields = fmt.Sprintf(`[{"name": "base_url", "env": "https://a.example/", "db": "https://b.example/%s"}]`, strings.Repeat("x", 9000))
		}
		_, err := f.pool.Exec(f.t.Context(), `
			WITH next AS (UPDATE provwatch.alert_counter SET last_seq = last_seq + 1 RETURNING last_seq, epoch), state AS (
				INSERT INTO provwatch.drift_state (provider, kind, env_hash, db_hash) VALUES ($3, $5, '', '')
				ON CONFLICT (provider) DO UPDATE SET kind = excluded.kind)
			INSERT INTO provwatch.drift_alerts (seq, id, kind, provider, fields, env_hash, db_hash, source, detected_at, epoch, moved)
			SELECT last_seq, $1, $2, $3, $4::jsonb, '', '', 'notify', now(), epoch, CASE $2 WHEN 'changed' THEN 'database' ELSE '' END FROM next`,
			uuid.New(), kind, name, fields, map[bool]string{true: "in_sync", false: kind}[kind == string(drift.Resolved)])
		require.NoError(f.t, err)
	}
}

// rowAlert records alerts about an unmanaged row, each "kind provider".
func (f *feed) rowAlert(row uuid.UUID, alerts ...string) {
	f.t.Helper()
	for _, alert := range alerts {
		kind, name, _ := strings.Cut(alert, " ")
		query := `
			WITH next AS (UPDATE provwatch.alert_counter SET last_seq = last_seq + 1 RETURNING last_seq, epoch), state AS (
				INSERT INTO provwatch.unmanaged_rows (provider_id, provider, kind, alert_seq) SELECT $4, $3, 'unmanaged', last_seq FROM next)`
		if kind == string(drift.Resolved) {
			query = `
			WITH next AS (UPDATE provwatch.alert_counter SET last_seq = last_seq + 1 RETURNING last_seq, epoch), state AS (
				DELETE FROM provwatch.unmanaged_rows WHERE provider_id = $4)`
		}
		_, err := f.pool.Exec(f.t.Context(), query+`
			INSERT INTO provwatch.drift_alerts (seq, id, kind, provider, provider_id, unmanaged, fields, env_hash, db_hash, source, detected_at, epoch)
			SELECT last_seq, $1, $2, $3, $4, true, CASE $2 WHEN 'unmanaged' THEN '[{"name": "base_url", "env": "", "db": "https://h/"}]'::jsonb ELSE '[]' END, '', '', 'notify', now(), epoch FROM next`, uuid.New(), kind, name, row)
		require.NoError(f.t, err)
	}
}

// gap records an alert that is about no provider, and was found some time ago.
func (f *feed) gap(kind drift.Kind, certain *bool, ago time.Duration) {
	f.t.Helper()
	_, err := f.pool.Exec(f.t.Context(), `
		WITH next AS (UPDATE provwatch.alert_counter SET last_seq = last_seq + 1 RETURNING last_seq, epoch)
		INSERT INTO provwatch.drift_alerts (seq, id, kind, provider, fields, env_hash, db_hash, source, detected_at, epoch, reason, certain)
		SELECT last_seq, $1, $2, '', '[]', '', '', 'wal', $4, epoch, 'it is gone', $3 FROM next`,
		uuid.New(), string(kind), certain, time.Now().Add(-ago))
	require.NoError(f.t, err)
}

// audit stages and delivers audit entries of providers.
func (f *feed) audit(names ...string) {
	f.t.Helper()
	require.NoError(f.t, f.stage(names...))
	require.NoError(f.t, audit.NewDeliverer(f.pool, quiet, nil).Deliver(f.t.Context()))
}

func (f *feed) stage(names ...string) error {
	return pgx.BeginFunc(f.t.Context(), f.pool, func(tx pgx.Tx) error {
		if err := store.On(tx).LockSeed(f.t.Context(), store.SeedLock); err != nil {
			return err
		}
		var entries []audit.Entry
		for _, name := range names {
			entries = append(entries, audit.Entry{
				ID: uuid.New(), OccurredAt: time.Now(), Actor: audit.System, Action: audit.ProviderCreated, Provider: name, ProviderID: uuid.New(),
				Details: audit.Details{Type: "openai", BaseURL: "https://api.example/" + strings.Repeat("x", 9000)},
			})
		}
		return audit.Stage(f.t.Context(), tx, entries)
	})
}

func (f *feed) cursor(sink string, stream Stream) int64 {
	f.t.Helper()
	stored, err := store.On(f.pool).ReadSinkCursor(f.t.Context(), store.ReadSinkCursorParams{Sink: sink, Stream: string(stream)})
	require.NoError(f.t, err)
	return stored.Seq
}

func (f *feed) letters() []DeadLetter {
	f.t.Helper()
	state, err := Inspect(f.t.Context(), f.pool)
	require.NoError(f.t, err)
	return state.DeadLetters
}

func eventually(t *testing.T, condition func() bool, message string, args ...any) {
	t.Helper()
	waittest.Until(t, condition, message, args...)
}

// received is a CloudEvent as a consumer sees it.
type received struct {
	cloudevent.Event
	stream   Stream
	provider string
	kind     string // of an alert, the action of an audit entry
}

// parse takes a CloudEvent apart, and checks it by its specification and its
// payload by the schema.
func parse(body []byte) (received, error) {
	var r received
	if err := json.Unmarshal(body, &r.Event); err != nil {
		return r, err
	}
	if err := r.Validate(); err != nil {
		return r, err
	}
	parts := strings.Split(r.Type(), ".")
	if len(parts) != 4 || r.SpecVersion() != "1.0" || r.Source() != "urn:provwatch:fleet%207" || r.DataContentType() != "application/json" {
		return r, fmt.Errorf("not one of ours: %s", r.Event)
	}
	r.stream = Stream(parts[2])
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(filepath.Join("..", "..", "docs", "schemas", parts[2]+".json"))
	if err != nil {
		return r, err
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(r.Data())))
	if err != nil {
		return r, err
	}
	if err := schema.Validate(value); err != nil {
		return r, err
	}
	var payload struct {
		ID, Provider, Kind, Action string
		Truncated                  bool
	}
	if err := json.Unmarshal(r.Data(), &payload); err != nil {
		return r, err
	}
	if payload.ID != r.ID() || payload.Provider != r.Subject() || payload.Truncated {
		return r, fmt.Errorf("the envelope is not that of the payload: %s", r.Event)
	}
	r.provider, r.kind = payload.Provider, payload.Kind+payload.Action
	return r, nil
}
