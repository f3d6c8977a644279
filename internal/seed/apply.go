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
// has changed, and renews acceptances: all of it, or with a [*DriftError] nothing. A row that cannot be compared
// stays unchanged, as with a start that alerts.
//
// The generation of the environment is taken once the rows are locked. A worker that takes one
// while this transaction waits for a row has written before it, and has the older environment. Of
// an environment that was recorded before, it has the newer one, and nothing is applied.
func applyAtBoot(ctx context.Context, tx pgx.Tx, plan *drift.Plan, o options, sealer dbcrypt.Sealer, h provider.Hasher) error {
	supported := plan.Supported()
	var concerned []provider.Desired
	for _, s := range toApply(*plan).Steps {
		concerned = append(concerned, s.Desired)
	}
	if len(concerned) == 0 {
		if err := o.takeGeneration(ctx, tx, h, supported); err != nil {
			return err
		}
		return write(ctx, tx, plan, sealer, o.announce)
	}
	// An older environment applies nothing, and waits for no row.
	if err := o.refuseOlder(ctx, tx, h, supported); err != nil {
		return err
	}
	// The rows are read again once they are locked: a gateway writes without our lock.
	stored, err := store.On(tx).LoadLocked(ctx, provider.Names(concerned), o.keys, o.credentials.Compares())
	if err != nil {
		return err
	}
	if err := o.takeGeneration(ctx, tx, h, supported); err != nil {
		return err
	}
	replace(plan, drift.MakePlan(concerned, stored, o.credentials))
	applying := toApply(*plan)
	changes, err := reconcile.PlanApply(ctx, tx, applying, o.keys)
	if err != nil {
		return err
	}
	if refused := changes.Refused(); len(refused) > 0 {
		return &DriftError{Steps: refusedOf(applying, refused), refused: refused}
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

// toApply returns the steps of the providers that drift, and of disabled rows that agree and whose
// acceptance must be renewed.
func toApply(plan drift.Plan) (some drift.Plan) {
	for _, s := range plan.Steps {
		if s.Action == drift.ActionDrifted || s.Action == drift.ActionUnchanged && s.Apply().Renewed != nil {
			some.Steps = append(some.Steps, s)
		}
	}
	return some
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
		case a.AcceptanceRenewed && s.Action == drift.ActionDrifted:
			s.Action = drift.ActionAccepted
		}
	}
}
