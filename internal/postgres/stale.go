package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A connection prepares each statement once. When the type of a column changes that a
// prepared statement returns, the server refuses the statement: "cached plan must not
// change result type". That is so after ALTER COLUMN TYPE, and when the enum of the
// provider tables is made anew, as by a restore over them. A column that is added, or
// tables that are made anew with the same types, do not matter.
//
// The driver then prepares the statement again when it is next used on that connection.
// So a refused statement is repeated here, and no caller has to know. In a transaction all
// of it is repeated: see [BeginTx].

// staleTries is how often a statement runs at most: each connection of a pool can have
// prepared it.
const staleTries = maxConns + 1

// IsStale reports whether the server has refused a statement that was prepared when its
// result had other types. Nothing of the statement has run then.
func IsStale(err error) bool {
	var pg *pgconn.PgError
	// The code has many other meanings, and the message is in any language.
	return errors.As(err, &pg) && pg.Code == pgerrcode.FeatureNotSupported && pg.Routine == "RevalidateCachedQuery"
}

// executor is a pool, a connection or a transaction.
type executor interface {
	queryer
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}

// mayRepeat reports whether a statement that was refused can be repeated by itself: in a
// transaction the server refuses all that follows.
func mayRepeat(db executor) bool {
	switch db := db.(type) {
	case *pgxpool.Pool:
		return true
	case *pgxpool.Conn:
		return db.Conn().PgConn().TxStatus() == 'I'
	case *pgx.Conn:
		return db.PgConn().TxStatus() == 'I'
	default:
		return false
	}
}

// Exec is Exec of a pool, a connection or a transaction, and repeats a statement that is
// stale.
func Exec(ctx context.Context, db executor, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	for range staleTries {
		if tag, err = db.Exec(ctx, sql, args...); !IsStale(err) || !mayRepeat(db) {
			break
		}
	}
	return tag, err
}

// Query is Query of a pool, a connection or a transaction, and repeats a statement that is
// stale.
func Query(ctx context.Context, db executor, sql string, args ...any) (pgx.Rows, error) {
	query := func() (pgx.Rows, error) { return db.Query(ctx, sql, args...) }
	rows, err := query()
	if err != nil {
		return rows, err
	}
	return &repeated{Rows: rows, db: db, query: query, tries: staleTries - 1}, nil
}

// QueryRow is QueryRow of a pool, a connection or a transaction, and repeats a statement
// that is stale.
func QueryRow(ctx context.Context, db executor, sql string, args ...any) pgx.Row {
	rows, err := Query(ctx, db, sql, args...)
	return row{rows, err}
}

// repeated are the rows of a query that is repeated where it is stale, which the server
// says before the first row.
type repeated struct {
	pgx.Rows
	db    executor
	query func() (pgx.Rows, error)
	tries int // that are left, 0 as soon as there is a row
}

func (r *repeated) Next() bool {
	for {
		if r.Rows.Next() {
			r.tries = 0
			return true
		}
		if r.tries == 0 || !IsStale(r.Err()) || !mayRepeat(r.db) {
			return false
		}
		r.tries--
		r.Rows, _ = r.query() // the rows have its error
	}
}

// row is the first of the rows.
type row struct {
	rows pgx.Rows
	err  error
}

func (r row) Scan(values ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(values...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// BeginTx is [pgx.BeginTxFunc], and calls do again in another transaction where a
// statement of it is stale.
func BeginTx(ctx context.Context, db interface {
	BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
}, options pgx.TxOptions, do func(pgx.Tx) error) (err error) {
	for range staleTries {
		if err = pgx.BeginTxFunc(ctx, db, options, do); !IsStale(err) {
			break
		}
	}
	return err
}
