package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func entry(provider string, n int) audit.Entry {
	return audit.Entry{
		ID: uuid.New(), OccurredAt: time.Now(), Actor: audit.System, Action: audit.ProviderCreated,
		Provider: provider, Details: audit.Details{Keys: &n},
	}
}

func stage(t *testing.T, pool *pgxpool.Pool, entries ...audit.Entry) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return audit.Stage(t.Context(), tx, entries)
	}))
}

func count(t *testing.T, pool *pgxpool.Pool, query string) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), query).Scan(&n))
	return n
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	t.Run("OnceAndInOrder", testDeliveryOnceAndInOrder)
	t.Run("RepeatedID", testDeliveryRepeatedID)
	t.Run("RetriesUntilStopped", testDeliveryRetriesUntilStopped)
}

func testDeliveryOnceAndInOrder(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	listening, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	defer func() { _ = listening.Close(context.Background()) }()
	_, err = listening.Exec(t.Context(), "LISTEN "+string(pubsub.AuditEntries))
	require.NoError(t, err)

	const providers, perProvider = 5, 500
	var entries []audit.Entry
	for n := range perProvider {
		for p := range providers {
			entries = append(entries, entry(fmt.Sprintf("p-%d", p), n))
		}
	}
	stage(t, pool, entries...)
	var group sync.WaitGroup
	failed := make([]error, 8)
	for i := range failed {
		group.Go(func() { failed[i] = audit.NewDeliverer(pool, quiet, nil).Deliver(t.Context()) })
	}
	group.Wait()
	require.NoError(t, errors.Join(failed...))
	require.Zero(t, count(t, pool, `SELECT count(*) FROM provwatch.audit_outbox`))
	require.Equal(t, len(entries), count(t, pool, `SELECT count(*) FROM provwatch.audit_log`))

	waiting := waittest.Context(t)
	next := map[string]int{}
	for range entries {
		n, err := listening.WaitForNotification(waiting)
		require.NoError(t, err)
		var published pubsub.AuditEntry
		require.NoError(t, json.Unmarshal([]byte(n.Payload), &published))
		var details audit.Details
		require.NoError(t, json.Unmarshal(published.Details, &details))
		require.Equal(t, next[published.Provider], *details.Keys, "order of provider %s", published.Provider)
		next[published.Provider]++
	}
	_, err = pool.Exec(t.Context(), "SELECT pg_notify($1, 'marker')", string(pubsub.AuditEntries))
	require.NoError(t, err)
	n, err := listening.WaitForNotification(waiting)
	require.NoError(t, err)
	require.Equal(t, "marker", n.Payload, "no entry is published twice")
}

func testDeliveryRepeatedID(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	e := entry("p", 1)
	stage(t, pool, e)
	deliverer := audit.NewDeliverer(pool, quiet, nil)
	require.NoError(t, deliverer.Deliver(t.Context()))
	forged := entry("p", 2)
	forged.ID = e.ID
	stage(t, pool, forged, entry("q", 3))
	require.NoError(t, deliverer.Deliver(t.Context()))
	require.Zero(t, count(t, pool, `SELECT count(*) FROM provwatch.audit_outbox`))
	require.Equal(t, 1, count(t, pool, `SELECT (details ->> 'keys')::int FROM provwatch.audit_log WHERE provider = 'p' AND seq = 1`), "it stays as it was")
	require.Equal(t, 3, count(t, pool, `SELECT (details ->> 'keys')::int FROM provwatch.audit_log WHERE seq = 2`), "no seq is left out")
	require.Equal(t, 2, count(t, pool, `SELECT last_seq FROM provwatch.audit_counter`))
}

// recorder records what a deliverer measures.
type recorder struct {
	mu        sync.Mutex
	outbox    audit.Outbox
	delivered int
}

func (r *recorder) OutboxObserved(o audit.Outbox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outbox = o
}

func (r *recorder) EntriesDelivered(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delivered += n
}

func (r *recorder) get() (audit.Outbox, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outbox, r.delivered
}

// host is an [audit.Host] that does nothing.
type host struct{}

func (host) Delivered(context.Context, error) {}

func testDeliveryRetriesUntilStopped(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := pool.Exec(t.Context(), `ALTER TABLE provwatch.audit_log ADD CONSTRAINT refuse CHECK (false) NOT VALID`)
	require.NoError(t, err)
	var metrics recorder
	deliverer := audit.NewDeliverer(pool, quiet, &metrics)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		deliverer.Run(ctx, host{})
	}()
	stage(t, pool, entry("p", 1), entry("p", 2))
	deliverer.Wake()
	waittest.Until(t, func() bool { o, _ := metrics.get(); return o.Depth == 2 && !o.Oldest.IsZero() }, "two entries are in the outbox")
	require.Zero(t, count(t, pool, `SELECT count(*) FROM provwatch.audit_log`))
	_, err = pool.Exec(t.Context(), `ALTER TABLE provwatch.audit_log DROP CONSTRAINT refuse`)
	require.NoError(t, err)
	waittest.Until(t, func() bool { o, n := metrics.get(); return o.Depth == 0 && n == 2 }, "both are delivered")
	require.Equal(t, 2, count(t, pool, `SELECT count(*) FROM provwatch.audit_log`))
	cancel()
	<-ended
}
