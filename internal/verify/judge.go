package verify

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// Observed is an observation that [Verifier.Record] judges.
type Observed struct {
	drift.Observation
	// Commit is the transaction that made it so, nil if it is as things are now.
	Commit *pubsub.Commit
	// AllGone stands for an observation of each unmanaged row that is recorded, of which the
	// transaction has no other one: the row was removed. The rest of the observation is empty.
	AllGone bool

	environment *environment // that it was compared with, nil where the caller compared it
	// formerServes is that of the comparison. A commit shows the row that stood for the
	// provider itself.
	formerServes bool
	// recorded is what was recorded when the row was read, empty where the caller read it, and
	// acceptance that of an unmanaged row.
	recorded   drift.Recorded
	acceptance *drift.Acceptance
}

// stand leaves of a judgement on the observation what ends something that was recorded since the
// row was read: an acceptance, and what both sides agreed on.
func (o Observed) stand(j drift.Judgement) drift.Judgement {
	if o.environment == nil {
		return j
	}
	accepted, base := o.recorded.Accepted, o.recorded.Base
	if o.OfRow {
		accepted = o.acceptance
	}
	if j.Withdrawn != nil && !j.Withdrawn.IsSame(accepted) {
		j.Withdrawn = nil
	}
	if j.NewBase != nil {
		// It replaces the base that was read, and no other.
		if j.NewBase.SetAt = ""; base != nil {
			j.NewBase.SetAt = base.SetAt
		}
	}
	return j
}

// judge judges observations in their order, each against what the ones before it left. One
// goroutine uses it.
type judge struct {
	environment *environment
	formerly    formerlyNamed
	source      pubsub.Source
	mode        drift.UnmanagedMode
	credentials bool          // they are compared elsewhere
	alertAfter  time.Duration // that of the verifier
	since       time.Time     // that of the environment

	providers map[string]drift.Recorded
	// rows has what is recorded of rows. Its maps are nil where unmanaged ones are ignored, or
	// where none were taken for known ones yet.
	rows store.RecordedRows
	// ended are the rows that an observation has shown to be disabled or removed.
	ended map[uuid.UUID]bool
}

// read reads in a transaction what is recorded of the subjects of observations.
func (k *judge) read(ctx context.Context, tx pgx.Tx, observed []Observed) (err error) {
	var names, rowNames []string
	var ids []uuid.UUID
	k.ended = map[uuid.UUID]bool{}
	allGone := false
	for _, o := range observed {
		switch {
		case o.AllGone:
			allGone = true
		case o.OfRow:
			ids, rowNames = append(ids, o.ProviderID), append(rowNames, o.Provider)
		default:
			names = append(names, o.Provider)
		}
	}
	slices.Sort(names)
	if k.providers, err = store.On(tx).ReadRecorded(ctx, slices.Compact(names)); err != nil {
		return err
	}
	if !k.mode.Looks() || len(ids) == 0 && !allGone {
		return nil
	}
	return k.readRows(ctx, store.On(tx), ids, rowNames, allGone)
}

// readRows reads what is recorded of rows, which have the names, or also of all others.
func (k *judge) readRows(ctx context.Context, queries *store.Queries, ids []uuid.UUID, names []string, all bool) error {
	started, err := queries.HasUnmanagedBaseline(ctx)
	if err != nil || !started {
		return err
	}
	if all {
		others, err := queries.ListUnmanagedIDs(ctx)
		if err != nil {
			return err
		}
		ids, names = append(ids, others...), append(names, make([]string, len(others))...)
	}
	k.rows, err = queries.ReadRecordedRows(ctx, ids, names)
	return err
}

// count adds to how many providers the rows stand for that are recorded of a provider, as
// [store.RecordedRows] counts them.
func (k *judge) count(r drift.Recorded, providers int64) {
	if k.rows.Providers == nil {
		return
	}
	lost := r.Pending != nil && r.Pending.Kind == drift.Missing
	if r.State != nil && r.State.Kind != drift.Missing && !lost {
		k.rows.Providers[r.State.ProviderID] += providers
	}
	if r.Pending != nil && !lost {
		k.rows.Providers[r.Pending.ProviderID] += providers
	}
}

// judgeAll judges observations in their order. It leaves out what the verification that
// follows decides.
func (k *judge) judgeAll(observed []Observed) []judgement {
	judgements := make([]judgement, 0, len(observed))
	for i, o := range observed {
		switch {
		case o.AllGone:
			judgements = append(judgements, k.allGone(observed[i:])...)
		case !o.OfRow:
			judgements = append(judgements, k.provider(o)...)
		case k.rows.Rows != nil:
			judgements = append(judgements, k.row(o)...)
		}
	}
	return judgements
}

// provider judges an observation of a provider, before it a pending drift that has lasted by the
// commit. It returns nothing where it does not decide.
func (k *judge) provider(o Observed) (judgements []judgement) {
	known := k.providers[o.Provider]
	if isBeforeApply(o.Commit, known.Base) {
		return nil
	}
	recorded := known
	recorded.AlertAfter = k.alertAfter
	j, judged := judgement{commit: o.Commit}, true
	if o.Commit == nil {
		j.Judgement = o.stand(recorded.Judge(o.Observation))
	} else {
		recorded.At, recorded.EnvironmentSince = o.Commit.CommittedAt, k.since
		if lasted, ok := recorded.Lasted(o.Provider); ok {
			judgements = append(judgements, judgement{Judgement: lasted})
			recorded = recorded.After(lasted)
		}
		// Where it is not judged, the verification that follows compares the credentials.
		j.Judgement, judged = recorded.JudgeRow(o.Observation, k.credentials)
	}
	if judged && !k.environment.withholds(j.Judgement) {
		j.Judgement = knownFormer(j.Judgement, o.formerServes || !k.mode.Looks() && o.RenamedTo != "" && !k.environment.mentions(o.RenamedTo))
		j.show(k.source)
		judgements = append(judgements, j)
		recorded = recorded.After(j.Judgement)
	}
	recorded.At, recorded.EnvironmentSince = known.At, time.Time{}
	k.count(known, -1)
	k.count(recorded, 1)
	k.providers[o.Provider] = recorded
	return judgements
}

// row judges an observation of an unmanaged row, as provider does that of a provider.
func (k *judge) row(o Observed) (judgements []judgement) {
	recorded := k.rows.Rows[o.ProviderID]
	readAt := recorded.At
	recorded.AlertAfter, recorded.NamedBefore = k.alertAfter, k.rows.Providers[o.ProviderID] > 0 || k.rows.Named[o.Provider] || !k.ended[o.ProviderID] && k.formerly.has(o.Observation, recorded)
	j := judgement{commit: o.Commit, isChange: o.Commit != nil}
	if o.Commit == nil {
		j.Judgement = o.stand(recorded.Judge(o.Observation, k.mode))
	} else {
		recorded.At = o.Commit.CommittedAt
		if lasted, ok := recorded.Lasted(o.ProviderID, k.mode); ok {
			judgements = append(judgements, judgement{Judgement: lasted})
			recorded = recorded.After(lasted)
		}
		j.Judgement = recorded.JudgeCommit(o.Observation, k.mode)
	}
	j.show(k.source)
	if o.Kind != drift.Unmanaged && !o.IsNamed {
		k.ended[o.ProviderID] = true
	}
	recorded = recorded.After(j.Judgement)
	recorded.At = readAt
	k.rows.Rows[o.ProviderID] = recorded
	return append(judgements, j)
}

// isBeforeApply reports whether a commit came before an apply wrote to the row: what it shows
// differs from the environment that was applied then, and the row was as agreed at the apply.
func isBeforeApply(commit *pubsub.Commit, base *drift.Base) bool {
	if commit == nil || base == nil || base.AppliedLSN == 0 {
		return false
	}
	at, err := pglogrepl.ParseLSN(commit.LSN)
	return err == nil && uint64(at) <= base.AppliedLSN
}

// allGone judges the unmanaged rows that the first of the observations stands for. The others
// of its transaction follow it.
func (k *judge) allGone(observed []Observed) (judgements []judgement) {
	commit, seen := observed[0].Commit, map[uuid.UUID]bool{}
	for _, o := range observed[1:] {
		if o.Commit != commit {
			break
		}
		seen[o.ProviderID] = seen[o.ProviderID] || o.OfRow
	}
	for id, recorded := range k.rows.Rows {
		if (recorded.State != nil || recorded.Pending != nil || recorded.Accepted != nil) && !seen[id] {
			judgements = append(judgements, k.row(Observed{Observation: drift.GoneRow(id), Commit: commit})...)
		}
	}
	slices.SortStableFunc(judgements, func(a, b judgement) int {
		one, other := a.Observation, b.Observation
		return cmp.Or(cmp.Compare(one.Provider, other.Provider), bytes.Compare(one.ProviderID[:], other.ProviderID[:]))
	})
	return judgements
}
