package seed

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/store"
)

// applyAtBoot seeds what is missing, and writes to the rows that drift what the environment
// has changed: all of it, or with a [*DriftError] nothing. A row that cannot be compared
// stays unchanged, as with a start that alerts.
func applyAtBoot(ctx context.Context, tx pgx.Tx, plan *drift.Plan, o options, sealer dbcrypt.Sealer) error {
	var drifted []provider.Desired
	for _, s := range ofAction(*plan, drift.ActionDrifted).Steps {
		drifted = append(drifted, s.Desired)
	}
	if len(drifted) == 0 {
		return write(ctx, tx, plan, sealer, o.announce)
	}
	// The rows are read again once they are locked: a gateway writes without our lock.
	stored, err := store.On(tx).LoadLocked(ctx, provider.Names(drifted), o.keys, o.credentials.Compares())
	if err != nil {
		return err
	}
	replace(plan, drift.MakePlan(drifted, stored, o.credentials))
	drifting := ofAction(*plan, drift.ActionDrifted)
	changes, err := reconcile.PlanApply(ctx, tx, drifting, o.keys)
	if err != nil {
		return err
	}
	if refused := changes.Refused(); len(refused) > 0 {
		return &DriftError{Steps: refusedOf(drifting, refused), refused: refused}
	}
	if err := write(ctx, tx, plan, sealer, o.announce); err != nil {
		return err
	}
	applied, err := changes.Write(ctx, tx, reconcile.Author{Actor: audit.System, At: time.Now()})
	if err != nil {
		return err
	}
	record(plan, applied)
	return nil
}

// ofAction returns the steps of an action.
func ofAction(plan drift.Plan, action drift.Action) (of drift.Plan) {
	for _, s := range plan.Steps {
		if s.Action == action {
			of.Steps = append(of.Steps, s)
		}
	}
	return of
}

// refusedOf returns the steps of the providers that were refused.
func refusedOf(plan drift.Plan, refused map[string]error) (steps []drift.Step) {
	for _, s := range plan.Steps {
		if refused[s.Desired.Name] != nil {
			steps = append(steps, s)
		}
	}
	return steps
}

// replace replaces the steps of the providers that another plan has too.
func replace(plan *drift.Plan, by drift.Plan) {
	steps := map[string]drift.Step{}
	for _, s := range by.Steps {
		steps[s.Desired.Name] = s
	}
	for i, s := range plan.Steps {
		if newer, found := steps[s.Desired.Name]; found {
			plan.Steps[i] = newer
		}
	}
}

// record records in the plan which rows were written, and with what.
func record(plan *drift.Plan, applied []reconcile.Applied) {
	written := map[string]reconcile.Applied{}
	for _, a := range applied {
		written[a.Provider] = a
	}
	for i := range plan.Steps {
		s := &plan.Steps[i]
		switch a := written[s.Desired.Name]; {
		case a.Action == drift.ApplyUpdate:
			s.Action, s.Observation.Fields = drift.ActionApplied, a.WrittenFields()
		case a.AcceptanceRenewed:
			s.Action = drift.ActionAccepted
		}
	}
}
