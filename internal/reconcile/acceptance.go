package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

// databaseSide accepts the database's difference from the environment.
type databaseSide struct {
	expires time.Time // the end of the acceptance, the zero time for none
}

func (s databaseSide) plan(_ context.Context, _ *store.Queries, step drift.Step, _ encryption) (change, error) {
	observed := step.Observation
	c := change{step: step, outcome: Outcome{Provider: observed.Provider, ProviderID: observed.ProviderID, Kind: observed.Kind, Fields: observed.Fields}}
	switch {
	case observed.Kind == drift.InSync:
		return c, nil
	case observed.Kind == drift.Missing:
		return c, fmt.Errorf("it has no row that could be kept, and the next boot seeds it again; remove its variables (%s) instead", step.Desired.Variables)
	case step.CredentialsProblem() != nil:
		return c, remedy.Problem(step.CredentialsProblem(),
			"; that cannot be accepted with --compat=upstream-credentials, since nothing is stored of credentials that it could be tied to; use ",
			remedy.Repeat("--take", "env", "--with-keys"), ", or drop --compat=upstream-credentials")
	case observed.Unreadable != nil, observed.Kind == drift.NotComparable:
		return c, fmt.Errorf("its row cannot be compared and is not accepted: %w", cmp.Or(observed.Unreadable, observed.UnreadableCredentials))
	case step.IsAccepted() && step.AcceptedUntil().Equal(s.expires):
		c.outcome.AlreadyAccepted, c.outcome.AcceptedUntil = true, s.expires
		return c, nil
	}
	c.accepts, c.outcome.AcceptedUntil = &drift.Acceptance{Kind: observed.Kind, EnvHash: observed.EnvHash, DBHash: observed.DBHash, Expires: s.expires}, s.expires
	return c, nil
}

// accept records the acceptance, and stages the audit entry for it.
func (c change) accept(ctx context.Context, tx pgx.Tx, op operation) error {
	observed := c.step.Observation
	if err := store.On(tx).AcceptDrift(ctx, observed.Provider, *c.accepts, op.actor, op.reason); err != nil {
		return fmt.Errorf("accept the drift: %w", err)
	}
	if err := setBase(ctx, tx, c.step, observed.Base(), false); err != nil {
		return err
	}
	return op.stageAcceptance(ctx, tx, observed, *c.accepts, observed.Fields)
}

// stageAcceptance stages the audit entry for an acceptance of the fields that differ.
func (op operation) stageAcceptance(ctx context.Context, tx pgx.Tx, observed drift.Observation, accepted drift.Acceptance, fields []drift.Field) error {
	details := audit.Details{Kind: string(accepted.Kind), EnvHash: accepted.EnvHash, DBHash: accepted.DBHash, Changes: acceptedValues(fields)}
	if end := accepted.Expires; !end.IsZero() {
		details.Expires = end.Format(time.RFC3339Nano)
	}
	return op.stage(ctx, tx, []audit.Entry{{
		OccurredAt: op.at, Actor: op.actor, Action: audit.DriftAccepted, Provider: observed.Provider, ProviderID: observed.ProviderID, Details: details,
	}})
}

// acceptedValues turns differences into what accepting the database's side means:
// its value stands instead of the environment's.
func acceptedValues(fields []drift.Field) []audit.Change {
	list := make([]audit.Change, len(fields))
	for i, f := range fields {
		list[i] = audit.Change{Field: f.Name, Old: f.Env, New: f.DB}
	}
	return list
}
