package verify

import (
	"maps"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/store"
)

// newRows returns the latest new states of unmanaged rows, and the rows of which nothing is
// recorded any more, in the order of the first judgements.
func newRows(judgements []judgement, lasting lastingDrifts) (states []store.NewState, forgotten []uuid.UUID) {
	last := map[uuid.UUID]judgement{}
	var ids []uuid.UUID
	for _, j := range judgements {
		if !j.NewState || !j.Observation.OfRow {
			continue
		}
		id := j.Observation.ProviderID
		if _, again := last[id]; !again {
			ids = append(ids, id)
		}
		last[id] = j
	}
	for _, id := range ids {
		j := last[id]
		if j.Kind == "" {
			forgotten = append(forgotten, id)
			continue
		}
		state := store.NewState{Provider: j.Observation.Provider, State: j.State()}
		if j.Kind == drift.Unmanaged {
			latest := lasting.before(j)
			state.AlertSeq, state.Silenced = latest.seq, latest.silences(drift.Resolved)
		}
		states = append(states, state)
	}
	return states, forgotten
}

// newPendingRows returns the latest new pending drift of each unmanaged row, and the rows of which
// none is pending any more, by id.
func newPendingRows(judgements []judgement) (pending []store.NamedPending, ended []uuid.UUID) {
	latest := map[uuid.UUID]judgement{}
	for _, j := range judgements {
		if j.Observation.OfRow && (j.NewPending || j.EndsPending) {
			latest[j.Observation.ProviderID] = j
		}
	}
	ids := make([]uuid.UUID, 0, len(latest))
	for id := range latest {
		ids = append(ids, id)
	}
	sortIDs(ids)
	for _, id := range ids {
		if j := latest[id]; j.NewPending {
			pending = append(pending, store.NamedPending{Provider: j.Observation.Provider, Pending: *j.Pending})
		} else {
			ended = append(ended, id)
		}
	}
	return pending, ended
}

// namedBefore returns the rows that stand for no provider any more, those known before and those
// of judgements. It leaves out the rows that the recording records or forgets by themselves.
func namedBefore(before map[uuid.UUID]string, judgements []judgement, recording store.Recording) map[uuid.UUID]string {
	rows := maps.Clone(before)
	if rows == nil {
		rows = map[uuid.UUID]string{}
	}
	for _, j := range judgements {
		if j.Former != uuid.Nil {
			rows[j.Former] = j.Observation.Provider
		}
	}
	for _, s := range recording.Rows {
		delete(rows, s.ProviderID)
	}
	for _, id := range recording.ForgottenRows {
		delete(rows, id)
	}
	return rows
}
