package daemon

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/schema"
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

// mustUnpublish reports whether the publication makes writing to the provider tables fail.
func mustUnpublish(err error) bool {
	var unusable *wal.UnusableError
	return errors.As(err, &unusable) && unusable.Unpublish
}
