package verify

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// sighting is one provider as observed, beside what is recorded of it.
type sighting struct {
	observation drift.Observation
	recorded    drift.Recorded
}

// finding is the judgement on one observation.
type finding struct {
	drift.Judgement
	commit *pubsub.Commit // the transaction that it comes from, nil unless from the WAL
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func (f finding) appendTo(p *store.RecordParams) {
	state := f.State()
	p.StateProviders = append(p.StateProviders, f.Observation.Provider)
	p.StateProviderIds = append(p.StateProviderIds, state.ProviderID)
	p.StateKinds = append(p.StateKinds, string(state.Kind))
	p.StateEnvHashes = append(p.StateEnvHashes, state.EnvHash)
	p.StateDbHashes = append(p.StateDbHashes, state.DBHash)
	p.StateCredentials = append(p.StateCredentials, state.Credentials)
}

func (f finding) driftAlert(seq int64, source pubsub.Source) (pubsub.DriftAlert, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return pubsub.DriftAlert{}, err
	}
	o := f.Observation
	alert := pubsub.DriftAlert{
		ID: id, Seq: seq, Kind: f.Alert, Provider: o.Provider, EnvHash: o.EnvHash, DBHash: o.DBHash,
		Source: source, DetectedAt: time.Now(), Commit: f.commit,
	}
	if o.ProviderID != uuid.Nil {
		alert.ProviderID = &o.ProviderID
	}
	if f.Alert != drift.Resolved {
		alert.Fields = o.Fields
	}
	return alert, nil
}

// appendAlerts adds alerts and their payloads to what is recorded.
func appendAlerts(p *store.RecordParams, alerts []pubsub.DriftAlert) error {
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
