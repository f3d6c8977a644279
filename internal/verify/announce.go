package verify

import (
	"context"
	"log/slog"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
)

// announce logs and counts what was recorded, and updates what is known of it. Its
// transaction has committed.
func (v *Verifier) announce(ctx context.Context, recorded Recorded) {
	if recorded.generation != 0 {
		v.baseline.add(recorded)
	}
	for _, j := range recorded.judgements {
		if j.repeats == 0 {
			v.judged(ctx, recorded.environment, j)
		}
		if j.NewPending {
			v.pending.add()
			v.logger.InfoContext(ctx, "drift pending", "kind", string(j.Pending.Kind), "provider", j.Observation.Provider,
				"fields", drift.List(j.Pending.Kind, j.Pending.Fields), "source", j.Pending.Shown.Source, "since", j.Pending.Since.UTC())
		}
		if j.EndsPending {
			v.pending.prompt()
		}
		if j.EndsPending && j.Alert == "" {
			v.metrics.DriftPassed()
			v.logger.InfoContext(ctx, "pending drift has ended, not alerted", "provider", j.Observation.Provider)
		}
	}
	for _, a := range recorded.alerts {
		if a.Silenced {
			v.silences.add()
		}
		v.sequence.see(a.Epoch, a.Seq)
		v.metrics.AlertPublished(a.Kind, a.Source)
		if !a.Kind.HasProvider() {
			v.announceOfNone(ctx, a)
			continue
		}
		level, message := slog.LevelWarn, "drift"
		if a.Silenced {
			level = slog.LevelInfo
		}
		if a.Kind == drift.Resolved {
			level, message = slog.LevelInfo, "drift resolved"
		}
		attributes := []any{
			"kind", string(a.Kind), "provider", a.Provider, "seq", a.Seq, "fields", drift.List(a.Kind, a.Fields), "source", string(a.Source), moving(a),
		}
		if a.RenamedTo != "" {
			attributes = append(attributes, "renamed_to", a.RenamedTo)
		}
		if a.Silenced {
			attributes = append(attributes, "silenced", true)
		}
		if a.Repeats != 0 {
			attributes = append(attributes, "repeats", a.Repeats)
		}
		if a.Resolves != 0 {
			attributes = append(attributes, "resolves", a.Resolves)
		}
		v.logger.Log(ctx, level, message, attributes...)
	}
}

// Unannounced has the verifier look again for silenced alerts and pending drifts. It is called
// when a record has failed: the server can have committed it all the same.
func (v *Verifier) Unannounced() {
	v.silences.add()
	v.pending.add()
}

// moving returns which side has moved, of a drift, or how it ended.
func moving(a pubsub.DriftAlert) slog.Attr {
	if a.Kind == drift.Resolved {
		return slog.String("how", string(a.How))
	}
	return slog.String("moved", string(a.Moved))
}

// announceOfNone logs and measures an alert that is about no provider.
func (v *Verifier) announceOfNone(ctx context.Context, a pubsub.DriftAlert) {
	message := "changes may have passed unseen"
	measured := a.Kind
	switch {
	case a.Kind != drift.Rewound:
	case a.Certain != nil && *a.Certain:
		message = "alerts may be lost: their sequence was rewound"
	default:
		message, measured = "the latest alerts may be lost: their sequence may have been rewound", ""
	}
	v.logger.LogAttrs(ctx, slog.LevelWarn, message, slog.String("kind", string(a.Kind)), slog.Int64("seq", a.Seq), slog.String("reason", a.Reason),
		slog.String("source", string(a.Source)), slog.String("epoch", a.Epoch.String()))
	if measured != "" {
		v.metrics.GapObserved(measured, a.DetectedAt)
	}
}

// judged takes over a judgement whose state is recorded.
func (v *Verifier) judged(ctx context.Context, e *environment, j judgement) {
	if j.Observation.OfRow {
		v.conditions.judgedRow(ctx, j.Judgement, v.reader.unmanaged, j.isChange)
		return
	}
	desired, _ := e.find(j.Observation.Provider)
	v.conditions.judged(ctx, j.Judgement, desired)
}
