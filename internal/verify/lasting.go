package verify

import (
	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
)

// lastingDrift is what is known of the drift of a provider, or of an unmanaged row, at a moment of
// one record: its latest alert, and whether sinks got one of its alerts.
type lastingDrift struct {
	seq int64 // of the latest alert, 0 for none
	// sent is set where an alert of the drift was for sinks. Of one in the same record,
	// recorded is set: the statement decides about it.
	sent, recorded bool
}

// lastingDrifts are those of what the record alerts.
type lastingDrifts map[drift.Subject]lastingDrift

// before returns the drift before a judgement.
func (l lastingDrifts) before(j judgement) lastingDrift {
	if d, alerted := l[j.Observation.Subject()]; alerted {
		return d
	}
	return lastingDrift{seq: j.AlertSeq, sent: j.AlertSeq != 0 && !j.Silenced}
}

// after returns the drift after an alert.
func (d lastingDrift) after(a pubsub.DriftAlert) lastingDrift {
	if a.Kind == drift.Resolved {
		return lastingDrift{}
	}
	return lastingDrift{seq: a.Seq, sent: d.sent, recorded: true}
}

// silences reports whether an alert of the kind that follows is silenced, nil where the
// silences that match the provider decide. The end of a drift is sent to sinks exactly when
// an alert of the drift was (docs/specification.md, section 6).
func (d lastingDrift) silences(kind drift.Kind) *bool {
	if kind != drift.Resolved || !d.sent && (d.recorded || d.seq == 0) {
		return nil
	}
	silenced := !d.sent
	return &silenced
}
