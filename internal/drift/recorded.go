package drift

import (
	"time"

	"github.com/google/uuid"
)

// Recorded is everything that is recorded of one provider.
type Recorded struct {
	State    *State      // nil: nothing was recorded yet
	Accepted *Acceptance // nil: no drift was accepted
	// NotComparable is why the provider could not be compared, empty for no reason.
	NotComparable string
	Base          *Base // nil: both sides never agreed
	// AlertSeq is the seq of the latest alert of the drift that lasts, 0 for none. Silenced is
	// set where no alert of that drift was for sinks.
	AlertSeq int64
	Silenced bool
	// Pending is a drift that is not alerted yet, nil for none.
	Pending *Pending
	// AlertAfter is how long a drift must last until it is alerted, 0 for no time. At is the time
	// by which that is judged: the database's when all of this was read, or that of the commit
	// which the observation is from.
	AlertAfter time.Duration
	At         time.Time
	// EnvironmentSince is when the environment was read, of an observation from a commit; else the zero
	// time. A drift that the environment alone has moved did not begin before.
	EnvironmentSince time.Time
}

// IsAccepted reports whether the provider is recorded as in sync because its drift was
// accepted.
func (r Recorded) IsAccepted() bool { return !r.Accepted.IsExpired() && r.isOfAcceptance() }

// IsExpired reports whether the provider is recorded as in sync because its drift was
// accepted, and the acceptance has expired since.
func (r Recorded) IsExpired() bool { return r.Accepted.IsExpired() && r.isOfAcceptance() }

// isOfAcceptance reports whether the recorded state is that of the accepted drift.
func (r Recorded) isOfAcceptance() bool {
	s, a := r.State, r.Accepted
	return s != nil && a != nil && s.Kind == InSync && s.EnvHash == a.EnvHash && s.DBHash == a.DBHash
}

// before returns the recorded state. A provider without one counts as in sync.
func (r Recorded) before() State {
	if r.State == nil {
		return State{Kind: InSync}
	}
	return *r.State
}

// credentials returns the recorded difference of credentials, that of a pending drift included.
func (r Recorded) credentials() string {
	if before := r.before(); before.Kind != InSync || r.Pending == nil {
		return before.Credentials
	}
	return r.Pending.Credentials
}

// Judge compares an observation with what is recorded, and returns what is news.
//
// What is recorded of a row that cannot be compared stands. What is recorded of
// credentials that cannot be compared stands too: a drift of anything else ends without
// them.
func (r Recorded) Judge(o Observation) Judgement {
	before := r.before()
	if o.ProviderID == uuid.Nil {
		o.ProviderID = before.ProviderID // of the row that was there
	}
	if known := r.credentials(); o.UnreadableCredentials != nil && known != "" && (o.Kind == Changed || o.Kind == Disabled) {
		o.Credentials = known
	}
	j := Judgement{Observation: o, Kind: o.Kind, AlertSeq: r.AlertSeq, Silenced: r.Silenced, NewBase: r.newBase(o)}
	if reason := o.WhyNotComparable(); reason != nil {
		j.Reason = reason.Error()
	}
	j.NewReason = j.Reason != r.NotComparable
	if o.Kind == NotComparable {
		if o.Unreadable != nil || before.Kind == InSync {
			j.Kind = before.Kind
			return j
		}
		// Everything but the API keys agrees. What is recorded of the keys is what is left of
		// the drift.
		o.Kind, o.Credentials = InSync, before.Credentials
		if o.Credentials != "" {
			o.Kind = Changed
		}
	}
	j.Kind = o.Kind
	switch a := r.Accepted; {
	case a.Holds(o):
		j.Kind, o.DBHash = InSync, a.DBHash
	case a != nil && a.isOver(o):
		j.Withdrawn = a
	}
	j.Observation = o

	now := j.State()
	if j.Kind != InSync && before.Kind == InSync {
		if p := r.pending(o, now); !p.hasLasted(r.At, r.AlertAfter) {
			// What is recorded stands.
			j.Kind, j.Pending = InSync, &p
			j.NewPending = r.Pending == nil || !r.Pending.isSameDrift(now) || !r.Pending.Since.Equal(p.Since)
			return j
		}
	}
	j.EndsPending = r.Pending != nil
	j.NewState = now != before
	if j.NewState && (now.ProviderID != before.ProviderID || j.Kind == Missing) {
		j.Former = before.ProviderID
	}
	switch {
	case j.Kind == InSync && before.Kind != InSync:
		j.Alert, j.How = Resolved, r.how(o, j.IsAccepted())
	case j.Kind != InSync && !before.isSameDrift(now):
		j.Alert, j.Moved = j.Kind, r.Moved(o)
		if r.Pending != nil && r.Pending.isSameDrift(now) {
			j.Shown = r.Pending.Shown
		}
	}
	return j
}

// pending returns the pending drift that is recorded of an observation. A drift that
// would begin later, since the clock was set back, begins now. An older commit does not show when a
// drift began that the environment has moved since.
func (r Recorded) pending(o Observation, now State) Pending {
	p := Pending{State: now, Fields: o.Fields, Moved: r.Moved(o), RenamedTo: o.RenamedTo, Since: r.At}
	if p.Moved == EnvironmentMoved && p.Since.Before(r.EnvironmentSince) {
		p.Since = r.EnvironmentSince
	}
	before := r.Pending.lasting(r.Accepted, r.AlertAfter)
	if before == nil {
		return p
	}
	if before.Since.Before(p.Since) {
		p.Since = before.Since
	}
	if before.isSameDrift(now) {
		p.Shown = before.Shown
	}
	return p
}

// Lasted judges the pending drift of a provider that has lasted for long enough by the time of the
// judgement. It does not depend on the latest row. It reports false where no
// pending drift has lasted, or an operator accepted it before.
func (r Recorded) Lasted(provider string) (Judgement, bool) {
	p := r.Pending.lasting(r.Accepted, r.AlertAfter)
	if p == nil || r.before().Kind != InSync || !p.hasLasted(r.At, r.AlertAfter) {
		return Judgement{}, false
	}
	return Judgement{
		Observation: Observation{
			Provider: provider, ProviderID: p.ProviderID, Kind: p.Kind, Fields: p.Fields, EnvHash: p.EnvHash, DBHash: p.DBHash, Credentials: p.Credentials,
			RenamedTo: p.RenamedTo,
		},
		Kind: p.Kind, Alert: p.Kind, Moved: p.Moved, Shown: p.Shown, NewState: true, EndsPending: true, Reason: r.NotComparable,
	}, true
}

// JudgeRow is [Recorded.Judge] of an observation that was made without credentials, as
// of a row that the WAL shows: what is recorded of credentials stands. It reports false
// where the row alone does not decide. With credentials set, they are compared elsewhere and can be why
// the provider could not be compared: a row that agrees does not end that.
//
// What was accepted, or agreed on, after the commit stands: the commit does not show the row of then.
func (r Recorded) JudgeRow(o Observation, credentials bool) (Judgement, bool) {
	if credentials && o.Kind == InSync && r.NotComparable != "" {
		return Judgement{}, false
	}
	if known := r.credentials(); known != "" && o.Kind != NotComparable && o.Kind != Missing {
		o.Credentials = known
		if o.Kind == InSync {
			o.Kind = Changed
		}
	}
	j := r.Judge(o)
	if j.Withdrawn.isLaterThan(r.At) {
		j.Withdrawn = nil
	}
	if r.Base != nil && r.Base.isSetAfter(r.At) {
		j.NewBase = nil
	}
	return j, true
}

// newBase returns the base to record with an observation, nil where what is recorded stands.
func (r Recorded) newBase(o Observation) *Base {
	if !o.agrees() || o.pair == (Base{}) { // an observation of no comparison has no pair
		return nil
	}
	if r.Base != nil && r.Base.samePair(o.pair) && r.Base.Origin == ByAgreement && r.Base.Named {
		return nil
	}
	base := o.Base()
	if r.Base != nil {
		base.SetAt = r.Base.SetAt
	}
	return &base
}

// Moved returns which side of a provider has moved since both last agreed. A row that is
// missing, soft-deleted or disabled has moved itself, unless the environment has only begun
// to name the provider.
func (r Recorded) Moved(o Observation) Moved {
	switch o.Kind {
	case Missing, Deleted, Disabled:
		if r.State == nil && (r.Base == nil || !r.Base.Named) {
			return EnvironmentMoved
		}
		return DatabaseMoved
	}
	return o.Moved(r.Base)
}

// how returns how a drift ended that the judgement is the end of.
func (r Recorded) how(o Observation, accepted bool) How {
	before := r.before()
	base := r.Base.usable(o)
	switch {
	case accepted:
		return Accepted
	case base != nil && base.Origin == ByResolve && base.samePair(o.pair):
		return ResolvedByOperator
	case before.Kind == Changed && before.EnvHash != o.EnvHash && (before.DBHash == o.DBHashes.Alone || before.DBHash == o.DBHashes.Anthropic):
		return EnvironmentChanged
	default:
		return Reverted
	}
}

// After returns what is recorded once the judgement is.
func (r Recorded) After(j Judgement) Recorded {
	r.NotComparable = j.Reason
	if j.NewState {
		state := j.State()
		r.State = &state
	}
	if j.Withdrawn != nil {
		r.Accepted = nil
	}
	if j.NewBase != nil {
		r.Base = j.NewBase
	}
	switch {
	case j.NewPending:
		r.Pending = j.Pending
	case j.EndsPending:
		r.Pending = nil
	}
	return r
}

// Unnamed judges what is recorded of a provider that the environment no longer names.
// Nothing is left that the row could differ from, and so its drift is over. Nothing is to
// be recorded: the state is forgotten. A state without a kind is that of a provider of
// which nothing was recorded but that it could not be compared.
func Unnamed(provider string, s State, alertSeq int64) Judgement {
	j := Judgement{Kind: InSync, AlertSeq: alertSeq, Observation: Observation{Provider: provider, ProviderID: s.ProviderID, DBHash: s.DBHash}}
	if s.Kind != InSync && s.Kind != "" {
		j.Alert, j.How = Resolved, NoLongerNamed
	}
	return j
}
