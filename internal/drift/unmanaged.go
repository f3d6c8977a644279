package drift

import (
	"time"

	"github.com/google/uuid"

	"provwatch/internal/provider"
)

// UnmanagedMode is how enabled, live rows count that the environment does not name. The zero
// value is [IgnoreUnmanaged].
type UnmanagedMode string

// The modes of --unmanaged.
const (
	IgnoreUnmanaged UnmanagedMode = "ignore" // do not look for them
	WarnUnmanaged   UnmanagedMode = "warn"   // log each that was not there before, once
	AlertUnmanaged  UnmanagedMode = "alert"  // each that was not there before is a drift
)

// Looks reports whether unmanaged rows are looked for.
func (m UnmanagedMode) Looks() bool { return m == WarnUnmanaged || m == AlertUnmanaged }

// Subject is what an observation or an alert is about: the provider that the environment
// names, or a row that it does not name.
type Subject struct {
	Provider string    // empty of a row
	Row      uuid.UUID // [uuid.Nil] of a provider
}

// Subject returns what the observation is about.
func (o Observation) Subject() Subject {
	if o.OfRow {
		return Subject{Row: o.ProviderID}
	}
	return Subject{Provider: o.Provider}
}

// ObserveRow returns what a row is by itself: [Unmanaged] where it is enabled and live and the
// environment does not name it, else [InSync]. named reports whether the environment names a
// provider of its name.
func ObserveRow(h provider.Hasher, row *provider.Row, named bool) Observation {
	o := Observation{Provider: row.Name, ProviderID: row.ID, OfRow: true, IsNamed: named, Kind: InSync, DBType: row.Type}
	if !row.Deleted && row.Enabled && !named {
		o.Kind = Unmanaged
	}
	settings := row.DecodedSettings()
	stored := provider.CanonicalOfRow(row.Type, row.BaseURL, settings)
	if row.Hashes == nil {
		o.PartHash = partHash(h, row)
	}
	switch {
	case settings.Err != nil:
		o.Unreadable = settings.Err
	case row.Hashes != nil:
		o.DBHashes = *row.Hashes
	default:
		o.DBHashes = h.RowHashes(stored)
	}
	o.DBHash = o.DBHashes.Alone
	if o.Kind == Unmanaged {
		o.Fields = rowFields(row.Type, stored, settings)
	}
	return o
}

// rowFields returns the fields of a row, as differences from nothing.
func rowFields(column provider.Type, stored provider.Canonical, settings provider.DecodedSettings) []Field {
	label := string(column)
	if stored.Type != column {
		label += " (Bedrock)"
	}
	fields := []Field{{Name: TypeField, DB: label}, {Name: BaseURLField, DB: provider.DisplayText(provider.DisplayURL(stored.BaseURL))}}
	switch {
	case settings.Err != nil:
		fields = append(fields, Field{Name: SettingsField, DB: NotCompared + settings.Err.Error()})
	case stored.BedrockRegion != "":
		fields = append(fields, Field{Name: RegionField, DB: provider.DisplayText(stored.BedrockRegion)})
	}
	return fields
}

// GoneRow returns the observation of a row that is no longer there.
func GoneRow(id uuid.UUID) Observation {
	return Observation{ProviderID: id, OfRow: true, Kind: InSync}
}

// RecordedRow is everything that is recorded of a row that the environment does not name.
type RecordedRow struct {
	// Provider is the name that the row had when this was recorded: of a drift that was
	// alerted, the name in the alert.
	Provider string
	// State is nil where nothing is recorded. Its kind is [Known], [Unmanaged] once the row was
	// alerted, or [InSync] once it was accepted. Its hash is that of then.
	State *State
	// Accepted is the operator's acceptance of the row, nil for none.
	Accepted *Acceptance
	// AlertSeq and Silenced are as in [Recorded].
	AlertSeq int64
	Silenced bool
	// Pending is a drift that is not alerted yet, nil for none. The state is then not
	// [Unmanaged].
	Pending *Pending
	// AlertAfter and At are as in [Recorded].
	AlertAfter time.Duration
	At         time.Time
	// NamedBefore is set where the environment has named the row: it was recorded
	// as the row of a provider, or the environment of another worker names its provider.
	NamedBefore bool
}

// before returns the recorded kind, empty for none.
func (r RecordedRow) before() Kind {
	if r.State == nil {
		return ""
	}
	return r.State.Kind
}

// Judge compares an observation of a row with what is recorded of it, and returns what is
// news. A row that the environment named before becomes [Known]. Other values of a row that
// drifts are no news: they only end its acceptance.
//
// In another mode than [AlertUnmanaged] a drift ends, and none begins. The kind of the
// judgement is empty of a row of which nothing must be recorded, and the recorded one while a
// drift is pending.
func (r RecordedRow) Judge(o Observation, mode UnmanagedMode) Judgement {
	before, isThere := r.before(), o.Kind == Unmanaged
	j := Judgement{Observation: o, Before: before, AlertSeq: r.AlertSeq, Silenced: r.Silenced}
	switch {
	case !isThere:
	case before == Known, before == "" && r.NamedBefore:
		j.Kind = Known
	case mode != AlertUnmanaged:
	case r.Accepted.holdsRow(o):
		j.Kind = InSync
	default:
		j.Kind = Unmanaged
	}
	if a := r.Accepted; a != nil && (!isThere || !a.holdsRow(o)) {
		j.Withdrawn = a
	}
	if before == Unmanaged || !isThere && r.Pending != nil {
		j.Observation.Provider = r.Provider // as in the alert; the row can be removed
	}
	if j.Kind == Unmanaged && before != Unmanaged {
		if p := r.pending(j); !p.hasLasted(r.At, r.AlertAfter) {
			// What is recorded stands.
			j.Kind, j.Pending = before, &p
			j.NewPending = r.Pending == nil || !r.Pending.isSameDrift(p.State) || !r.Pending.Since.Equal(p.Since) || r.Provider != o.Provider
			return j
		}
	}
	j.EndsPending = r.Pending != nil
	j.NewState = j.Kind != before
	switch {
	case !j.NewState:
	case j.Kind == Unmanaged:
		j.Alert, j.Moved = Unmanaged, DatabaseMoved
		if r.Pending != nil && r.Pending.isSameDrift(j.State()) {
			j.Shown = r.Pending.Shown
		}
	case before == Unmanaged:
		j.Alert, j.How = Resolved, howRowEnded(o, j.Kind)
	}
	return j
}

// JudgeCommit is [RecordedRow.Judge] of a row that a commit of the WAL shows. What was accepted
// after the commit stands, as with [Recorded.JudgeRow].
func (r RecordedRow) JudgeCommit(o Observation, mode UnmanagedMode) Judgement {
	j := r.Judge(o, mode)
	if j.Withdrawn.isLaterThan(r.At) {
		j.Withdrawn = nil
	}
	return j
}

// pending returns the pending drift that is recorded of a judgement of an unmanaged row. Where the
// clock was set back, it begins as that of a provider does.
func (r RecordedRow) pending(j Judgement) Pending {
	p := Pending{State: j.State(), Fields: j.Observation.Fields, Moved: DatabaseMoved, Since: r.At}
	before := r.Pending.lasting(r.Accepted, r.AlertAfter)
	if before == nil {
		return p
	}
	if before.Since.Before(r.At) {
		p.Since = before.Since
	}
	if before.isSameDrift(p.State) {
		p.Shown = before.Shown
	}
	return p
}

// Lasted judges the pending drift of the row of an id as [Recorded.Lasted] does that of a
// provider.
func (r RecordedRow) Lasted(id uuid.UUID, mode UnmanagedMode) (Judgement, bool) {
	p := r.Pending.lasting(r.Accepted, r.AlertAfter)
	if p == nil || mode != AlertUnmanaged || !p.hasLasted(r.At, r.AlertAfter) {
		return Judgement{}, false
	}
	return Judgement{
		Observation: Observation{Provider: r.Provider, ProviderID: id, OfRow: true, Kind: Unmanaged, Fields: p.Fields, DBHash: p.DBHash},
		Kind:        Unmanaged, Before: r.before(), Alert: Unmanaged, Moved: p.Moved, Shown: p.Shown, NewState: true, EndsPending: true,
	}, true
}

// howRowEnded returns how the drift of a row ended, of which the kind is recorded from now on.
func howRowEnded(o Observation, kind Kind) How {
	switch {
	case kind == InSync:
		return Accepted
	case o.Kind != Unmanaged && !o.IsNamed:
		return Reverted
	default:
		return EnvironmentChanged // which names it, or the mode is another
	}
}

// After returns what is recorded once the judgement is.
func (r RecordedRow) After(j Judgement) RecordedRow {
	if j.NewState {
		r.State, r.Provider = nil, ""
		if j.Kind != "" {
			state := j.State()
			r.State, r.Provider = &state, j.Observation.Provider
		}
	}
	switch {
	case j.NewPending:
		r.Pending, r.Provider = j.Pending, j.Observation.Provider
	case j.EndsPending:
		r.Pending = nil
	}
	if j.Withdrawn != nil {
		r.Accepted = nil
	}
	return r
}

// holdsRow reports whether the acceptance lasts and the row has the values that were accepted. Where
// its settings cannot be read, only type and base URL count, and nothing where these are not known.
// A nil acceptance does not hold.
func (a *Acceptance) holdsRow(o Observation) bool {
	switch {
	case a == nil || a.IsExpired():
		return false
	case o.Unreadable == nil:
		return a.DBHash == o.DBHash
	default:
		return o.PartHash == "" || a.PartHash == o.PartHash
	}
}

// partHash returns the hash of type and base URL of a row alone. The two Bedrock types are one: the
// gateway rewrites a row from one to the other.
func partHash(h provider.Hasher, row *provider.Row) string {
	part := provider.Canonical{Type: row.Type, BaseURL: row.BaseURL}
	if part.Type == provider.AmazonBedrock {
		part.Type = provider.Anthropic
	}
	return h.Hash(part)
}

// UnmanagedRow is an enabled, live row that the environment does not name, beside what is
// recorded of it.
type UnmanagedRow struct {
	Observation Observation
	Recorded    RecordedRow
}

// IsManaged reports whether the environment of a worker names the row, by what is recorded.
func (u UnmanagedRow) IsManaged() bool { return u.Recorded.State == nil && u.Recorded.NamedBefore }

// IsAlerted reports whether a worker has alerted the row and its drift lasts, accepted or not.
func (u UnmanagedRow) IsAlerted() bool {
	before := u.Recorded.before()
	return before == Unmanaged || before == InSync
}

// IsAccepted reports whether an operator has accepted the row, which has not changed since.
func (u UnmanagedRow) IsAccepted() bool { return u.Recorded.Accepted.holdsRow(u.Observation) }

// AcceptedUntil returns when the acceptance of the row ends, the zero time where it has no end.
func (u UnmanagedRow) AcceptedUntil() time.Time {
	if u.Recorded.Accepted == nil {
		return time.Time{}
	}
	return u.Recorded.Accepted.Expires
}

// IsDrift reports whether the row was alerted and is not accepted.
func (u UnmanagedRow) IsDrift() bool { return u.IsAlerted() && !u.IsAccepted() }
