package seed

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
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
	remedies  Remedies
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

	flags    string // see [ForTarget]
	tolerate string // see [Remedies]
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
	e := DriftError{tolerate: p.tolerate}
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
	stored, err := queries.LoadPlan(ctx, names(desired))
	if err != nil {
		return Plan{}, fmt.Errorf("load providers, accepted drifts and the types that the database knows: %w", err)
	}
	rows, err := openRows(ctx, queries, stored.Providers, credentials || o.credentials, o.keys)
	if err != nil {
		return Plan{}, err
	}
	accepted := make(map[string]*drift.Acceptance, len(stored.Accepted))
	for _, s := range stored.Accepted {
		accepted[s.Provider] = &drift.Acceptance{Kind: drift.Kind(s.Kind), EnvHash: s.EnvHash, DBHash: s.DbHash}
	}
	return makePlan(desired, rows, accepted, stored.Types, stored.Hasher, credentials, o), nil
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
		var rows map[string][]provider.Row
		labels := migratedTypes
		if found.Providers && found.ProviderKeys {
			stored, err := queries.ListProviders(ctx, names(desired))
			if err != nil {
				return fmt.Errorf("load providers: %w", err)
			}
			if rows, err = openRows(ctx, queries, stored, credentials || o.credentials, o.keys); err != nil {
				return err
			}
			if labels, err = queries.ListProviderTypes(ctx); err != nil {
				return fmt.Errorf("look up the types that the database knows: %w", err)
			}
		}
		plan = makePlan(desired, rows, nil, labels, provider.NewRandomHasher(), credentials, o)
		return nil
	})
	return plan, err
}

// migratedTypes are the labels of the enum that our migration makes where there
// is none.
var migratedTypes = []string{string(provider.OpenAI), string(provider.Anthropic)}

// makePlan compares credentials as well when they are to be shown, or required to
// agree.
func makePlan(desired []provider.Desired, rows map[string][]provider.Row, accepted map[string]*drift.Acceptance, labels []string, hasher provider.Hasher, shown bool, o options) Plan {
	plan := Plan{Steps: make([]Step, len(desired)), flags: o.flags, tolerate: o.remedies.Tolerate}
	for i, d := range desired {
		row := provider.Current(rows[d.Name])
		step := Step{
			Desired: d, Row: row, RowType: d.Type, mustAgree: o.credentials, remedies: o.remedies,
			Observation: drift.Compare(hasher, d, row, shown || o.credentials),
		}
		if d.Bedrock != nil && slices.Contains(labels, string(provider.AmazonBedrock)) {
			step.RowType = provider.AmazonBedrock
		}
		step.Action = step.action(accepted[d.Name], labels)
		step.accepted = accepted[d.Name].Holds(step.Observation) && step.CredentialsProblem() == nil
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

// openRows returns the stored rows by name, with their keys, loaded in one query,
// where they are compared. What is encrypted is decoded.
func openRows(ctx context.Context, queries *store.Queries, stored []store.ListProvidersRow, keys bool, ring *dbcrypt.Ring) (_ map[string][]provider.Row, err error) {
	keysOf := map[uuid.UUID][]provider.StoredKey{}
	if keys {
		ids := make([]uuid.UUID, len(stored))
		for i, row := range stored {
			ids[i] = row.ID
		}
		if keysOf, err = loadKeys(ctx, queries, ids); err != nil {
			return nil, err
		}
	}
	rows := make(map[string][]provider.Row, len(stored))
	for _, s := range stored {
		row := provider.Row{
			ID: s.ID, Name: s.Name, Type: s.Type, BaseURL: s.BaseUrl, Enabled: s.Enabled, Deleted: s.Deleted,
			Settings: s.Settings, UpdatedAt: s.UpdatedAt, Keys: keysOf[s.ID],
		}
		if s.SettingsKeyID != nil {
			row.SettingsKeyID = *s.SettingsKeyID
		}
		ring.OpenRow(&row, keys)
		rows[s.Name] = append(rows[s.Name], row)
	}
	return rows, nil
}

// loadKeys loads the stored keys of the providers given.
func loadKeys(ctx context.Context, queries *store.Queries, providerIDs []uuid.UUID) (map[uuid.UUID][]provider.StoredKey, error) {
	stored, err := queries.ListProviderKeys(ctx, providerIDs)
	if err != nil {
		return nil, fmt.Errorf("load provider keys: %w", err)
	}
	keys := make(map[uuid.UUID][]provider.StoredKey, len(providerIDs))
	for _, s := range stored {
		key := provider.StoredKey{ID: s.ID, Key: s.ApiKey}
		if s.ApiKeyKeyID != nil {
			key.KeyID = *s.ApiKeyKeyID
		}
		keys[s.ProviderID] = append(keys[s.ProviderID], key)
	}
	return keys, nil
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
