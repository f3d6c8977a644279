package verify_test

import (
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	quiet = slog.New(slog.DiscardHandler)

	boot   = verify.Request{All: true, Source: pubsub.SourceBoot}
	resync = verify.Request{All: true, Source: pubsub.SourceResync}
)

// counter counts what a verifier measures.
type counter struct {
	mu       sync.Mutex
	verified int
	failed   int
	drifting map[drift.Kind]int
	gaps     map[drift.Kind]bool

	notComparable map[string]string
	silenced      map[string]bool
	pending       map[string]drift.Kind
	passed        int
	unmanaged     int
}

func (c *counter) PendingObserved(pending map[string]drift.Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = pending
}

func (c *counter) DriftPassed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed++
}

func (c *counter) SilencedObserved(silenced map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silenced = silenced
}

// seenSilenced returns the providers that drift and were measured to be silenced.
func (c *counter) seenSilenced() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.silenced)
}

func (c *counter) Verified(_ verify.Scope, _ time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified++
	if err != nil {
		c.failed++
	}
}
func (c *counter) AlertPublished(drift.Kind, pubsub.Source) {}
func (c *counter) GapObserved(kind drift.Kind, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gaps == nil {
		c.gaps = map[drift.Kind]bool{}
	}
	c.gaps[kind] = !at.IsZero()
}

// seenGaps returns the kinds that were measured, and whether there was one.
func (c *counter) seenGaps() map[drift.Kind]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.gaps)
}
func (c *counter) NotComparableObserved(reasons map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notComparable = reasons
}
func (c *counter) UnmanagedObserved(rows int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unmanaged = rows
}
func (c *counter) DriftsObserved(drifting map[string]drift.Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drifting = drift.Count(drifting)
}

func openAI(name string, keys ...string) provider.Desired {
	d := provider.Desired{Name: name, Type: provider.OpenAI, BaseURL: "https://h/", Variables: "X"}
	for _, key := range keys {
		d.Keys = append(d.Keys, secret.New(key))
	}
	return d
}

func anthropic(name string) provider.Desired {
	d := openAI(name)
	d.Type = provider.Anthropic
	return d
}

// seeded returns a database in which the providers are seeded, and a verifier
// that has verified them once.
func seeded(t *testing.T, mode drift.CredentialMode, desired ...provider.Desired) (*pgxpool.Pool, *verify.Verifier, *counter) {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, desired, false, quiet)
	require.NoError(t, err)
	var metrics counter
	v := verify.New(pool, desired, mode, quiet, &metrics)
	require.NoError(t, v.Verify(t.Context(), boot))
	require.Empty(t, alerts(t, pool))
	return pool, v, &metrics
}

func exec(t *testing.T, pool *pgxpool.Pool, query string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), query, args...)
	require.NoError(t, err)
}

func alerts(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT concat_ws(' ', seq, kind, provider, source) FROM provwatch.drift_alerts ORDER BY seq`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

func idOf(t *testing.T, pool *pgxpool.Pool, name string) (id uuid.UUID) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT id FROM public.ai_providers WHERE name = $1`, name).Scan(&id))
	return id
}

// takeOver begins a term and makes a verifier record in it.
func takeOver(t *testing.T, pool *pgxpool.Pool, v *verify.Verifier) {
	t.Helper()
	begun, err := store.On(pool).BeginTerm(t.Context(), store.BeginTermParams{Former: currentTerm(t, pool)})
	require.NoError(t, err)
	require.Len(t, begun, 1)
	require.NoError(t, v.TakeOver(t.Context(), begun[0].Term, pubsub.SourceBoot))
}

func currentTerm(t *testing.T, pool *pgxpool.Pool) int64 {
	t.Helper()
	term, err := store.On(pool).CurrentTerm(t.Context())
	require.NoError(t, err)
	return term
}

func value(t *testing.T, pool *pgxpool.Pool, query string) (text string) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), query).Scan(&text))
	return text
}
