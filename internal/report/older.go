package report

import (
	"fmt"
	"time"

	"provwatch/internal/drift"
	"provwatch/internal/rollout"
	"provwatch/internal/status"
)

// Older prints that a seed has written nothing of a plan, since another worker has a newer
// environment.
func (p *Printer) Older(plan drift.Plan, e *rollout.OlderError) error {
	if p.json {
		steps := make([]step, len(plan.Steps))
		for i, s := range plan.Steps {
			steps[i] = stepOf(s)
		}
		return p.encode(map[string]any{"applied": false, "older_environment": status.OlderOf(e), "steps": steps})
	}
	_, err := fmt.Fprintf(p.out, "Nothing was seeded: worker %s of role %s has a newer environment since %s, and was last seen at %s.\n"+
		"A seed after %s writes what is missing, unless such a worker is seen again.\n",
		e.Worker, cell(e.Role), e.Since.Format(time.RFC3339), e.SeenAt.Format(time.RFC3339), e.Until.Format(time.RFC3339))
	return err
}
