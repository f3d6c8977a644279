package verify

import (
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
)

// judgement is the judgement on one observation.
type judgement struct {
	drift.Judgement
	commit *pubsub.Commit // the transaction that it comes from, nil unless from the WAL
}

// alert returns the alert of a judgement that has one.
func (j judgement) alert(seq int64, epoch uuid.UUID, source pubsub.Source) (pubsub.DriftAlert, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return pubsub.DriftAlert{}, err
	}
	o := j.Observation
	alert := pubsub.DriftAlert{
		ID: id, Seq: seq, Epoch: epoch, Kind: j.Alert, Provider: o.Provider, EnvHash: o.EnvHash, DBHash: o.DBHash,
		Source: source, DetectedAt: time.Now(), Commit: j.commit, Moved: j.Moved, How: j.How,
	}
	if o.ProviderID != uuid.Nil {
		alert.ProviderID = &o.ProviderID
	}
	if j.Alert == drift.Resolved {
		alert.Resolves = j.AlertSeq
	} else {
		alert.Fields = o.Fields
	}
	return alert, nil
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
