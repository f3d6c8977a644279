package store

import (
	"context"
	"time"

	"provwatch/internal/drift"
)

// KeptAcceptance is a stored acceptance, with what is recorded of its provider.
type KeptAcceptance struct {
	NamedAcceptance
	Recorded drift.Recorded
	Lapsed   bool // it was seen not to hold
	IsOld    bool // it has lapsed for longer than what is kept
}

// ListKeptAcceptances returns acceptances after the provider named, at most so many. An
// acceptance is old by both clocks, the server's and now, which is this program's.
func (q *Queries) ListKeptAcceptances(ctx context.Context, after string, now time.Time, keep time.Duration, most int) ([]KeptAcceptance, error) {
	rows, err := q.listKeptAcceptances(ctx, listKeptAcceptancesParams{After: after, Now: now, KeepSeconds: keep.Seconds(), MaxRows: int32(most)})
	kept := make([]KeptAcceptance, len(rows))
	for i, row := range rows {
		accepted := *acceptanceOf(&row.Kind, &row.EnvHash, &row.DbHash, row.ExpiresAt, nil, row.At)
		kept[i] = KeptAcceptance{
			NamedAcceptance: NamedAcceptance{Provider: row.Provider, Acceptance: accepted},
			Recorded:        drift.Recorded{State: stateOf(row.StateKind, row.StateEnvHash, row.StateDbHash, nil, nil), Accepted: &accepted},
			Lapsed:          row.Lapsed, IsOld: row.IsOld,
		}
	}
	return kept, err
}

// markRecord is an acceptance of the query markAcceptances.
type markRecord struct {
	acceptanceRecord
	Lapsed bool `json:"lapsed"`
}

// MarkAcceptances notes of acceptances whether they have lapsed.
func (q *Queries) MarkAcceptances(ctx context.Context, acceptances []NamedAcceptance, lapsed bool) error {
	if len(acceptances) == 0 {
		return nil
	}
	marked := make([]markRecord, len(acceptances))
	for i, a := range acceptances {
		marked[i] = markRecord{a.record(), lapsed}
	}
	rows, err := encode(marked)
	if err != nil {
		return err
	}
	return q.markAcceptances(ctx, rows)
}

// PruneAcceptances deletes acceptances that have lapsed, and returns how many.
func (q *Queries) PruneAcceptances(ctx context.Context, acceptances []NamedAcceptance) (int64, error) {
	if len(acceptances) == 0 {
		return 0, nil
	}
	over := make([]acceptanceRecord, len(acceptances))
	for i, a := range acceptances {
		over[i] = a.record()
	}
	rows, err := encode(over)
	if err != nil {
		return 0, err
	}
	return q.pruneAcceptances(ctx, rows)
}
