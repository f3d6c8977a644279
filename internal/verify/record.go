package verify

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// maxRaces bounds how often the worker reads again because another one has recorded something
// since.
const maxRaces = 10

// errRace says that other workers keep recording.
var errRace = errors.New("record drift: another worker keeps recording")

// Recorded is what was written of a verification or of the WAL. It is announced once its
// transaction has committed.
type Recorded struct {
	environment *environment // that was compared with
	generation  int64        // that it made, 0 if nothing was written
	judgements  []judgement
	forgotten   []string // providers of which nothing is recorded any more
	// namedBefore are rows that the environment has named, and that stand for no provider
	// any more, by id with the name of the provider.
	namedBefore map[uuid.UUID]string
	alerts      []pubsub.DriftAlert
}

// record is where judgements are written to, and how: in one statement, which writes
// nothing when the generation of the position is over by then.
type record struct {
	db     store.DBTX
	at     position
	term   int64
	newest int64 // generation of environments
	source pubsub.Source
}

// write writes what is new in the judgements, in their order, and notifies. The result
// has the alerts and the generation, which is 0 when nothing was written.
func (r record) write(ctx context.Context, what Recorded) (Recorded, error) {
	recording := store.Recording{
		Forgotten: what.forgotten, Generation: r.at.generation, Term: r.term, Epoch: r.at.epoch, NewestEnvironment: r.newest,
		Bases: newBases(what.judgements), Reasons: newReasons(what.judgements), WithdrawnRows: map[uuid.UUID]drift.Acceptance{},
	}
	for _, a := range what.alerts { // about no provider
		recording.Alerts = append(recording.Alerts, newAlert(a, new(bool)))
	}
	lasting := lastingDrifts{}
	for i := range what.judgements {
		j := &what.judgements[i]
		switch a := j.Withdrawn; {
		case a == nil:
		case j.Observation.OfRow:
			recording.WithdrawnRows[j.Observation.ProviderID] = *a
		default:
			recording.Withdrawn = append(recording.Withdrawn, store.NamedAcceptance{Provider: j.Observation.Provider, Acceptance: *a})
		}
		before := lasting.before(*j)
		j.AlertSeq = before.seq
		if j.Alert != "" {
			alert, err := j.alert(r.at.next(len(what.alerts)), r.at.epoch, r.source)
			if err != nil {
				return Recorded{}, err
			}
			what.alerts = append(what.alerts, alert)
			recording.Alerts = append(recording.Alerts, newAlert(alert, before.silences(alert.Kind)))
			lasting[alert.Subject()] = before.after(alert)
		}
	}
	recording.States = newStates(what.judgements, lasting)
	recording.Pending, recording.NotPending = newPending(what.judgements)
	recording.Rows, recording.ForgottenRows = newRows(what.judgements, lasting)
	recording.PendingRows, recording.NotPendingRows = newPendingRows(what.judgements)
	what.namedBefore = namedBefore(what.namedBefore, what.judgements, recording)
	recording.NamedBefore = what.namedBefore
	written, err := store.On(r.db).Record(ctx, recording)
	if err != nil || written.Generation == 0 {
		return Recorded{}, err
	}
	what.generation = written.Generation
	for i := range what.alerts {
		what.alerts[i].Silenced = slices.Contains(written.Silenced, what.alerts[i].Seq)
	}
	return what, nil
}

// newStates returns the latest new state of each provider, in the order of the first ones.
func newStates(judgements []judgement, lasting lastingDrifts) []store.NewState {
	var states []store.NewState
	at := map[string]int{}
	for _, j := range judgements {
		if !j.NewState || j.Observation.OfRow {
			continue
		}
		name := j.Observation.Provider
		if _, again := at[name]; !again {
			at[name] = len(states)
			states = append(states, store.NewState{Provider: name})
		}
		state := &states[at[name]]
		state.State, state.AlertSeq, state.Silenced = j.State(), 0, nil
		if j.Kind != drift.InSync {
			latest := lasting.before(j)
			state.AlertSeq, state.Silenced = latest.seq, latest.silences(drift.Resolved)
		}
	}
	return states
}

// newPending returns the latest new pending drift of each provider, and the providers of which
// none is pending any more, sorted by name.
func newPending(judgements []judgement) (pending []store.NamedPending, ended []string) {
	latest := map[string]*drift.Pending{}
	for _, j := range judgements {
		switch {
		case j.Observation.OfRow:
		case j.NewPending:
			latest[j.Observation.Provider] = j.Pending
		case j.EndsPending:
			latest[j.Observation.Provider] = nil
		}
	}
	for _, name := range slices.Sorted(maps.Keys(latest)) {
		if p := latest[name]; p != nil {
			pending = append(pending, store.NamedPending{Provider: name, Pending: *p})
		} else {
			ended = append(ended, name)
		}
	}
	return pending, ended
}

// newBases returns the latest new base of each provider, sorted by name.
func newBases(judgements []judgement) []store.NamedBase {
	latest := map[string]*drift.Base{}
	for _, j := range judgements {
		if j.NewBase != nil {
			latest[j.Observation.Provider] = j.NewBase
		}
	}
	bases := make([]store.NamedBase, 0, len(latest))
	for _, name := range slices.Sorted(maps.Keys(latest)) {
		bases = append(bases, store.NamedBase{Provider: name, Base: *latest[name]})
	}
	return bases
}

// newReasons returns the latest new reason of each provider, empty where a comparison is
// possible.
func newReasons(judgements []judgement) map[string]string {
	reasons := map[string]string{}
	for _, j := range judgements {
		if j.NewReason {
			reasons[j.Observation.Provider] = j.Reason
		}
	}
	return reasons
}

// newAlert returns an alert to record, with its payloads. silenced is nil where the
// silences that match the provider decide.
func newAlert(a pubsub.DriftAlert, silenced *bool) store.NewAlert {
	row := store.NewAlert{Source: string(a.Source), Silenced: silenced, Payload: a.Payload(), Alert: store.Alert{
		Seq: a.Seq, ID: a.ID, Kind: a.Kind, Provider: a.Provider, ProviderID: deref(a.ProviderID), Fields: a.Fields,
		EnvHash: a.EnvHash, DBHash: a.DBHash, DetectedAt: a.DetectedAt, Reason: a.Reason,
		Moved: a.Moved, How: a.How, Resolves: a.Resolves, Repeats: a.Repeats, RenamedTo: a.RenamedTo, Unmanaged: a.Unmanaged,
	}}
	if c := a.Commit; c != nil {
		row.LSN, row.XID, row.CommittedAt = c.LSN, c.XID, c.CommittedAt
	}
	a.Silenced = true
	row.SilencedPayload = a.Payload()
	return row
}
