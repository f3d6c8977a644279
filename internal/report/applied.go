package report

import (
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"

	"provwatch/internal/drift"
	"provwatch/internal/reconcile"
	"provwatch/internal/status"
)

// Applied prints what an apply did about each provider, or what it would do in a dry run.
// delivery is what becomes of the audit entries.
func (p *Printer) Applied(outcomes []reconcile.Applied, dryRun bool, reason string, delivery Delivery) error {
	if p.json {
		printed := map[string]any{"dry_run": dryRun, "outcomes": append([]reconcile.Applied{}, outcomes...)}
		if reason != "" {
			printed["reason"] = reason
		}
		if delivery != Delivered {
			printed["audit"] = delivery
		}
		return p.encode(printed)
	}
	t := p.table("", "PROVIDER", "ACTION", "FIELD", "ENVIRONMENT", "DATABASE", "MOVED", "WRITTEN")
	counts := map[drift.Verdict]int{}
	for _, o := range outcomes {
		counts[o.Action]++
		p.appliedRows(t, o)
	}
	if err := p.render(t); err != nil {
		return err
	}
	for _, o := range outcomes {
		if o.Why == "" {
			continue
		}
		if _, err := fmt.Fprintf(p.out, "%s %s: %s.\n", p.paint(bold, o.Provider), verdictSign(o).means, cell(o.Why)); err != nil {
			return err
		}
	}
	lead, update, insert := "Done", "updated", "inserted"
	if dryRun {
		lead, update, insert = "Plan", "to update", "to insert"
	}
	if _, err := fmt.Fprintf(p.out, "%s: %d %s, %d %s, %d refused, %d skipped, %d %s, %d unchanged.\n", lead,
		counts[drift.ApplyUpdate], update, counts[drift.ApplyInsert], insert, counts[drift.ApplyRefused], counts[drift.ApplySkipped],
		counts[drift.ApplyNotComparable], status.NotComparable.Label(), counts[drift.ApplyNothing]); err != nil {
		return err
	}
	return p.delivery(delivery)
}

// appliedRows appends a row for each field of a provider, or one for a provider without any.
func (p *Printer) appliedRows(t table.Writer, o reconcile.Applied) {
	sign := verdictSign(o)
	lead := table.Row{p.paint(sign.colors, sign.mark), p.paint(sign.colors, o.Provider), p.paint(sign.colors, sign.means)}
	if len(o.Fields) == 0 {
		t.AppendRow(lead)
	}
	for _, f := range o.Fields {
		db := value(f.DB)
		if o.Action == drift.ApplyInsert {
			db = nothing
		}
		t.AppendRow(append(lead, cell(f.Name), value(f.Env), db, f.Moved.Side(), yesNo(f.Written)))
		lead = table.Row{"", "", ""}
	}
}

// verdictSign is the sign of what an apply does about a provider.
func verdictSign(o reconcile.Applied) sign {
	switch o.Action {
	case drift.ApplyUpdate:
		return sign{"~", "update", green}
	case drift.ApplyInsert:
		return sign{"+", "insert", green}
	case drift.ApplyRefused:
		return sign{"!", "refused", red}
	case drift.ApplySkipped:
		return sign{"-", "skipped", yellow}
	case drift.ApplyNotComparable:
		return sign{"!", status.NotComparable.Label(), red}
	}
	if len(o.Fields) > 0 {
		return sign{"=", status.Accepted.Label(), faint}
	}
	return sign{"=", "unchanged", faint}
}
