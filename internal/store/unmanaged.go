package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// RowSighting is one row of the provider table, and what is recorded of it as an
// unmanaged row.
type RowSighting struct {
	ID       uuid.UUID
	Row      *provider.Row // nil where it was removed
	Recorded drift.RecordedRow
}

// recordedRow is what a query shows of the recorded row of an id. Columns that are NULL are nil.
type recordedRow struct {
	id                 uuid.UUID
	name, kind, dbHash *string
	alertSeq           int64
	silenced           bool
	pending            []byte // a row of pending_rows
}

// recorded returns what is recorded of the row.
func (row recordedRow) recorded() (drift.RecordedRow, error) {
	r := drift.RecordedRow{Provider: deref(row.name), AlertSeq: row.alertSeq, Silenced: row.silenced}
	if row.kind != nil {
		r.State = &drift.State{Kind: drift.Kind(*row.kind), ProviderID: row.id, DBHash: deref(row.dbHash)}
	}
	pending, err := pendingRowOf(row.pending)
	if pending != nil {
		r.Provider, r.Pending = pending.Provider, &pending.Pending
	}
	return r, err
}

// rowAcceptance returns the acceptance of an unmanaged row as of a time, nil where its hash is
// NULL.
func rowAcceptance(dbHash, partHash *string, expires, accepted *time.Time, at time.Time) *drift.Acceptance {
	if dbHash == nil {
		return nil
	}
	return &drift.Acceptance{Kind: drift.Unmanaged, DBHash: *dbHash, PartHash: deref(partHash), Expires: deref(expires), AcceptedAt: deref(accepted), At: at}
}

// rowSighting returns what lookAtProviders has shown of a row, which is nil where it was removed.
func rowSighting(found lookAtProvidersRow, row *provider.Row) (RowSighting, error) {
	id := found.Gone
	if row != nil {
		id = row.ID
	}
	recorded, err := recordedRow{
		id: id, name: found.RowProvider, kind: found.RowKind, dbHash: found.RowDbHash, alertSeq: found.RowAlertSeq,
		silenced: found.RowSilenced, pending: found.RowPending,
	}.recorded()
	recorded.Accepted = rowAcceptance(found.RowAcceptedDbHash, found.RowAcceptedPartHash, found.RowAcceptedExpiresAt, found.RowAcceptedAt, found.At)
	recorded.NamedBefore, recorded.At = found.NamedBefore, found.At
	return RowSighting{ID: id, Row: row, Recorded: recorded}, err
}

// StartUnmanaged takes the enabled, live rows of other names than the environment's for known
// ones. It returns the generation that this makes, 0 when it was refused as [Queries.Record]
// is, by the term, the epoch and the newest generation of environments.
func (q *Queries) StartUnmanaged(ctx context.Context, named []string, term, newest int64, epoch uuid.UUID) (generation int64, err error) {
	done, err := q.startUnmanaged(ctx, startUnmanagedParams{Term: term, Epoch: epoch, NewestEnvironment: newest, Named: notNil(named)})
	if err != nil || len(done) == 0 {
		return 0, err
	}
	return done[0], nil
}

// RecordedKinds are the unmanaged rows that are recorded, at one moment.
type RecordedKinds struct {
	Generation int64
	// Started is set once the first unmanaged rows were taken for known ones.
	Started bool
	// Rows has the kind that [drift.RecordedRow.State] has, by id: empty where only a drift is
	// pending, or only an acceptance is there.
	Rows map[uuid.UUID]drift.Kind
}

// ListRecordedKinds returns the unmanaged rows that are recorded.
func (q *Queries) ListRecordedKinds(ctx context.Context) (RecordedKinds, error) {
	rows, err := q.listRecordedKinds(ctx)
	if err != nil {
		return RecordedKinds{}, err
	}
	recorded := RecordedKinds{Rows: make(map[uuid.UUID]drift.Kind, len(rows))}
	for _, row := range rows {
		recorded.Generation, recorded.Started = row.Generation, row.Started
		if row.ProviderID != uuid.Nil {
			recorded.Rows[row.ProviderID] = drift.Kind(row.Kind)
		}
	}
	return recorded, nil
}

// RecordedRows is what is recorded of some rows.
type RecordedRows struct {
	Rows map[uuid.UUID]drift.RecordedRow // without [drift.RecordedRow.NamedBefore]
	// Providers counts the providers that each row stands for, recorded or pending. A row stands
	// for no provider that is missing.
	Providers map[uuid.UUID]int64
	// Named are those of the names that an environment names.
	Named map[string]bool
}

// ReadRecordedRows returns what is recorded of the rows of the ids. Each has one of the names,
// empty for a row that was removed. A row can be there several times, with other names.
func (q *Queries) ReadRecordedRows(ctx context.Context, ids []uuid.UUID, names []string) (RecordedRows, error) {
	rows, err := q.listRecordedRows(ctx, listRecordedRowsParams{Ids: notNil(ids), Names: notNil(names)})
	if err != nil {
		return RecordedRows{}, err
	}
	recorded := RecordedRows{Rows: make(map[uuid.UUID]drift.RecordedRow, len(rows)), Providers: make(map[uuid.UUID]int64, len(rows)), Named: map[string]bool{}}
	for _, row := range rows {
		r, err := recordedRow{
			id: row.ID, name: row.Provider, kind: row.Kind, dbHash: row.DbHash, alertSeq: row.AlertSeq, silenced: row.Silenced, pending: row.Pending,
		}.recorded()
		if err != nil {
			return RecordedRows{}, err
		}
		r.Accepted, r.At = rowAcceptance(row.AcceptedDbHash, row.AcceptedPartHash, row.AcceptedExpiresAt, row.AcceptedAt, row.At), row.At
		recorded.Rows[row.ID], recorded.Providers[row.ID] = r, row.Providers
		if row.IsNamed {
			recorded.Named[row.Name] = true
		}
	}
	return recorded, nil
}

// HasUnmanagedBaseline reports whether the first unmanaged rows were taken for known ones.
func (q *Queries) HasUnmanagedBaseline(ctx context.Context) (bool, error) {
	return q.hasUnmanagedBaseline(ctx)
}

// ListUnmanagedIDs returns the ids of the unmanaged rows that are recorded or accepted.
func (q *Queries) ListUnmanagedIDs(ctx context.Context) ([]uuid.UUID, error) {
	return q.listUnmanagedIDs(ctx)
}

// DriftingRows are the unmanaged rows whose drift lasts, alerted or pending, by name.
type DriftingRows struct {
	Rows                        []RowSighting // as they are recorded
	Generation, LastSeq, Newest int64         // as in [Snapshot]; 0 without rows
}

// ListDriftingRows returns the unmanaged rows whose drift lasts.
func (q *Queries) ListDriftingRows(ctx context.Context) (drifting DriftingRows, err error) {
	rows, err := q.listDriftingRows(ctx)
	if err != nil {
		return DriftingRows{}, err
	}
	for _, row := range rows {
		drifting.Generation, drifting.LastSeq, drifting.Newest = row.Generation, row.LastSeq, row.NewestEnvironment
		recorded, err := recordedRow{
			id: row.ID, name: row.Provider, kind: row.Kind, dbHash: row.DbHash, alertSeq: row.AlertSeq, silenced: row.Silenced, pending: row.Pending,
		}.recorded()
		if err != nil {
			return DriftingRows{}, err
		}
		drifting.Rows = append(drifting.Rows, RowSighting{ID: row.ID, Recorded: recorded})
	}
	return drifting, nil
}

// ListUnmanaged returns the enabled, live rows that have none of the names of the environment,
// by name, each beside what is recorded of it: with only, unless it is nil, the rows of these names. The keys
// decrypt them.
func (q *Queries) ListUnmanaged(ctx context.Context, h provider.Hasher, named, only []string, keys *dbcrypt.Ring) ([]drift.UnmanagedRow, error) {
	found, err := q.listUnmanaged(ctx, listUnmanagedParams{Named: notNil(named), Limited: only != nil, Wanted: notNil(only)})
	if err != nil {
		return nil, err
	}
	rows := make([]drift.UnmanagedRow, len(found))
	for i, s := range found {
		rows[i] = unmanagedOf(h, listProvidersRow{
			ID: s.ID, Name: s.Name, Type: s.Type, BaseUrl: s.BaseUrl, Enabled: s.Enabled, Deleted: s.Deleted,
			Settings: s.Settings, SettingsKeyID: s.SettingsKeyID, UpdatedAt: s.UpdatedAt,
		}, keys)
		recorded := recordedRow{id: s.ID, name: s.RecordedProvider, kind: s.Kind, dbHash: s.DbHash, alertSeq: s.AlertSeq}
		if rows[i].Recorded, err = recorded.recorded(); err != nil {
			return nil, err
		}
		rows[i].Recorded.NamedBefore = s.IsNamed
		rows[i].Recorded.Accepted = rowAcceptance(s.AcceptedDbHash, s.AcceptedPartHash, s.AcceptedExpiresAt, s.AcceptedAt, s.At)
	}
	return rows, nil
}

func unmanagedOf(h provider.Hasher, stored listProvidersRow, keys *dbcrypt.Ring) drift.UnmanagedRow {
	row := rowOf(stored)
	keys.OpenRow(&row, false)
	return drift.UnmanagedRow{Observation: drift.ObserveRow(h, &row, false)}
}

// InspectUnmanaged is [Queries.ListUnmanaged] of all rows in a read-only transaction, for a
// database that need not have been migrated: nothing is then recorded.
func InspectUnmanaged(ctx context.Context, pool *pgxpool.Pool, named []string, keys *dbcrypt.Ring) (rows []drift.UnmanagedRow, err error) {
	readOnly := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, pool, readOnly, func(tx pgx.Tx) error {
		rows = nil
		q := On(tx)
		found, err := q.InspectSchema(ctx)
		if err != nil {
			return fmt.Errorf("look at the schema: %w", err)
		}
		if !found.Providers {
			return nil
		}
		if found.UnmanagedRows && found.HashKey {
			hasher, err := q.Hasher(ctx)
			if err != nil {
				return err
			}
			if rows, err = q.ListUnmanaged(ctx, hasher, named, nil, keys); err != nil {
				return fmt.Errorf("load unmanaged rows: %w", err)
			}
			return nil
		}
		stored, err := q.listEnabled(ctx, notNil(named))
		if err != nil {
			return fmt.Errorf("load unmanaged rows: %w", err)
		}
		hasher := provider.NewRandomHasher()
		for _, s := range stored {
			rows = append(rows, unmanagedOf(hasher, listProvidersRow(s), keys))
		}
		return nil
	})
	return rows, err
}

// AcceptRows records that an actor accepts unmanaged rows as they were observed, for the reason
// given, empty for none.
func (q *Queries) AcceptRows(ctx context.Context, observed []drift.Observation, expires time.Time, actor, reason string) error {
	type acceptedRow struct {
		ProviderID uuid.UUID `json:"provider_id"`
		Provider   text      `json:"provider"`
		DBHash     text      `json:"db_hash"`
		PartHash   text      `json:"part_hash"`
	}
	rows := make([]acceptedRow, len(observed))
	for i, o := range observed {
		rows[i] = acceptedRow{o.ProviderID, text(o.Provider), text(o.DBHash), text(o.PartHash)}
	}
	encoded, err := encode(rows)
	if err != nil {
		return err
	}
	return q.acceptRows(ctx, acceptRowsParams{Rows: encoded, AcceptedBy: actor, Reason: reason, ExpiresAt: unlessZero(expires)})
}

// ListMirrorSuspects returns a page of the rows of the mirror that the transaction has written. They
// are enabled and not recorded as known, by id after the one given.
func (q *Queries) ListMirrorSuspects(ctx context.Context, after uuid.UUID, most int) ([]uuid.UUID, error) {
	return q.listMirrorSuspects(ctx, listMirrorSuspectsParams{After: after, MaxRows: int32(most)})
}

// ListLeftFromMirror returns a page of the recorded unmanaged rows that the mirror does not
// have as enabled, live ones, by id after the one given.
func (q *Queries) ListLeftFromMirror(ctx context.Context, after uuid.UUID, most int) ([]uuid.UUID, error) {
	return q.listLeftFromMirror(ctx, listLeftFromMirrorParams{After: after, MaxRows: int32(most)})
}
