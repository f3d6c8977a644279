package report

import (
	"fmt"
	"time"

	"provwatch/internal/drift"
	"provwatch/internal/reconcile"
	"provwatch/internal/status"
)

// Resolution prints what was resolved, or what a dry run would resolve. delivery is what
// becomes of the audit entries.
func (p *Printer) Resolution(request reconcile.Request, outcomes []reconcile.Outcome, delivery Delivery) error {
	if p.json {
		return p.encode(resolutionOf(request, outcomes, delivery))
	}
	for _, o := range outcomes {
		if _, err := fmt.Fprintf(p.out, "%s %s.\n", p.paint(bold, o.Provider), outcomeText(request, o)); err != nil {
			return err
		}
		if len(o.Fields) == 0 {
			continue
		}
		fields := drift.Displayed(o.Kind, o.Fields)
		if o.Kind == drift.Missing {
			fields = ofNoRow(fields)
		}
		t := p.table("FIELD", "ENVIRONMENT", "DATABASE")
		p.rows(t, nil, fields)
		if err := p.render(t); err != nil {
			return err
		}
	}
	last := ""
	switch {
	case len(outcomes) == 0:
		last = "No provider drifts; nothing was written.\n"
	case request.DryRun:
		last = "Dry run: nothing was written.\n"
	}
	if _, err := fmt.Fprint(p.out, last); err != nil {
		return err
	}
	return p.delivery(delivery)
}

func resolutionOf(request reconcile.Request, outcomes []reconcile.Outcome, delivery Delivery) map[string]any {
	list := append([]reconcile.Outcome{}, outcomes...)
	for i := range list {
		if list[i].Fields == nil {
			list[i].Fields = []drift.Field{}
		}
	}
	resolution := map[string]any{"taken": request.Side, "dry_run": request.DryRun, "outcomes": list}
	if request.Reason != "" {
		resolution["reason"] = request.Reason
	}
	if delivery != Delivered {
		resolution["audit"] = delivery
	}
	return resolution
}

// tense has the verbs of an outcome.
type tense struct{ was, written, areWritten, areNot, has, isAccepted string }

var (
	done    = tense{"was", "was written", "are written", "are not", "has", "is now accepted"}
	dryRun  = tense{"is", "would be written", "would be written", "would not be", "would have", "would be accepted"}
	timesOf = map[bool]tense{false: done, true: dryRun}
)

// outcomeText returns what became of a provider, which is the subject of the sentence.
func outcomeText(request reconcile.Request, o reconcile.Outcome) string {
	verb, kind := timesOf[request.DryRun], status.KindLabel(o.Kind)
	fields := fmt.Sprintf("%s %s; the environment's fields %s", verb.was, kind, verb.areWritten)
	switch {
	case o.NotComparable != "":
		return "cannot be compared and is left out: " + cell(o.NotComparable)
	case o.Kind == drift.InSync:
		return "already agrees with the environment; nothing " + verb.written
	case o.AlreadyAccepted:
		return fmt.Sprintf("is %s, which is already accepted until %s; nothing %s", kind, acceptedUntil(o), verb.written)
	case request.Side == reconcile.Database:
		return fmt.Sprintf("%s %s, which %s until %s", verb.was, kind, verb.isAccepted, acceptedUntil(o))
	case o.KeysReplaced:
		return fmt.Sprintf("%s %s; the environment's fields and keys %s", verb.was, kind, verb.areWritten)
	case o.KeysAgree:
		return fields + ", its keys were stored already"
	case o.KeysDiffer:
		return fields + ", its keys " + verb.areNot + ", and still differ: repeat with --with-keys to replace those stored"
	case o.Kind == drift.Missing:
		return fields + ", and it " + verb.has + " no keys: repeat with --with-keys to write those of the environment"
	default:
		return fields + ", its keys " + verb.areNot
	}
}

// acceptedUntil returns when an acceptance ends.
func acceptedUntil(o reconcile.Outcome) string {
	if o.AcceptedUntil.IsZero() {
		return "either side changes"
	}
	return o.AcceptedUntil.Format(time.RFC3339) + ", or until either side changes"
}
