package verify

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// end ends a verification of everything: what it could not see is recorded as well.
func (r *verification) end(ctx context.Context, source pubsub.Source) error {
	if err := r.closeUnnamed(ctx, source); err != nil {
		return fmt.Errorf("close the drifts of providers that the environment no longer names: %w", err)
	}
	if err := r.repeatOutlived(ctx); err != nil {
		return err
	}
	r.v.conditions.allVerified()
	return nil
}

// closeUnnamed ends the drifts of providers that the environment no longer names, unless
// that was done before: nothing is left that they could differ from. Their rows are known from
// then on. Where unmanaged rows are ignored, it ends their drifts too.
func (r *verification) closeUnnamed(ctx context.Context, source pubsub.Source) error {
	if r.v.baseline.isClosed(r.environment) {
		return nil
	}
	for range maxRaces {
		unnamed, err := store.On(r.v.pool).ListUnnamedStates(ctx, r.environment.names)
		if err != nil {
			return err
		}
		// A record in between makes the generation of the first statement a former one.
		ignored, at, err := r.ignored(ctx)
		if err != nil {
			return err
		}
		if len(unnamed.States) > 0 {
			at = moment{position{generation: unnamed.Generation, lastSeq: unnamed.LastSeq}, unnamed.Newest}
		}
		if err := r.unlessReplaced(); err != nil {
			return err
		}
		recorded := len(unnamed.States)+len(ignored) == 0
		if !recorded {
			if err := r.unlessOvertaken(at.newest); err != nil {
				return err
			}
			what := judgeUnnamed(r.environment, unnamed.States)
			what.judgements = append(what.judgements, ignored...)
			if recorded, err = r.write(ctx, at.position, what, source); err != nil {
				return err
			}
		}
		if recorded {
			r.v.baseline.close(r.environment)
			r.environment.ended.Store(true)
			r.v.conditions.forgetUnnamed(r.environment)
			return nil
		}
	}
	return errRace
}

// repeatOutlived alerts the drifts that have outlived the silences that matched them: each once
// more.
func (r *verification) repeatOutlived(ctx context.Context) error {
	if err := r.repeatEach(ctx); err != nil {
		return fmt.Errorf("alert the drifts that have outlived their silences: %w", err)
	}
	return nil
}

func (r *verification) repeatEach(ctx context.Context) error {
	defer r.v.silences.prompt()
	for races := 0; races < maxRaces && !r.v.silences.areSettled(); {
		outlived, err := store.On(r.v.pool).ListOutlived(ctx, chunk)
		if err != nil || len(outlived.Drifts) == 0 {
			return err
		}
		if err := r.unlessOvertaken(outlived.Newest); err != nil {
			return err
		}
		repeated := make([]judgement, len(outlived.Drifts))
		for i, d := range outlived.Drifts {
			repeated[i] = repeatOf(d)
		}
		at := position{generation: outlived.Generation, lastSeq: outlived.LastSeq}
		recorded, err := r.write(ctx, at, Recorded{judgements: repeated}, pubsub.SourceSilence)
		switch {
		case err != nil:
			return err
		case recorded:
			races = 0
		default:
			races++
		}
		if races == maxRaces {
			return errRace
		}
	}
	return nil
}

// judgeUnnamed judges the recorded states of providers that the environment does not
// name, all of which are then forgotten. Their rows that are unmanaged by now are known.
func judgeUnnamed(e *environment, states []store.NamedState) Recorded {
	what := Recorded{namedBefore: map[uuid.UUID]string{}}
	for _, state := range states {
		what.forgotten = append(what.forgotten, state.Provider)
		j := drift.Unnamed(state.Provider, state.State, state.AlertSeq)
		j.Silenced, j.EndsPending = state.Silenced, state.Pending
		if state.RowName != "" && !e.mentions(state.RowName) {
			what.namedBefore[state.ProviderID] = state.RowName
		}
		if j.IsNews() {
			what.judgements = append(what.judgements, judgement{Judgement: j})
		}
	}
	return what
}

// ignored judges the unmanaged rows that drift, alerted or pending, where such rows are ignored by
// now. The moment is that of the reading, where there are any.
func (r *verification) ignored(ctx context.Context) (judged []judgement, at moment, err error) {
	if r.v.reader.unmanaged.Looks() {
		return nil, at, nil
	}
	r.v.conditions.ignoreRows()
	drifting, err := store.On(r.v.pool).ListDriftingRows(ctx)
	for _, row := range drifting.Rows {
		o := drift.Observation{Provider: row.Recorded.Provider, ProviderID: row.ID, OfRow: true, Kind: drift.Unmanaged}
		judged = append(judged, judgement{Judgement: row.Recorded.Judge(o, drift.IgnoreUnmanaged)})
	}
	return judged, moment{position{generation: drifting.Generation, lastSeq: drifting.LastSeq}, drifting.Newest}, err
}

// moment is when a statement has read what is recorded.
type moment struct {
	position
	newest int64 // generation of environments
}
