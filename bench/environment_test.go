//go:build bench

package bench

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/schema"
)

// environmentFile writes an environment file of n providers with one or two keys
// each, every tenth a Bedrock one, and returns its path.
func environmentFile(b *testing.B, n int) string {
	b.Helper()
	path := filepath.Join(filepath.Dir(binary), fmt.Sprintf("providers-%d.env", n))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	w := bufio.NewWriter(file)
	for i := range n {
		set := func(field, value string) {
			fmt.Fprintf(w, "CODER_AIBRIDGE_PROVIDER_%d_%s=%s\n", i, field, value)
		}
		set("NAME", providerName(i))
		switch {
		case i%10 == 9:
			set("TYPE", "anthropic")
			set("BEDROCK_BASE_URL", providerURL(i))
			set("BEDROCK_REGION", "eu-central-1")
			set("BEDROCK_ACCESS_KEY", fmt.Sprintf("AKIABENCH%012d", i))
			set("BEDROCK_ACCESS_KEY_SECRET", fmt.Sprintf("bench-secret-%027d", i))
		case i%2 == 0:
			set("TYPE", "openai")
			set("BASE_URL", providerURL(i))
			set("KEY", fmt.Sprintf("sk-bench-%030d", i))
		default:
			set("TYPE", "openai")
			set("BASE_URL", providerURL(i))
			set("KEYS", fmt.Sprintf("sk-bench-%030d,sk-bench-second-%023d", i, i))
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	return path
}

// desiredProviders returns the providers of [environmentFile].
func desiredProviders(b *testing.B, n int) []provider.Desired {
	b.Helper()
	env, err := environment.Read(nil, environmentFile(b, n))
	if err != nil {
		b.Fatal(err)
	}
	if len(env.Providers) != n {
		b.Fatalf("the environment file has %d providers, want %d", len(env.Providers), n)
	}
	return env.Providers
}

// migrate makes the tables, and what a source needs of the schema.
func (d *database) migrate(needs schema.Needs) {
	d.b.Helper()
	if _, _, err := schema.Migrate(context.Background(), d.config().ConnConfig, needs); err != nil {
		d.b.Fatal(err)
	}
}

// config returns the configuration that the worker has of the database.
func (d *database) config() *pgxpool.Config {
	d.b.Helper()
	config, err := postgres.ParseURL(d.dsn())
	if err != nil {
		d.b.Fatal(err)
	}
	return config
}

// pool returns a pool as the worker has it, until the end of the benchmark.
// prepare, which may be nil, is called for each connection.
func (d *database) pool(prepare func(context.Context, *pgx.Conn) error) *pgxpool.Pool {
	d.b.Helper()
	config := d.config()
	asTheWorker := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		err := asTheWorker(ctx, conn)
		if err == nil && prepare != nil {
			err = prepare(ctx, conn)
		}
		return err
	}
	pool, err := postgres.Connector{Config: config, Timeout: patience, Logger: slog.New(slog.DiscardHandler)}.Connect(context.Background())
	if err != nil {
		d.b.Fatal(err)
	}
	d.b.Cleanup(pool.Close)
	return pool
}

// registerEnum makes a connection know the enum of the provider type, as
// COPY needs.
func registerEnum(ctx context.Context, conn *pgx.Conn) error {
	kind, err := conn.LoadType(ctx, "public.ai_provider_type")
	if err != nil {
		return err
	}
	conn.TypeMap().RegisterType(kind)
	return nil
}

// fill puts rows for the providers into the table, without their keys, and what
// a worker records of them, so that everything is in sync and recorded.
func (d *database) fill(desired []provider.Desired, recorded bool) {
	d.b.Helper()
	ctx := context.Background()
	conn := connect(d.b, d.name)
	defer conn.Close(ctx)
	if err := registerEnum(ctx, conn); err != nil {
		d.b.Fatal(err)
	}
	ids := make([]uuid.UUID, len(desired))
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
	}
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"ai_providers"}, []string{"id", "type", "name", "base_url", "settings"},
		pgx.CopyFromSlice(len(desired), func(i int) ([]any, error) {
			p := desired[i]
			return []any{ids[i], string(p.Type), p.Name, p.BaseURL, settingsOf(p)}, nil
		}))
	if err != nil {
		d.b.Fatal(err)
	}
	if recorded {
		d.record(desired, ids)
	}
	execute(d.b, conn, "VACUUM ANALYZE")
	execute(d.b, conn, "CHECKPOINT")
}

// record puts what a worker records of providers that are in sync.
func (d *database) record(desired []provider.Desired, ids []uuid.UUID) {
	d.b.Helper()
	_, err := d.conn.CopyFrom(context.Background(), pgx.Identifier{"provwatch", "drift_state"},
		[]string{"provider", "provider_id", "kind", "env_hash", "db_hash", "observed_at"},
		pgx.CopyFromSlice(len(desired), func(i int) ([]any, error) {
			hash := desired[i].Canonical().Hash()
			return []any{desired[i].Name, ids[i], string(drift.InSync), hash, hash, time.Now()}, nil
		}))
	if err != nil {
		d.b.Fatal(err)
	}
}

// settingsOf returns what the settings column holds, nil for NULL.
func settingsOf(p provider.Desired) *string {
	if p.Bedrock == nil {
		return nil
	}
	text := p.Settings().Reveal()
	return &text
}
