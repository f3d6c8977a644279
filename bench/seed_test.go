//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/audit"
	"provwatch/internal/provider"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
	"provwatch/internal/store"
)

var (
	seedSizes    = flag.String("seed-sizes", "10,1000,100000", "Seed: numbers of providers")
	seedRounds   = flag.Int("seed-rounds", 30, "Seed: rounds of the smallest size; larger ones have fewer, and at least 3")
	seedSlow     = flag.Int("seed-slow", 20000, "Seed: from this size on there is one round row by row")
	seedOneByOne = flag.Int("seed-rows", 100000, "Seed: the largest size that is seeded row by row as well")
)

// sizes parses a list of numbers.
func sizes(b *testing.B, list string) (numbers []int) {
	b.Helper()
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// roundsOf returns how many rounds a size gets: most when it is small.
func roundsOf(most, n, affordable int) int { return max(3, min(most, affordable/n)) }

// BenchmarkSeed measures a seed of empty tables beside the same rows inserted one
// by one, and beside COPY of them.
func BenchmarkSeed(b *testing.B) {
	d := emptyDatabase(b, "seed")
	// The tables and nothing on them: neither triggers nor a publication.
	d.migrate(schema.Needs{})
	pool := d.pool(registerEnum)
	r := newResult("seed")
	sizes := sizes(b, *seedSizes)
	for _, n := range sizes {
		measureSeed(d, pool, r, n)
	}
	r.close(b)

	fmt.Printf("\nSeed: ms, median [quartiles]; foreign cores %.2f\n\n", r.ForeignCores)
	header("providers", "rounds", "seed", "row by row", "COPY", "row by row / seed", "seed / COPY", "parsing the environment file")
	for _, n := range sizes {
		ms := func(arm string) string { return middle("%.1f", r.milliseconds(arm, n)) }
		row(n, len(r.of("seed", n, "seconds")), ms("seed"), ms("row by row"), ms("COPY"),
			middle("%.2f", r.ratios("row by row", "seed", n, "seconds")), middle("%.2f", r.ratios("seed", "COPY", n, "seconds")), ms("parse"))
	}
	fmt.Println()
}

func measureSeed(d *database, pool *pgxpool.Pool, r *result, n int) {
	b := d.b
	b.Helper()
	ctx := context.Background()
	desired := desiredProviders(b, n)
	rows := rowsOf(b, desired)
	arms := []timedArm{
		{"seed", func() error {
			_, err := seed.Seed(ctx, pool, desired, false, slog.New(slog.DiscardHandler))
			return err
		}},
		{"row by row", func() error { return seedRowByRow(ctx, pool, desired) }},
		{"COPY", func() error { return copySeed(ctx, pool, rows) }},
	}
	for round, i := range inTurn(roundsOf(*seedRounds, n, 20000), len(arms)) {
		arm := arms[i]
		if arm.name == "row by row" && (n > *seedOneByOne || n >= *seedSlow && round != 0) {
			continue
		}
		if took := d.seedEmpty(pool, rows, arm.do); round >= 0 {
			r.add(arm.name, n, "seconds", took.Seconds())
		}
	}
	for range 3 {
		start := time.Now()
		desiredProviders(b, n)
		r.add("parse", n, "seconds", time.Since(start).Seconds())
	}
	profiled(b, fmt.Sprintf("seed-%d", n), func() { d.seedEmpty(pool, rows, arms[0].do) })
	profiled(b, fmt.Sprintf("parse-%d", n), func() { desiredProviders(b, n) })
}

// seedEmpty empties the tables and returns how long it takes to put the rows there.
func (d *database) seedEmpty(pool *pgxpool.Pool, rows seedRows, do func() error) time.Duration {
	b := d.b
	b.Helper()
	ctx := context.Background()
	execute(b, d.conn, "TRUNCATE public.ai_providers, ai_provider_keys, provwatch.audit_outbox")
	execute(b, d.conn, "CHECKPOINT")
	// A seed is the first that a connection does: nothing is prepared yet.
	pool.Reset()
	if err := pool.Ping(ctx); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := do(); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	var have [3]int
	if err := d.conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM public.ai_providers), (SELECT count(*) FROM public.ai_provider_keys),
		(SELECT count(*) FROM provwatch.audit_outbox)`).Scan(&have[0], &have[1], &have[2]); err != nil {
		b.Fatal(err)
	}
	if want := [3]int{len(rows.providers), len(rows.keys), len(rows.entries)}; have != want {
		b.Fatalf("there are %d providers, keys and audit entries, want %d", have, want)
	}
	return took
}

// seedRowByRow does what a seed does, one statement at a time: each provider is
// looked up by name and inserted, then each of its keys, then the audit entries.
func seedRowByRow(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired) error {
	const (
		lookUp         = `SELECT id, name, type, base_url, enabled, deleted, settings, settings_key_id, updated_at FROM public.ai_providers WHERE name = $1`
		insertProvider = `INSERT INTO public.ai_providers (id, type, name, base_url, settings) VALUES ($1, $2, $3, $4, $5)`
		insertKey      = `INSERT INTO public.ai_provider_keys (id, provider_id, api_key) VALUES ($1, $2, $3)`
		insertEntry    = `INSERT INTO provwatch.audit_outbox (id, occurred_at, actor, action, provider, provider_id, details) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	)
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", store.SeedLock); err != nil {
			return err
		}
		now := time.Now()
		for _, p := range desired {
			found, err := tx.Query(ctx, lookUp, p.Name)
			if err != nil {
				return err
			}
			exists := found.Next()
			found.Close()
			if err := found.Err(); err != nil {
				return err
			}
			if exists {
				return errors.New("the tables are not empty")
			}
			rows, err := providerRows(p, now)
			if err != nil {
				return err
			}
			for _, statement := range []struct {
				sql  string
				rows [][]any
			}{{insertProvider, rows.providers}, {insertKey, rows.keys}, {insertEntry, rows.entries}} {
				for _, args := range statement.rows {
					if _, err := tx.Exec(ctx, statement.sql, args...); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// seedRows are the rows of a seed.
type seedRows struct{ providers, keys, entries [][]any }

func rowsOf(b *testing.B, desired []provider.Desired) (all seedRows) {
	b.Helper()
	now := time.Now()
	for _, p := range desired {
		rows, err := providerRows(p, now)
		if err != nil {
			b.Fatal(err)
		}
		all.providers = append(all.providers, rows.providers...)
		all.keys = append(all.keys, rows.keys...)
		all.entries = append(all.entries, rows.entries...)
	}
	return all
}

// providerRows returns the rows of one provider, as seed.Seed writes them.
func providerRows(p provider.Desired, now time.Time) (rows seedRows, err error) {
	ids := make([]uuid.UUID, 2+2*len(p.Keys))
	for i := range ids {
		if ids[i], err = uuid.NewV7(); err != nil {
			return rows, err
		}
	}
	id := ids[0]
	entry := func(entryID uuid.UUID, action audit.Action, details audit.Details) error {
		encoded, err := json.Marshal(details)
		rows.entries = append(rows.entries, []any{entryID, now, audit.System, string(action), p.Name, id, encoded})
		return err
	}
	rows.providers = [][]any{{id, string(p.Type), p.Name, p.BaseURL, settingsOf(p)}}
	keys := len(p.Keys)
	err = entry(ids[1], audit.ProviderCreated, audit.Details{
		Type: string(p.Type), BaseURL: provider.DisplayURL(p.BaseURL), Region: p.Canonical().BedrockRegion, Keys: &keys,
	})
	for i, key := range p.Keys {
		keyID := ids[2+2*i]
		rows.keys = append(rows.keys, []any{keyID, id, key.Reveal()})
		err = errors.Join(err, entry(ids[3+2*i], audit.KeyCreated, audit.Details{KeyID: keyID.String(), Masked: key.Mask()}))
	}
	return rows, err
}

// copySeed copies the rows into the tables, in one transaction.
func copySeed(ctx context.Context, pool *pgxpool.Pool, rows seedRows) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, table := range []struct {
			name    pgx.Identifier
			columns []string
			rows    [][]any
		}{
			{pgx.Identifier{"public", "ai_providers"}, []string{"id", "type", "name", "base_url", "settings"}, rows.providers},
			{pgx.Identifier{"public", "ai_provider_keys"}, []string{"id", "provider_id", "api_key"}, rows.keys},
			{pgx.Identifier{"provwatch", "audit_outbox"}, []string{"id", "occurred_at", "actor", "action", "provider", "provider_id", "details"}, rows.entries},
		} {
			if _, err := tx.CopyFrom(ctx, table.name, table.columns, pgx.CopyFromRows(table.rows)); err != nil {
				return err
			}
		}
		return nil
	})
}
