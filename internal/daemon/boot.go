package daemon

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
	"provwatch/internal/sink"
)

// boot brings a database from its address to a schema and rows that a run can begin with:
// connect, migrate, seed. A worker that observes finds what is there instead.
type boot struct {
	options *Options // the sinks get the name of their cluster
	member  *rollout.Member
	health  *health
}

// booted is what a boot has come to. The caller closes the pool.
type booted struct {
	pool *pgxpool.Pool
	plan drift.Plan
	// published is that the boot has ensured the publication, and the privileges that go
	// with it.
	published bool
	// fileVariables is that of the environment.
	fileVariables int
	// older is why nothing was seeded, nil where the environment is not older.
	older *rollout.OlderError
}

func (b *boot) connector() postgres.Connector {
	o := b.options
	return postgres.Connector{Config: o.Database, Timeout: o.ConnectTimeout, Logger: o.Logger, Waiting: b.health}
}

// connect returns the pool of the database, once that can be reached.
func (b *boot) connect(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := b.connector().Connect(ctx)
	if err == nil {
		b.health.ConnectionFailed(nil)
	}
	return pool, err
}

// run prepares the schema and seeds. It retries while the database is away.
func (b *boot) run(ctx context.Context, pool *pgxpool.Pool) (booted, error) {
	o := b.options
	done := booted{pool: pool, fileVariables: o.Environment.FileVariables}
	options := []seed.Option{seed.WithKeys(o.Keys), seed.As(b.member)}
	if o.RequireCredentials {
		options = append(options, seed.RequireCredentials())
	}
	if o.AnnounceSeed {
		options = append(options, seed.Announce())
	}
	if o.ApplyBootDrift {
		options = append(options, seed.Apply())
	}
	err := b.connector().Persist(ctx, func() (err error) {
		if done.published, err = b.prepare(ctx, pool); err != nil {
			return err
		}
		if err := registerKey(ctx, pool, o.Keys, o.Migrate, o.Logger); err != nil {
			return err
		}
		b.health.ConnectionFailed(nil) // it can now wait for a lock, or take its time
		if err := b.registerSinks(ctx, pool); err != nil {
			return err
		}
		if o.Observe {
			done.plan, err = seed.Observe(ctx, pool, o.Environment.Providers, o.Logger, options...)
		} else {
			done.plan, err = seed.Seed(ctx, pool, o.Environment.Providers, o.TolerateBootDrift, o.Logger, options...)
		}
		if done.older = nil; errors.As(err, &done.older) {
			err = nil
		}
		return err
	})
	return done, err
}

// prepare ensures what the source needs of the schema, and reports whether that is the
// publication.
func (b *boot) prepare(ctx context.Context, pool *pgxpool.Pool) (published bool, err error) {
	o := b.options
	if _, err := schema.Locate(ctx, pool); err != nil {
		return false, err
	}
	needs, err := b.needs(ctx, pool)
	if mustUnpublish(err) && !o.Observe {
		err = errors.Join(err, schema.DropPublication(ctx, o.Database.ConnConfig))
	}
	if err != nil {
		return false, err
	}
	err = schema.Ensure(ctx, pool, o.Migrate, needs, o.Logger)
	if err == nil || !needs.Publication || o.Source != AutoSource || ctx.Err() != nil || postgres.IsConnectionLoss(err) {
		return err == nil && needs.Publication, err
	}
	without := schema.Needs{Triggers: !o.Observe, Use: o.uses().of(NotifySource)}
	if schema.Ensure(ctx, pool, o.Migrate, without, o.Logger) != nil {
		return false, err
	}
	o.Logger.WarnContext(ctx, "the WAL cannot be the source yet", "error", err)
	return false, nil
}

// needs returns what the source needs of the schema, and of the role.
func (b *boot) needs(ctx context.Context, pool *pgxpool.Pool) (needs schema.Needs, err error) {
	o := b.options
	if o.Observe {
		needs, err = o.Source.observed(ctx, pool)
	} else {
		needs, err = o.Source.Needs(ctx, pool)
	}
	source := NotifySource
	if needs.Publication {
		source = WALSource
	}
	needs.Use = o.uses().of(source)
	return needs, err
}

// registerSinks ensures that what the seed is about to write reaches the sinks.
func (b *boot) registerSinks(ctx context.Context, pool *pgxpool.Pool) (err error) {
	sinks := &b.options.Sinks
	if len(sinks.Sinks) == 0 {
		return nil
	}
	if sinks.Cluster == "" {
		if sinks.Cluster, err = sink.ClusterName(ctx, pool); err != nil {
			return err
		}
	}
	return sink.Register(ctx, pool, *sinks)
}

// unlessStopped returns no error of a boot that ended because ctx did.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
