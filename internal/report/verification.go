package report

import (
	"fmt"
	"slices"

	"github.com/dustin/go-humanize/english"

	"provwatch/internal/drift"
	"provwatch/internal/status"
)

// Verification prints how the database compares with the environment, and which rows the
// environment does not name. These rows count as providers. The alerted ones count as drifts in
// the mode [drift.AlertUnmanaged] alone.
func (p *Printer) Verification(plan drift.Plan, unmanaged []drift.UnmanagedRow, mode drift.UnmanagedMode) error {
	alerted := UnmanagedDrifts(unmanaged, mode)
	if p.json {
		steps := make([]step, len(plan.Steps))
		for i, s := range plan.Steps {
			steps[i] = stepOf(s)
		}
		rows := make([]unmanagedRow, len(unmanaged))
		for i, u := range unmanaged {
			rows[i] = unmanagedRowOf(u)
		}
		return p.encode(map[string]any{"drifts": len(Drifts(plan)) + alerted, "providers": steps, "unmanaged": rows})
	}
	t := p.table("PROVIDER", "STATE", "CAUSE", "FIELD", "ENVIRONMENT", "DATABASE")
	for _, s := range plan.Steps {
		state, cause, colors := status.KindLabel(s.Observation.Kind), "", yellow
		fields := differences(s.Observation.Kind, s.Observation.Fields)
		switch {
		case s.Action == drift.ActionUnsupported:
			fields = nil // the row was not read
			state = status.Unsupported.Label()
		case s.Observation.Kind == drift.InSync:
			colors = green
		case s.Observation.Kind == drift.NotComparable:
			colors = red
		case isAccepted(s):
			state, colors = status.AcceptedLabel(s.Observation.Kind), faint
		default:
			cause = s.Moved().Label()
		}
		p.rows(t, []string{s.Desired.Name, p.paint(colors, state), cause}, fields)
	}
	for _, u := range unmanaged {
		p.unmanagedRow(t, u)
	}
	if err := p.render(t); err != nil {
		return err
	}
	drifts, all := len(Drifts(plan))+alerted, len(plan.Steps)+len(unmanaged)
	verb := "drift"
	if drifts == 1 || all == 1 {
		verb = "drifts"
	}
	besides := ""
	if n := len(NotComparable(plan)); n > 0 {
		besides = fmt.Sprintf(", %d %s", n, status.NotComparable.Label())
	}
	if n := plan.Count(drift.ActionUnsupported); n > 0 {
		besides += fmt.Sprintf(", %d %s", n, status.Unsupported.Label())
	}
	if n := len(unmanaged); n > 0 {
		besides += fmt.Sprintf(", %d %s", n, status.Unmanaged.Label())
		if alerted > 0 {
			besides += fmt.Sprintf(" (%d alerted)", alerted)
		}
	}
	_, err := fmt.Fprintf(p.out, "%d of %s %s%s.\n", drifts, english.Plural(all, "provider", ""), verb, besides)
	return err
}

// Drifts returns the steps of providers that drift.
func Drifts(plan drift.Plan) []drift.Step { return stepsOf(plan, drift.Step.IsDrift) }

// NotComparable returns the steps of providers that cannot be compared.
func NotComparable(plan drift.Plan) []drift.Step { return stepsOf(plan, drift.Step.IsNotComparable) }

// stepsOf returns the steps that match.
func stepsOf(plan drift.Plan, match func(drift.Step) bool) []drift.Step {
	return slices.DeleteFunc(slices.Clone(plan.Steps), func(s drift.Step) bool { return !match(s) })
}
