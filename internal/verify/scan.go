package verify

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// scanAll is from how many names on a scan reads the whole provider table, and sends no
// names: an environment that large names most of it.
const scanAll = 20_000

// scan is what one pass over the provider table has shown.
type scan struct {
	environment *environment
	generation  int64     // of what is recorded, at the same moment
	newest      int64     // generation of environments, at the same moment
	rows        []scanned // of each provider of the environment
}

// scanned is what a scan has shown of one provider.
type scanned struct {
	inSync uuid.UUID // a row in sync with the environment, [uuid.Nil] for none
	live   uint8     // how many rows are not soft-deleted, at most 2
}

// add adds a row. A soft-deleted one does not count: a live row of the name stands for
// the provider, if there is one.
func (s *scanned) add(desired provider.Desired, row *provider.Row) {
	if row.Deleted {
		return
	}
	s.live = min(s.live+1, 2)
	if drift.IsInSync(desired, row) {
		s.inSync = row.ID
	}
}

// suspects returns the providers, sorted, that are not seen exactly as they are recorded:
// with one live row, which is recorded as in sync, and is.
func (s *scan) suspects(recorded []uuid.UUID) (names []string) {
	for i, row := range s.rows {
		if row.live != 1 || row.inSync == uuid.Nil || row.inSync != recorded[i] {
			names = append(names, s.environment.names[i])
		}
	}
	return slices.Clip(names)
}

// scan reads the rows of all providers. It keeps no row: its memory grows with the number
// of providers that the environment names.
func (r reader) scan(ctx context.Context, db store.DBTX, e *environment) (*scan, error) {
	names := e.names
	if len(names) >= scanAll {
		names = nil
	}
	rows, err := store.On(db).ScanProviders(ctx, names, r.keys)
	if err != nil {
		return nil, err
	}
	s := &scan{environment: e, rows: make([]scanned, len(e.names))}
	for rows.Next() {
		if i, named := e.index[string(rows.Name())]; named {
			row := rows.Row()
			s.rows[i].add(e.desired[i], &row)
		}
	}
	s.generation, err = rows.End()
	s.newest = rows.Newest()
	return s, err
}

// recordedInSync reads the generation of what is recorded. For each provider of the
// environment it reads the id of the row that is recorded as in sync, [uuid.Nil] for none.
func recordedInSync(ctx context.Context, db store.DBTX, e *environment, h provider.Hasher) (generation int64, inSync []uuid.UUID, err error) {
	rows, err := store.On(db).ScanSettled(ctx)
	if err != nil {
		return 0, nil, err
	}
	inSync = make([]uuid.UUID, len(e.names))
	for rows.Next() {
		settled := rows.Settled()
		if i, named := e.index[string(settled.Name)]; named && h.Hash(e.desired[i].Canonical()) == string(settled.EnvHash) {
			inSync[i] = settled.ProviderID
		}
	}
	generation, err = rows.End()
	return generation, inSync, err
}
