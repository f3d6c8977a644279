package seed

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/store"
)

// firstSeen returns the soft-deleted providers of a plan: the watch starts from them, since
// the start warns of them.
func firstSeen(plan drift.Plan) (observations []drift.Observation) {
	for _, s := range plan.Steps {
		if s.Action == drift.ActionStickyDeleted && !s.IsAccepted() {
			observations = append(observations, s.Observation)
		}
	}
	return observations
}

// recordFirstSeen records the providers of [firstSeen].
func recordFirstSeen(ctx context.Context, tx pgx.Tx, plan drift.Plan) error {
	if err := store.On(tx).RecordFirstObservations(ctx, firstSeen(plan)); err != nil {
		return fmt.Errorf("record soft-deleted providers: %w", err)
	}
	return nil
}

// write writes what the plan asks for, in few statements whatever the number of providers.
func write(ctx context.Context, tx pgx.Tx, plan *drift.Plan, sealer dbcrypt.Sealer, announce bool) error {
	now := time.Now()
	var rows store.NewRows
	var seeded []string
	var bases []store.NamedBase
	for i := range plan.Steps {
		step := &plan.Steps[i]
		if base := step.NewBase(); base != nil {
			bases = append(bases, store.NamedBase{Provider: step.Desired.Name, Base: *base})
		}
		if step.Action != drift.ActionInsert {
			continue
		}
		id, err := rows.AddProvider(step.Desired, step.RowType)
		if err != nil {
			return err
		}
		step.Observation.ProviderID = id
		seeded = append(seeded, reconcile.Seeded(*step, id, now).Payload())
	}
	if err := store.On(tx).InsertProviders(ctx, sealer, rows); err != nil {
		return err
	}
	if err := recordFirstSeen(ctx, tx, *plan); err != nil {
		return err
	}
	if err := store.On(tx).SetBases(ctx, bases); err != nil {
		return err
	}
	if err := audit.Stage(ctx, tx, audit.Inserted(rows, audit.System, now)); err != nil {
		return err
	}
	if announce && len(seeded) > 0 {
		if err := pubsub.Publish(ctx, tx, pubsub.ProvidersChanged, ""); err != nil {
			return err
		}
	}
	return pubsub.Publish(ctx, tx, pubsub.Seeds, seeded...)
}
