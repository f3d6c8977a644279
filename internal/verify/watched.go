package verify

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// scanAll is from how many names on a scan reads the whole provider table, and
// sends no names: an environment that large names most of it.
const scanAll = 20_000

// watched is one desired provider and what is known of it between two looks.
type watched struct {
	desired provider.Desired
	// settled is the id of the row that is recorded as in sync with desired,
	// uuid.Nil if none is, or if what is recorded is not known.
	settled uuid.UUID
	// What the scan of the number has seen: a row in sync with desired, and how
	// many rows that are not deleted.
	scan   uint32
	live   uint8
	inSync uuid.UUID
}

// see notes a row that a scan has come across.
func (w *watched) see(scan uint32, row *provider.Row) {
	if w.scan != scan {
		w.scan, w.live, w.inSync = scan, 0, uuid.Nil
	}
	if row.Deleted {
		return // a live row of the name stands for the provider, if there is one
	}
	w.live = min(w.live+1, 2)
	if drift.IsInSync(w.desired, row) {
		w.inSync = row.ID
	}
}

// isSettled reports whether the scan has seen the provider exactly as it is
// recorded: one live row, in sync.
func (w *watched) isSettled(scan uint32) bool {
	return w.scan == scan && w.live == 1 && w.inSync != uuid.Nil && w.inSync == w.settled
}

// scan reads the rows of all providers and returns the names of those that are
// not seen to be in sync as recorded: these are to be looked at. What is
// recorded of the others is known from the last time, unless somebody has
// recorded something since.
//
// Its memory does not grow with the number of rows.
func (v *Verifier) scan(ctx context.Context) (suspects []string, err error) {
	v.scans++
	scanned := v.scans
	generation, err := v.scanProviders(ctx, scanned)
	if err != nil {
		return nil, err
	}
	if !v.known || generation != v.generation {
		if err := v.scanStates(ctx); err != nil {
			return nil, fmt.Errorf("read what is recorded: %w", err)
		}
	}
	for _, name := range v.names {
		if !v.desired[name].isSettled(scanned) {
			suspects = append(suspects, name)
			continue
		}
		// Its drift may have ended while another worker led, or by a seed.
		delete(v.drifting, name)
		v.comparable(ctx, name)
	}
	return suspects, nil
}

func (v *Verifier) scanProviders(ctx context.Context, scanned uint32) (generation int64, err error) {
	names := v.names
	if len(names) >= scanAll {
		names = nil
	}
	scan, err := store.On(v.pool).ScanProviders(ctx, names, v.secrets.keys)
	if err != nil {
		return 0, err
	}
	for scan.Next() {
		if w := v.desired[string(scan.Name())]; w != nil {
			row := scan.Row()
			w.see(scanned, &row)
		}
	}
	return scan.End()
}

// scanStates reads which providers are recorded as in sync.
func (v *Verifier) scanStates(ctx context.Context) error {
	for _, w := range v.desired {
		w.settled = uuid.Nil
	}
	v.known = false
	if err := v.needHasher(ctx); err != nil {
		return err
	}
	scan, err := store.On(v.pool).ScanSettled(ctx)
	if err != nil {
		return err
	}
	for scan.Next() {
		settled := scan.Settled()
		if w := v.desired[string(settled.Name)]; w != nil && v.hasher.Hash(w.desired.Canonical()) == string(settled.EnvHash) {
			w.settled = settled.ProviderID
		}
	}
	if v.generation, err = scan.End(); err != nil {
		return err
	}
	v.known = true
	return nil
}

// recordedBy notes what was recorded in a generation, made from the one before.
func (v *Verifier) recordedBy(generation int64, findings []finding) {
	if generation != v.generation+1 {
		v.known = false // somebody else has recorded as well
	}
	v.generation = generation
	for _, f := range findings {
		w := v.desired[f.Observation.Provider]
		if w == nil || !f.NewState && !f.NewReason {
			continue
		}
		w.settled = uuid.Nil
		if f.IsSettled() {
			w.settled = f.Observation.ProviderID
		}
	}
}
