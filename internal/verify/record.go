package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// Recorded is what was written of a verification or of the WAL. It is announced once its
// transaction has committed.
type Recorded struct {
	environment *environment // that was compared with
	generation  int64        // that it made, 0 if nothing was written
	judgements  []judgement
	forgotten   []string // providers of which nothing is recorded any more
	alerts      []pubsub.DriftAlert
}

// record is where judgements are written to, and how: in one statement, which writes
// nothing when the generation of the position is over by then.
type record struct {
	db     store.DBTX
	at     position
	term   int64
	source pubsub.Source
}

// write writes what is new in the judgements, in their order, and notifies. The result
// has the alerts and the generation, which is 0 when nothing was written.
func (r record) write(ctx context.Context, what Recorded) (Recorded, error) {
	params := store.RecordParams{
		Forgotten: what.forgotten, Generation: r.at.generation, Term: r.term, Epoch: r.at.epoch, Source: string(r.source),
	}
	for _, j := range what.judgements {
		if a := j.Withdrawn; a != nil {
			params.WithdrawnProviders = append(params.WithdrawnProviders, j.Observation.Provider)
			params.WithdrawnKinds = append(params.WithdrawnKinds, string(a.Kind))
			params.WithdrawnEnvHashes = append(params.WithdrawnEnvHashes, a.EnvHash)
			params.WithdrawnDbHashes = append(params.WithdrawnDbHashes, a.DBHash)
		}
		if j.Alert != "" {
			alert, err := j.alert(r.at.next(len(what.alerts)), r.at.epoch, r.source)
			if err != nil {
				return Recorded{}, err
			}
			what.alerts = append(what.alerts, alert)
		}
	}
	addStates(&params, what.judgements)
	addReasons(&params, what.judgements)
	if err := addAlerts(&params, what.alerts); err != nil {
		return Recorded{}, err
	}
	done, err := store.On(r.db).Record(ctx, params)
	if err != nil || len(done) == 0 {
		return Recorded{}, err
	}
	what.generation = done[0].Generation
	return what, nil
}

// addStates adds the latest new state of each provider, in the order of the first ones.
func addStates(p *store.RecordParams, judgements []judgement) {
	latest := map[string]drift.State{}
	var names []string
	for _, j := range judgements {
		if !j.NewState {
			continue
		}
		name := j.Observation.Provider
		if _, again := latest[name]; !again {
			names = append(names, name)
		}
		latest[name] = j.State()
	}
	for _, name := range names {
		state := latest[name]
		p.StateProviders = append(p.StateProviders, name)
		p.StateProviderIds = append(p.StateProviderIds, state.ProviderID)
		p.StateKinds = append(p.StateKinds, string(state.Kind))
		p.StateEnvHashes = append(p.StateEnvHashes, state.EnvHash)
		p.StateDbHashes = append(p.StateDbHashes, state.DBHash)
		p.StateCredentials = append(p.StateCredentials, state.Credentials)
	}
}

// addReasons adds the latest new reason of each provider that cannot be compared, and
// those that can be.
func addReasons(p *store.RecordParams, judgements []judgement) {
	reasons := map[string]string{}
	for _, j := range judgements {
		if j.NewReason {
			reasons[j.Observation.Provider] = j.Reason
		}
	}
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		if reason := reasons[name]; reason == "" {
			p.Compared = append(p.Compared, name)
		} else {
			p.NotCompared, p.Reasons = append(p.NotCompared, name), append(p.Reasons, reason)
		}
	}
}

// addAlerts adds alerts and their payloads.
func addAlerts(p *store.RecordParams, alerts []pubsub.DriftAlert) error {
	for _, a := range alerts {
		fields := a.Fields
		if fields == nil {
			fields = []drift.Field{}
		}
		encoded, err := json.Marshal(fields)
		if err != nil {
			return fmt.Errorf("encode the fields of provider %q: %w", a.Provider, err)
		}
		commit := pubsub.Commit{CommittedAt: time.Unix(0, 0)}
		if a.Commit != nil {
			commit = *a.Commit
		}
		p.Seqs = append(p.Seqs, a.Seq)
		p.Ids = append(p.Ids, a.ID)
		p.Kinds = append(p.Kinds, string(a.Kind))
		p.Providers = append(p.Providers, a.Provider)
		p.ProviderIds = append(p.ProviderIds, deref(a.ProviderID))
		p.Fields = append(p.Fields, string(encoded))
		p.EnvHashes = append(p.EnvHashes, a.EnvHash)
		p.DbHashes = append(p.DbHashes, a.DBHash)
		p.DetectedAts = append(p.DetectedAts, a.DetectedAt)
		p.Lsns = append(p.Lsns, commit.LSN)
		p.Xids = append(p.Xids, commit.XID)
		p.CommittedAts = append(p.CommittedAts, commit.CommittedAt)
		p.AlertReasons = append(p.AlertReasons, a.Reason)
		p.Payloads = append(p.Payloads, a.Payload())
	}
	return nil
}
