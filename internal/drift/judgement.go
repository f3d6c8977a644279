package drift

import "github.com/google/uuid"

// Judgement says how a provider is now, and what of that is news.
type Judgement struct {
	// Observation is the one that was judged. What is recorded fills in what it does not
	// show: the id of a row that is gone, credentials that cannot be compared.
	Observation Observation
	// Kind is that of the observation, [InSync] where its drift was accepted or is pending, and
	// what was recorded where the row cannot be compared. Of an observation of a row it is what
	// [RecordedRow.Judge] returns.
	Kind Kind
	// Alert is the kind of the alert to publish, empty for none.
	Alert Kind
	// Moved is the side that has moved, of an alert of a drift. How is the way in which a
	// drift ended, of [Resolved]. AlertSeq is the seq of the latest alert of the drift before, 0 for none.
	// Silenced is set where no alert of that drift was for sinks.
	Moved    Moved
	How      How
	AlertSeq int64
	Silenced bool
	// Shown is what has shown the drift of an alert that was pending, with its state. It is empty
	// where the observation has.
	Shown Evidence
	// Pending is a drift that is not alerted yet, nil for none. NewPending is set when it must
	// replace the recorded one, and EndsPending when that must be removed: it is alerted, or has
	// ended before.
	Pending                 *Pending
	NewPending, EndsPending bool
	// NewBase must replace the recorded base, nil where that stands.
	NewBase *Base
	// NewState is set when [Judgement.State] must replace the recorded state.
	NewState bool
	// Reason is why the row, or its API keys, cannot be compared, empty where they can.
	// NewReason is set when it must replace the recorded one.
	Reason    string
	NewReason bool
	// Withdrawn is an acceptance that no longer holds, nil for none.
	Withdrawn *Acceptance
	// Former is the row that stood for the provider as it was recorded, where another one, or
	// none, does now; else [uuid.Nil].
	Former uuid.UUID
	// Before is the kind that is recorded of a row, of an observation of one; empty for
	// nothing.
	Before Kind
}

// IsNews reports whether there is anything to publish or to record.
func (j Judgement) IsNews() bool {
	return j.Alert != "" || j.NewState || j.NewReason || j.NewPending || j.EndsPending || j.NewBase != nil || j.Withdrawn != nil
}

// State returns the state to record.
func (j Judgement) State() State {
	o := j.Observation
	return State{Kind: j.Kind, ProviderID: o.ProviderID, EnvHash: o.EnvHash, DBHash: o.DBHash, Credentials: o.Credentials}
}

// IsAccepted reports whether the provider drifts, and counts as in sync because an
// acceptance holds.
func (j Judgement) IsAccepted() bool {
	return j.Kind == InSync && j.Pending == nil && j.Observation.IsDrift()
}

// IsSettled reports whether the row was judged in sync in every respect, so that a row
// with the same canonical fields need not be judged again. An accepted drift is not
// settled: its acceptance can end without a change of hashes.
//
// sql/statements/scan_states.sql has the same condition, to leave out the rows that are settled.
func (j Judgement) IsSettled() bool {
	return j.Reason == "" && j.Kind == InSync && j.Observation.Kind == InSync && j.Observation.Credentials == ""
}
