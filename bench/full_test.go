//go:build bench

package bench

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/verify"
)

var (
	fullSizes  = flag.String("full-sizes", "1000,10000,100000,1000000", "Full: numbers of providers")
	fullRounds = flag.Int("full-rounds", 30, "Full: rounds of the smallest size; larger ones have fewer, and at least 3")
)

const (
	selectProviders = `SELECT id, name, type, base_url, enabled, deleted, settings, settings_key_id, updated_at FROM public.ai_providers`
	// selectRecorded reads what was recorded of each as well, which a verification
	// needs.
	selectRecorded = `SELECT p.id, p.name, p.type, p.base_url, p.enabled, p.deleted, p.settings, p.settings_key_id, p.updated_at,
		s.kind, s.env_hash, s.db_hash FROM public.ai_providers p LEFT JOIN provwatch.drift_state s ON s.provider = p.name`
)

// BenchmarkFull measures a verification of everything, with everything in sync
// and recorded, beside reading the same columns of the same rows.
func BenchmarkFull(b *testing.B) {
	r := newResult("full")
	sizes := sizes(b, *fullSizes)
	for _, n := range sizes {
		measureFull(b, r, n)
	}
	r.close(b)

	fmt.Printf("\nFull: ms, median [quartiles]; foreign cores %.2f\n\n", r.ForeignCores)
	header("providers", "rounds", "verification", "SELECT", "SELECT, with what was recorded", "verification / SELECT", "verification / SELECT with what was recorded")
	for _, n := range sizes {
		ms := func(arm string) string { return middle("%.1f", r.milliseconds(arm, n)) }
		row(n, len(r.of("SELECT", n, "seconds")), ms("verification"), ms("SELECT"), ms("SELECT, with what was recorded"),
			middle("%.2f", r.ratios("verification", "SELECT", n, "seconds")),
			middle("%.2f", r.ratios("verification", "SELECT, with what was recorded", n, "seconds")))
	}
	fmt.Println()
}

func measureFull(b *testing.B, r *result, n int) {
	b.Helper()
	ctx := context.Background()
	d := emptyDatabase(b, fmt.Sprintf("full_%d", n))
	d.migrate(schema.Needs{Triggers: true})
	desired := desiredProviders(b, n)
	d.fill(desired, true)
	pool := d.pool(nil)
	defer pool.Close()
	verifier := verify.New(pool, desired, drift.IgnoreCredentials, slog.New(slog.DiscardHandler), noMetrics{})
	arms := []timedArm{
		{"verification", func() error {
			return verifier.Verify(ctx, verify.Request{All: true, Source: pubsub.SourceResync})
		}},
		{"SELECT", func() error { return readProviders(ctx, pool, n, selectProviders, scanProvider) }},
		{"SELECT, with what was recorded", func() error {
			return readProviders(ctx, pool, n, selectRecorded, func(rows rowScanner, p *storedProvider) error {
				var kind, env, db *string
				return rows.Scan(&p.ID, &p.Name, &p.Type, &p.BaseURL, &p.Enabled, &p.Deleted, &p.Settings, &p.settingsKeyID, &p.UpdatedAt, &kind, &env, &db)
			})
		}},
	}
	r.time(b, n, roundsOf(*fullRounds, n, 300000), arms)
	profiled(b, fmt.Sprintf("full-%d", n), func() {
		for start := time.Now(); time.Since(start) < 2*time.Second; {
			if err := arms[0].do(); err != nil {
				b.Fatal(err)
			}
		}
	})
	// Everything was in sync and recorded all the time.
	var alerts, recorded int
	if err := d.conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM provwatch.drift_alerts), (SELECT count(DISTINCT xmin::text) FROM provwatch.drift_state)`).
		Scan(&alerts, &recorded); err != nil {
		b.Fatal(err)
	}
	if alerts != 0 || recorded != 1 {
		b.Fatalf("the verifications have written %d alerts and states in %d transactions", alerts, recorded-1)
	}
}

// readProviders reads all rows of the providers, of which there are n.
func readProviders(ctx context.Context, pool *pgxpool.Pool, n int, sql string, scan func(rowScanner, *storedProvider) error) error {
	rows, err := pool.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	count := 0
	var row storedProvider
	for rows.Next() {
		if err := scan(rows, &row); err != nil {
			return err
		}
		count++
	}
	if count != n {
		return fmt.Errorf("there are %d rows, want %d", count, n)
	}
	return rows.Err()
}

// rowScanner is a row that can be scanned.
type rowScanner interface{ Scan(...any) error }

// noMetrics are the metrics of a verifier that nobody looks at.
type noMetrics struct{}

func (noMetrics) Verified(verify.Scope, time.Duration, error) {}
func (noMetrics) AlertPublished(drift.Kind, pubsub.Source)    {}
func (noMetrics) GapObserved(drift.Kind, time.Time)           {}
func (noMetrics) DriftsObserved(map[string]drift.Kind)        {}
func (noMetrics) SilencedObserved(map[string]bool)            {}
func (noMetrics) PendingObserved(map[string]drift.Kind)       {}
func (noMetrics) DriftPassed()                                {}
func (noMetrics) UnmanagedObserved(int)                       {}
func (noMetrics) NotComparableObserved(map[string]string)     {}
