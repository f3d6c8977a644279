package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

// TakeDB accepts the database's difference from the environment. The acceptance holds
// while both canonical hashes stay the same; the drift then neither fails a boot nor is
// alerted. An audit entry names the actor, unless the same drift is accepted already.
//
// A mode that compares credentials makes credentials that differ a drift. With
// [drift.RequireCredentials] they cannot be accepted: a seed ignores such an acceptance.
func TakeDB(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired provider.Desired, mode drift.CredentialMode, actor string) (Outcome, error) {
	return resolution{keys: keys, desired: desired, mode: mode, side: databaseSide{}, actor: actor}.run(ctx, pool)
}

type databaseSide struct{}

func (databaseSide) take(ctx context.Context, tx pgx.Tx, step drift.Step, _ encryption, actor string) (Outcome, error) {
	observed := step.Observation
	outcome := Outcome{Provider: observed.Provider, ProviderID: observed.ProviderID, Kind: observed.Kind, Fields: observed.Fields}
	switch {
	case observed.Kind == drift.InSync:
		return outcome, nil
	case observed.Kind == drift.Missing:
		return outcome, fmt.Errorf("it has no row that could be kept, and the next boot seeds it again; remove its variables (%s) instead", step.Desired.Variables)
	case step.CredentialsProblem() != nil:
		return outcome, remedy.Problem(step.CredentialsProblem(),
			"; that cannot be accepted with --compat=upstream-credentials, since nothing is stored of credentials that it could be tied to; use ",
			remedy.Repeat("--take", "env", "--with-keys"), ", or drop --compat=upstream-credentials")
	case observed.Unreadable != nil, observed.Kind == drift.NotComparable:
		return outcome, fmt.Errorf("its row cannot be compared and is not accepted: %w", cmp.Or(observed.Unreadable, observed.UnreadableCredentials))
	case step.IsAccepted():
		outcome.AlreadyAccepted = true
		return outcome, nil
	}
	if err := store.On(tx).AcceptDrift(ctx, observed.Provider, drift.Acceptance{
		Kind: observed.Kind, EnvHash: observed.EnvHash, DBHash: observed.DBHash,
	}, actor); err != nil {
		return outcome, fmt.Errorf("accept the drift: %w", err)
	}
	return outcome, audit.Stage(ctx, tx, []audit.Entry{{
		OccurredAt: time.Now(), Actor: actor, Action: audit.DriftAccepted, Provider: observed.Provider, ProviderID: observed.ProviderID,
		Details: audit.Details{
			Kind: string(observed.Kind), EnvHash: observed.EnvHash, DBHash: observed.DBHash, Changes: acceptedValues(observed.Fields),
		},
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
