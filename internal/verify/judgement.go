package verify

import (
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// judgement is the judgement on one observation.
type judgement struct {
	drift.Judgement
	commit *pubsub.Commit // the transaction that it comes from, nil unless from the WAL
	// repeats is the seq of the silenced alert that the judgement repeats: nothing was
	// compared. 0 for none.
	repeats int64
	// isChange is set of a change of one row, and not of a verification of everything, which
	// counts rows itself.
	isChange bool
}

// knownFormer returns a judgement that makes the row which stood for the provider a known one
// only where it serves: it is unmanaged by now.
func knownFormer(j drift.Judgement, serves bool) drift.Judgement {
	if !serves {
		j.Former = uuid.Nil
	}
	return j
}

// show records in a drift that becomes pending what has shown it: the source, and the commit that
// the judgement is from.
func (j *judgement) show(source pubsub.Source) {
	if !j.NewPending || j.Pending.Shown.Source != "" {
		return
	}
	j.Pending.Shown = drift.Evidence{Source: string(source)}
	if c := j.commit; c != nil {
		j.Pending.Shown.LSN, j.Pending.Shown.XID, j.Pending.Shown.CommittedAt = c.LSN, c.XID, c.CommittedAt
	}
}

// alert returns the alert of a judgement that has one. A drift that was pending has the source and
// the commit that have shown it.
func (j judgement) alert(seq int64, epoch uuid.UUID, source pubsub.Source) (pubsub.DriftAlert, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return pubsub.DriftAlert{}, err
	}
	if s := j.Shown; s.Source != "" {
		source, j.commit = pubsub.Source(s.Source), nil
		if s.LSN != "" {
			j.commit = &pubsub.Commit{LSN: s.LSN, XID: s.XID, CommittedAt: s.CommittedAt}
		}
	}
	o := j.Observation
	alert := pubsub.DriftAlert{
		ID: id, Seq: seq, Epoch: epoch, Kind: j.Alert, Provider: o.Provider, EnvHash: o.EnvHash, DBHash: o.DBHash,
		Source: source, DetectedAt: time.Now(), Commit: j.commit, Moved: j.Moved, How: j.How, Repeats: j.repeats, Unmanaged: o.OfRow,
	}
	if o.ProviderID != uuid.Nil {
		alert.ProviderID = &o.ProviderID
	}
	switch j.Alert {
	case drift.Resolved:
		alert.Resolves = j.AlertSeq
	case drift.Missing:
		alert.RenamedTo = o.RenamedTo
	default:
		alert.Fields = o.Fields
	}
	return alert, nil
}

// repeatOf returns the judgement that alerts a drift again, which is as it was.
func repeatOf(d store.OutlivedDrift) judgement {
	return judgement{repeats: d.AlertSeq, Judgement: drift.Judgement{
		Observation: drift.Observation{
			Provider: d.Provider, ProviderID: d.ProviderID, Kind: d.Kind, Fields: d.Fields, EnvHash: d.EnvHash, DBHash: d.DBHash, Credentials: d.Credentials,
			RenamedTo: d.RenamedTo, OfRow: d.Unmanaged,
		},
		Kind: d.Kind, Alert: d.Kind, Moved: d.Moved, AlertSeq: d.AlertSeq, Silenced: d.Silenced, NewState: true, Before: d.Kind,
	}}
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
