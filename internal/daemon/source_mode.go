package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/store"
	"provwatch/internal/wal"
)

// SourceMode says where changes come from.
type SourceMode string

// The modes of --source.
const (
	AutoSource   SourceMode = "auto"   // the WAL where it can be read, else notifications
	NotifySource SourceMode = "notify" // notifications
	WALSource    SourceMode = "wal"    // the WAL
)

// ResyncSource is the source of a worker that observes while there is neither a publication
// nor triggers: everything is verified each [blindInterval]. It is no mode of --source.
const ResyncSource SourceMode = "resync"

// replacesWAL reports whether --source=auto falls back to the source.
func (m SourceMode) replacesWAL() bool { return m == NotifySource || m == ResyncSource }

// Needs tells what the source needs of the schema: triggers to be notified, or a
// publication to read the WAL. The error is a [*schema.UnusableError] when the
// WAL is asked for and cannot be read.
func (m SourceMode) Needs(ctx context.Context, pool *pgxpool.Pool) (schema.Needs, error) {
	if m == NotifySource {
		return schema.Needs{Triggers: true, Use: schema.Notifications}, nil
	}
	_, err := wal.Inspect(ctx, pool)
	var unusable *wal.UnusableError
	switch {
	case err == nil:
		return schema.Needs{Publication: true, Use: schema.WAL}, nil
	case errors.As(err, &unusable) && m == AutoSource:
		return schema.Needs{Triggers: true, Use: schema.Notifications}, nil
	case errors.As(err, &unusable):
		return schema.Needs{}, &schema.UnusableError{Reason: "--source=wal is not possible", Err: err}
	default:
		return schema.Needs{}, err
	}
}

// Prepares returns what a role must create for workers of the source that connect as
// another role. [SourceMode.Needs] returns it for the workers' own role. The attribute
// REPLICATION of neither role makes a difference here.
func (m SourceMode) Prepares(ctx context.Context, pool *pgxpool.Pool) (schema.Needs, error) {
	_, err := wal.Inspect(ctx, pool)
	var unusable *wal.UnusableError
	if m != NotifySource && errors.As(err, &unusable) && unusable.RoleOnly {
		return schema.Needs{Publication: true, Triggers: m == AutoSource}, nil
	}
	needs, err := m.Needs(ctx, pool)
	needs.Use = 0
	return needs, err
}

// observed returns what the source of a worker that observes needs of the schema, which
// the owner of the tables has made: the publication, or nothing. A role that owns the tables
// may publish them, which --source=auto leaves to "worker migrate".
func (m SourceMode) observed(ctx context.Context, pool *pgxpool.Pool) (schema.Needs, error) {
	needs, err := m.Needs(ctx, pool)
	needs.Triggers = false
	if err == nil && needs.Publication && m == AutoSource {
		needs.Publication, err = isPublished(ctx, pool)
	}
	return needs, err
}

// isPublished reports whether the provider tables are published as the WAL source needs it.
func isPublished(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	published, err := store.On(pool).IsPublished(ctx)
	if err != nil {
		return false, fmt.Errorf("look at the publication: %w", err)
	}
	return published, nil
}

// errUnpublished returns the error of an observing worker that finds no publication.
func errUnpublished() error {
	return &wal.UnusableError{
		Reason: "the provider tables are not published",
		Remedy: remedy.Advice{"run ", remedy.Run("migrate", "--source=wal"), " as their owner"},
	}
}

// mustUnpublish reports whether the publication makes writing to the provider tables fail.
func mustUnpublish(err error) bool {
	var unusable *wal.UnusableError
	return errors.As(err, &unusable) && unusable.Unpublish
}
