package pgtest

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/schema"
)

// NewPool creates a database as [NewDatabase] does, migrates it, and returns a
// pool on it with its configuration. The pool is closed at the end of the test.
func NewPool(t testing.TB) (*pgxpool.Pool, *pgxpool.Config) {
	t.Helper()
	return newPool(t, NewDatabaseFrom(t, "migrated", migrate))
}

// NewGatewayPool is NewPool of a database of [NewGatewayDatabase].
func NewGatewayPool(t testing.TB) (*pgxpool.Pool, *pgxpool.Config) {
	t.Helper()
	return newPool(t, NewDatabaseFrom(t, "gateway_migrated", func(databaseURL string) error {
		return errors.Join(FillWithGatewayTables(databaseURL), migrate(databaseURL))
	}))
}

// NewPool is [NewPool] on this cluster.
func (c *Cluster) NewPool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	url := c.NewDatabase(t)
	if err := migrate(url); err != nil {
		t.Fatal(err)
	}
	return PoolOn(t, url)
}

// PoolOn returns a pool of a database unchanged, such as a restored one.
func PoolOn(t testing.TB, databaseURL string) *pgxpool.Pool {
	t.Helper()
	pool, _ := newPool(t, databaseURL)
	return pool
}

func migrate(databaseURL string) error {
	config, err := postgres.ParseURL(databaseURL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_, _, err = schema.Migrate(ctx, config.ConnConfig, schema.Needs{Triggers: true})
	return err
}

func newPool(t testing.TB, databaseURL string) (*pgxpool.Pool, *pgxpool.Config) {
	t.Helper()
	config, err := postgres.ParseURL(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 32
	pool, err := postgres.Connector{Config: config, Timeout: time.Minute, Logger: slog.New(slog.DiscardHandler)}.Connect(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool, config
}
