package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	sqlfiles "provwatch/sql"

	"provwatch/internal/postgres"
)

// On returns the queries of a pool, a connection or a transaction. Unlike those of
// [New], which is generated, they find the provider tables: see [Gateway].
func On(db DBTX) *Queries { return New(Gateway(db)) }

// Gateway returns db with the names of the provider tables qualified by their
// schema in each statement that names them, as the files of sql/ write them. Outside a
// transaction, statements are repeated that were prepared before a column has changed its
// type, but for those of a batch. The sessions of db are those of a configuration of
// [postgres.ParseURL].
func Gateway(db DBTX) DBTX {
	if g, ok := db.(gateway); ok {
		return g
	}
	return gateway{db}
}

type gateway struct{ db DBTX }

// args returns the arguments of a statement, with the qualifier before them where
// the statement needs it.
func (gateway) args(sql string, args []any) []any {
	if !strings.Contains(sql, sqlfiles.Gateway) {
		return args
	}
	return append([]any{postgres.Qualifier{}}, args...)
}

func (g gateway) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return postgres.Exec(ctx, g.db, sql, g.args(sql, args)...)
}

func (g gateway) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return postgres.Query(ctx, g.db, sql, g.args(sql, args)...)
}

func (g gateway) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return postgres.QueryRow(ctx, g.db, sql, g.args(sql, args)...)
}

// CopyFrom copies to a table of ours: those of the gateway are not copied to.
func (g gateway) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return g.db.CopyFrom(ctx, table, columns, rows)
}

func (g gateway) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	for _, query := range batch.QueuedQueries {
		query.Arguments = g.args(query.SQL, query.Arguments)
	}
	return g.db.(batcher).SendBatch(ctx, batch)
}

// batcher is a database that takes several statements in one round trip: a pool, a
// connection or a transaction. [DBTX] is generated, and lacks the method.
type batcher interface {
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// send runs the queued statements in one round trip.
func (q *Queries) send(ctx context.Context, batch *pgx.Batch) error {
	return q.db.(batcher).SendBatch(ctx, batch).Close()
}

// WriteProviders runs do, which writes to the provider tables, with the search path
// that the session began with: triggers and defaults that another program has put
// on its tables may rely on one, and on row level security of tables of their own. What
// do runs must resolve no name through it, and find the rows that it changes before. The
// queries are those of a transaction, and constraints are checked before it returns.
func (q *Queries) WriteProviders(ctx context.Context, do func() error) error {
	if err := q.RestoreSearchPath(ctx); err != nil {
		return fmt.Errorf("restore the search path: %w", err)
	}
	if err := do(); err != nil {
		return err
	}
	var batch pgx.Batch
	// Triggers that are deferred would run with the other path.
	batch.Queue("SET CONSTRAINTS ALL IMMEDIATE")
	batch.Queue(fixSearchPath)
	return q.send(ctx, &batch)
}
