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
	// unmanaged are the ids of the enabled, live rows that the environment does not name, nil
	// where they are ignored.
	unmanaged map[uuid.UUID]struct{}
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

// lastRecorded is what is recorded, as a scan is compared with it.
type lastRecorded struct {
	generation int64
	// inSync has for each provider of the environment the id of the row that is recorded
	// as in sync with it, [uuid.Nil] for none.
	inSync []uuid.UUID
	// rows has the kinds of the unmanaged rows, nil where they are ignored. started is that
	// of [store.RecordedKinds].
	rows    map[uuid.UUID]drift.Kind
	started bool
}

// suspects returns the providers that are not seen exactly as they are recorded: with one
// live row, which is recorded as in sync, and is. It returns the unmanaged rows that are not
// recorded as known, after those recorded that are no longer unmanaged.
func (s *scan) suspects(last lastRecorded) (found suspects) {
	for i, row := range s.rows {
		if row.live != 1 || row.inSync == uuid.Nil || row.inSync != last.inSync[i] {
			found.names = append(found.names, s.environment.names[i])
		}
	}
	found.names = slices.Clip(found.names)
	for id := range last.rows {
		if _, is := s.unmanaged[id]; !is {
			found.rows = append(found.rows, id)
		}
	}
	sortIDs(found.rows)
	var begun []uuid.UUID
	for id := range s.unmanaged {
		if last.rows[id] != drift.Known {
			begun = append(begun, id)
		}
	}
	sortIDs(begun)
	found.rows = append(found.rows, begun...)
	return found
}

// scan reads the rows of all providers, and with rows set the enabled, live ones that the
// environment does not name. It keeps no row: its memory grows with the number of providers
// that the environment names, and with that of the unmanaged rows.
func (r reader) scan(ctx context.Context, db store.DBTX, e *environment, rows bool) (*scan, error) {
	names := e.names
	if len(names) >= scanAll {
		names = nil
	}
	found, err := store.On(db).ScanProviders(ctx, names, rows, r.keys)
	if err != nil {
		return nil, err
	}
	s := &scan{environment: e, rows: make([]scanned, len(e.names))}
	if rows {
		s.unmanaged = map[uuid.UUID]struct{}{}
	}
	for found.Next() {
		if i, named := e.index[string(found.Name())]; named {
			row := found.Row()
			s.rows[i].add(e.desired[i], &row)
		} else if id, serves := found.Serves(); rows && serves && !e.mentions(string(found.Name())) {
			s.unmanaged[id] = struct{}{}
		}
	}
	s.generation, err = found.End()
	s.newest = found.Newest()
	return s, err
}

// readRecorded reads what a scan is compared with. Where the two statements are of different
// generations, the earlier one counts, so that the next scan reads again.
func readRecorded(ctx context.Context, db store.DBTX, e *environment, h provider.Hasher, rows bool) (r lastRecorded, err error) {
	if r.generation, r.inSync, err = recordedInSync(ctx, db, e, h); err != nil || !rows {
		return r, err
	}
	kinds, err := store.On(db).ListRecordedKinds(ctx)
	r.rows, r.started = kinds.Rows, kinds.Started
	return r, err
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
