package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	sqlfiles "provwatch/sql"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// ProviderScan reads rows of the provider table one by one, all of one moment. Its memory
// does not grow with their number. One goroutine uses it, and closes it.
type ProviderScan struct {
	rows       pgx.Rows
	keys       *dbcrypt.Ring
	generation int64
	newest     int64
	err        error

	// Valid until the next row.
	id                                   pgtype.UUID
	name, kind, baseURL, settings, keyID pgtype.DriverBytes
	enabled, deleted                     pgtype.Bool
}

// ScanProviders begins to read the rows of the names given, with nil all rows. With unmanaged
// set, all enabled, live rows are among them.
func (q *Queries) ScanProviders(ctx context.Context, names []string, unmanaged bool, keys *dbcrypt.Ring) (*ProviderScan, error) {
	sql, args := sqlfiles.ScanProviders, []any{}
	switch {
	case names != nil && unmanaged:
		sql, args = sqlfiles.ScanEnabledProviders, []any{names}
	case names != nil:
		sql, args = sqlfiles.ScanNamedProviders, []any{names}
	}
	rows, err := q.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return &ProviderScan{rows: rows, keys: keys}, nil
}

// Next goes on to the next row. It reports false at the end, and after an error.
func (s *ProviderScan) Next() bool {
	for s.err == nil && s.rows.Next() {
		s.err = s.rows.Scan(&s.generation, &s.newest, &s.id, &s.name, &s.kind, &s.baseURL, &s.enabled, &s.deleted, &s.settings, &s.keyID)
		if s.err == nil && s.id.Valid {
			return true
		}
	}
	return false
}

// Serves reports whether the row is enabled and live, and returns its id.
func (s *ProviderScan) Serves() (uuid.UUID, bool) {
	return s.id.Bytes, s.enabled.Bool && !s.deleted.Bool
}

// Name returns the name of the row. It is valid until the next one.
func (s *ProviderScan) Name() []byte { return s.name }

// Row returns the row, decrypted, without its name, its time and its credentials.
func (s *ProviderScan) Row() provider.Row {
	row := provider.Row{
		ID: s.id.Bytes, Type: provider.Type(s.kind), BaseURL: string(s.baseURL), Enabled: s.enabled.Bool, Deleted: s.deleted.Bool,
		Settings: secret.New(string(s.settings)), SettingsKeyID: string(s.keyID),
	}
	s.keys.OpenRow(&row, false)
	return row
}

// End closes the scan, and returns the generation of what is recorded at its moment, or
// the error that ended it.
func (s *ProviderScan) End() (generation int64, err error) {
	s.rows.Close()
	if s.err == nil {
		s.err = s.rows.Err()
	}
	return s.generation, s.err
}

// Newest returns the newest generation of environments at the moment of the scan, 0 for none.
// It is known at the end.
func (s *ProviderScan) Newest() int64 { return s.newest }

// Settled is a provider that is recorded as in sync in every respect: see
// [drift.Judgement.IsSettled].
type Settled struct {
	Name       []byte // valid until the next one
	ProviderID uuid.UUID
	EnvHash    []byte // the row has the same; valid until the next one
}

// SettledScan reads which providers are recorded as in sync, one by one and of one
// moment, as a [ProviderScan] reads rows.
type SettledScan struct {
	rows       pgx.Rows
	generation int64
	err        error

	// Valid until the next one.
	name, envHash pgtype.DriverBytes
	id            *uuid.UUID
}

// ScanSettled begins to read which providers are recorded as in sync.
func (q *Queries) ScanSettled(ctx context.Context) (*SettledScan, error) {
	rows, err := q.db.Query(ctx, sqlfiles.ScanStates)
	if err != nil {
		return nil, err
	}
	return &SettledScan{rows: rows}, nil
}

// Next goes on to the next provider. It reports false at the end, and after an error.
func (s *SettledScan) Next() bool {
	for s.err == nil && s.rows.Next() {
		s.err = s.rows.Scan(&s.generation, &s.name, &s.id, &s.envHash)
		if s.err == nil && s.name != nil {
			return true
		}
	}
	return false
}

// Settled returns the provider.
func (s *SettledScan) Settled() Settled {
	return Settled{Name: s.name, ProviderID: deref(s.id), EnvHash: s.envHash}
}

// End is [ProviderScan.End].
func (s *SettledScan) End() (generation int64, err error) {
	s.rows.Close()
	if s.err == nil {
		s.err = s.rows.Err()
	}
	return s.generation, s.err
}
