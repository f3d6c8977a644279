package seed

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// Action is what a seed does about one desired provider (docs/specification.md,
// section 4).
type Action string

// The actions of a plan.
const (
	// Insert: there is no row, so the row and its keys are inserted.
	Insert Action = "insert"
	// Unchanged: the live row has the same canonical hash, and the same credentials
	// where they are required to agree. Nothing is written; keys are never added to
	// or changed.
	Unchanged Action = "unchanged"
	// Accepted: the live row differs, and an operator accepted that with
	// "worker resolve --take db".
	Accepted Action = "accepted"
	// Drifted: the live row has another canonical hash, or other credentials where
	// they are required to agree.
	Drifted Action = "drift"
	// NotComparable: the live row's settings cannot be decoded or decrypted, or its
	// credentials are required to agree and cannot be decrypted, so that there is no
	// telling whether it differs.
	NotComparable Action = "not_comparable"
	// StickyDeleted: the row is soft-deleted and is not resurrected.
	StickyDeleted Action = "deleted"
	// Unsupported: the database's enum lacks the provider's type.
	Unsupported Action = "unsupported"
)

// Step is what a seed does, or would do, about one desired provider.
type Step struct {
	Action      Action
	Desired     provider.Desired
	Observation drift.Observation
	Row         *provider.Row // the row compared with, nil when there is none
	// RowType is the type that a row is written with: bedrock for a Bedrock provider
	// where the enum has it, else the environment's.
	RowType provider.Type

	accepted bool
	// mustAgree is set where credentials are required to agree.
	mustAgree bool
}

// CredentialsProblem returns how credentials that are required to agree do not,
// nil where they do or are not required to. The seed goes by no acceptance of it.
func (s Step) CredentialsProblem() error {
	if !s.mustAgree || s.Observation.Kind == drift.Deleted { // which stays deleted, whatever its credentials
		return nil
	}
	return s.Observation.CredentialsProblem()
}

// WhyNotComparable returns the reason of the action [NotComparable], nil for another one.
func (s Step) WhyNotComparable() error {
	if s.Action != NotComparable {
		return nil
	}
	return cmp.Or(s.Observation.Unreadable, s.Observation.UnreadableCredentials)
}

// IsDrift reports whether the provider is not as the environment asks for, and that was
// not accepted. One that cannot be compared is no drift.
func (s Step) IsDrift() bool {
	return s.Action != Unsupported && s.Observation.IsDrift() && !s.accepted
}

// IsNotComparable reports whether the provider cannot be compared. The reason can be its
// credentials, where they were compared.
func (s Step) IsNotComparable() bool {
	return s.Action == NotComparable || s.Action != Unsupported && s.Observation.Kind == drift.NotComparable
}

// Accepted reports whether the provider's drift is one that an operator
// accepted and that still is as it was then.
func (s Step) Accepted() bool { return s.accepted }

// Plan is a step for each desired provider, in name order.
type Plan struct {
	Steps []Step
}

// Count returns how many steps have the action.
func (p Plan) Count(action Action) int {
	n := 0
	for _, s := range p.Steps {
		if s.Action == action {
			n++
		}
	}
	return n
}

// NotComparable returns the reasons of the rows that cannot be compared, by the name of
// their providers; with credentials set, also the reasons of rows whose credentials alone
// cannot be compared.
func (p Plan) NotComparable(credentials bool) map[string]string {
	reasons := map[string]string{}
	for _, s := range p.Steps {
		if reason := s.WhyNotComparable(); reason != nil && (credentials || s.Observation.Unreadable != nil) {
			reasons[s.Desired.Name] = reason.Error()
		}
	}
	return reasons
}

// Err returns a [*DriftError] when the plan holds a drift or a row that cannot
// be compared, else nil.
func (p Plan) Err() error {
	var e DriftError
	for _, s := range p.Steps {
		if s.Action == Drifted || s.Action == NotComparable {
			e.Steps = append(e.Steps, s)
		}
	}
	if len(e.Steps) == 0 {
		return nil
	}
	return &e
}

// MakePlan compares the desired providers with the database, as db sees it, and
// writes nothing. With credentials set, credentials are compared as well, and
// show in the observations; a seed acts on canonical hashes alone, unless with
// [RequireCredentials].
func MakePlan(ctx context.Context, db store.DBTX, desired []provider.Desired, credentials bool, options ...Option) (Plan, error) {
	queries := store.On(db)
	o := optionsOf(options)
	stored, err := queries.LoadPlan(ctx, names(desired), o.keys, credentials || o.credentials)
	if err != nil {
		return Plan{}, fmt.Errorf("load providers, accepted drifts and the types that the database knows: %w", err)
	}
	return makePlan(desired, stored, credentials, o), nil
}

// DryRun is MakePlan in a read-only transaction, for a database that need not
// have been migrated: tables that are not there count as empty ones.
func DryRun(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, credentials bool, options ...Option) (plan Plan, err error) {
	o := optionsOf(options)
	readOnly := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, pool, readOnly, func(tx pgx.Tx) error {
		queries := store.On(tx)
		found, err := queries.InspectSchema(ctx)
		if err != nil {
			return fmt.Errorf("look at the schema: %w", err)
		}
		if found.Providers && found.ProviderKeys && found.AcceptedDrifts && found.HashKey {
			plan, err = MakePlan(ctx, tx, desired, credentials, options...)
			return err
		}
		stored := store.Plan{Types: migratedTypes, Hasher: provider.NewRandomHasher()}
		if found.Providers && found.ProviderKeys {
			if stored.Providers, err = queries.ListProviders(ctx, names(desired), o.keys, credentials || o.credentials); err != nil {
				return fmt.Errorf("load providers: %w", err)
			}
			if stored.Types, err = queries.ListProviderTypes(ctx); err != nil {
				return fmt.Errorf("look up the types that the database knows: %w", err)
			}
		}
		plan = makePlan(desired, stored, credentials, o)
		return nil
	})
	return plan, err
}

// migratedTypes are the labels of the enum that our migration makes where there
// is none.
var migratedTypes = []string{string(provider.OpenAI), string(provider.Anthropic)}

// makePlan compares credentials as well when they are to be shown, or required to
// agree.
func makePlan(desired []provider.Desired, stored store.Plan, shown bool, o options) Plan {
	rows := provider.CurrentByName(stored.Providers)
	plan := Plan{Steps: make([]Step, len(desired))}
	for i, d := range desired {
		row, accepted := rows[d.Name], stored.Accepted[d.Name]
		step := Step{
			Desired: d, Row: row, RowType: d.Type, mustAgree: o.credentials,
			Observation: drift.Compare(stored.Hasher, d, row, shown || o.credentials),
		}
		if d.Bedrock != nil && slices.Contains(stored.Types, string(provider.AmazonBedrock)) {
			step.RowType = provider.AmazonBedrock
		}
		step.Action = step.action(accepted, stored.Types)
		step.accepted = accepted.Holds(step.Observation) && step.CredentialsProblem() == nil
		plan.Steps[i] = step
	}
	return plan
}

// action returns what a seed does about the provider. The labels are those of the
// database's enum.
func (s Step) action(accepted *drift.Acceptance, labels []string) Action {
	if !slices.Contains(labels, string(s.Desired.Type)) {
		return Unsupported
	}
	switch s.Observation.AtBoot(s.mustAgree) {
	case drift.Missing:
		return Insert
	case drift.Deleted:
		return StickyDeleted
	case drift.NotComparable:
		return NotComparable
	case drift.InSync:
		return Unchanged
	}
	if accepted.Covers(s.Observation) && s.CredentialsProblem() == nil {
		return Accepted
	}
	return Drifted
}

func names(desired []provider.Desired) []string {
	list := make([]string, len(desired))
	for i, d := range desired {
		list[i] = d.Name
	}
	return list
}

// Supported divides the desired providers into those whose type the database
// knows and the rest.
func Supported(ctx context.Context, db store.DBTX, desired []provider.Desired) (supported, unsupported []provider.Desired, err error) {
	labels, err := store.On(db).ListProviderTypes(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("look up the types that the database knows: %w", err)
	}
	for _, d := range desired {
		if slices.Contains(labels, string(d.Type)) {
			supported = append(supported, d)
		} else {
			unsupported = append(unsupported, d)
		}
	}
	return supported, unsupported, nil
}

// Supported returns the desired providers whose type the database knows.
func (p Plan) Supported() []provider.Desired {
	var supported []provider.Desired
	for _, s := range p.Steps {
		if s.Action != Unsupported {
			supported = append(supported, s.Desired)
		}
	}
	return supported
}
