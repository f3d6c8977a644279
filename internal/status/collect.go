package status

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

// DB begins transactions: a pool, or a connection.
type DB interface {
	store.DBTX
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Collect collects what the query asks for, in one snapshot. Where the role may
// read the rows' settings and the environment is known, the providers on the page
// are compared as they are now; otherwise what was recorded of them last is shown.
//
// A role that lacks privileges gets a [*schema.UnusableError] that names them, and
// so does a database that was never migrated.
func Collect(ctx context.Context, db DB, keys *dbcrypt.Ring, environment Environment, query Query) (Status, error) {
	var s Status
	var unread error
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := postgres.BeginTx(ctx, db, snapshot, func(tx pgx.Tx) error {
		s, unread = Status{}, nil
		c := collector{tx: tx, queries: store.On(tx), keys: keys, environment: environment, query: query}
		if err := c.collect(ctx, &s); err != nil {
			return err
		}
		var err error
		unread, err = s.collectSinks(ctx, tx)
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == pgerrcode.UndefinedTable {
		err = &schema.UnusableError{Err: fmt.Errorf("%w: %w", remedy.Problem("it has no provider tables, or none of provwatch yet; run ", remedy.Run("migrate")), err)}
	}
	if err != nil {
		return Status{}, fmt.Errorf("collect the status: %w", schema.Explain(ctx, db, schema.Reporting, err))
	}
	if unread != nil {
		s.SinksUnread = query.Site.Text(schema.Explain(ctx, db, schema.Reporting, unread))
	}
	return s, nil
}

// collector collects a status in one transaction. Each list has a reader of its own.
type collector struct {
	tx          pgx.Tx
	queries     *store.Queries
	keys        *dbcrypt.Ring
	environment Environment
	query       Query
}

func (c collector) collect(ctx context.Context, s *Status) error {
	found, err := c.queries.InspectStatus(ctx)
	if err != nil {
		return err
	}
	s.At = found.At.UTC()
	if s.Database, err = (databaseReader{c.tx, c.queries, c.query, found.MayReadEnvironments, found.MayReadNotLoaded}).read(ctx, found); err != nil {
		return err
	}
	if err := c.providers(ctx, s, found); err != nil {
		return err
	}
	latest := latestReader{c.queries, c.query}
	if err := latest.silences(ctx, c.tx, s); err != nil {
		return err
	}
	if err := latest.alerts(ctx, s); err != nil {
		return err
	}
	return latest.audit(ctx, s)
}

// providers collects the counts and a page of providers.
func (c collector) providers(ctx context.Context, s *Status, found store.InspectStatusRow) error {
	accepted, expired, err := c.queries.ListAccepted(ctx)
	if err != nil {
		return err
	}
	unsupported, err := c.unsupported(ctx)
	if err != nil {
		return err
	}
	recorded := recordedReader{queries: c.queries, names: c.environment.Names, query: c.query, accepted: accepted, expired: expired, unsupported: unsupported}
	if s.Counts, err = recorded.counts(ctx); err != nil {
		return err
	}
	// Without the key the comparison is right, and only its hashes differ from the recorded ones.
	hasher := provider.NewRandomHasher()
	if found.MayReadHashKey {
		if hasher, err = c.queries.Hasher(ctx); err != nil {
			return err
		}
	}
	listed, err := recorded.page(ctx, s)
	switch {
	case err != nil || len(listed) == 0:
		return err
	case !found.MayCompare:
		return recorded.inBrief(ctx, s.Providers)
	}
	now := comparer{queries: c.queries, keys: c.keys, desired: c.environment.Desired, hashing: hashing{hasher, found.MayReadHashKey}}
	if err := now.compare(ctx, s.Providers, listed); err != nil {
		return err
	}
	s.recount(listed)
	return nil
}

// unsupported returns the names of the providers whose type the enum lacks.
func (c collector) unsupported(ctx context.Context) ([]string, error) {
	unsupported := append([]string{}, c.environment.Unsupported...)
	if c.environment.Names == nil {
		return unsupported, nil
	}
	types, err := c.queries.ListProviderTypes(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range c.environment.Names {
		if desired, _ := c.environment.Desired(name); !drift.Types(types).Has(desired.Type) {
			unsupported = append(unsupported, name)
		}
	}
	return unsupported, nil
}
