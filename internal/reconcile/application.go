package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
)

// ApplyRequest is how [Apply] applies.
type ApplyRequest struct {
	// Credentials is how credentials are compared; an apply writes none of a row that is there.
	Credentials drift.CredentialMode
	// DryRun only plans, in a transaction that cannot write.
	DryRun bool
	// Member records Environment as the newest in the transaction of the apply, which fails
	// with a [*rollout.OlderError] where another worker has a newer one. Environment is all
	// that the database can hold of the environment. A dry run uses neither. Without Member
	// other environments do not matter.
	Member      *rollout.Member
	Environment []provider.Desired
	// Operator asks for it, nil for the worker itself.
	Operator *Operator
	Reason   string // why the operator asks for it, empty for none
}

// Applied is what an apply did about one provider, or would do in a dry run.
type Applied struct {
	Provider   string              `json:"provider"`
	ProviderID uuid.UUID           `json:"provider_id"` // [uuid.Nil] for a row that is not there
	Action     drift.Verdict       `json:"action"`
	Moved      drift.Moved         `json:"moved,omitempty"`
	Fields     []drift.FieldChange `json:"fields"`
	// AcceptanceRenewed reports that fields which differ stay, and that their acceptance now
	// is for the pair of both sides after the apply.
	AcceptanceRenewed bool `json:"acceptance_renewed"`
	// Why is why the provider was refused or skipped, or cannot be compared; else empty.
	Why string `json:"why,omitempty"`
}

// Written reports whether the provider's row is written, or would be.
func (a Applied) Written() bool {
	return a.Action == drift.ApplyUpdate || a.Action == drift.ApplyInsert
}

// WrittenFields returns the fields that are written, as they differed.
func (a Applied) WrittenFields() (fields []drift.Field) {
	for _, f := range a.Fields {
		if f.Written {
			fields = append(fields, f.Field)
		}
	}
	return fields
}

// Apply writes to the database what the environment has changed since both sides last agreed,
// and inserts providers that it names for the first time (docs/specification.md, section 4).
// It writes what it can in one transaction, and refuses the rest. The outcomes are in the
// order of the names. The keys decrypt the stored secrets and encrypt the new ones.
func Apply(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired []provider.Desired, request ApplyRequest) (outcomes []Applied, err error) {
	desired = slices.SortedFunc(slices.Values(desired), byName)
	err = transact(ctx, pool, request.DryRun, func(tx pgx.Tx) error {
		outcomes, err = request.apply(ctx, tx, keys, desired)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("apply the environment of %d providers: %w", len(desired), err)
	}
	return outcomes, nil
}

func (r ApplyRequest) apply(ctx context.Context, tx pgx.Tx, keys *dbcrypt.Ring, desired []provider.Desired) ([]Applied, error) {
	queries := store.On(tx)
	load := queries.LoadStored
	if !r.DryRun {
		if err := queries.LockSeed(ctx, store.SeedLock); err != nil {
			return nil, fmt.Errorf("take the seed lock: %w", err)
		}
		load = queries.LoadLocked // another writer of a row commits before the row is read
	}
	stored, err := load(ctx, provider.Names(desired), keys, r.Credentials.Compares())
	if err != nil {
		return nil, err
	}
	plan, err := PlanApply(ctx, tx, drift.MakePlan(desired, stored, r.Credentials), keys)
	if err != nil || r.DryRun {
		return plan.Outcomes(), err
	}
	// What an operator asks for and comes to nothing makes no worker older.
	if r.Member != nil && (r.Operator == nil || plan.acts()) {
		if _, err := r.Member.Take(ctx, tx, stored.Hasher, r.Environment); err != nil {
			return nil, err
		}
	}
	actor := audit.System
	if r.Operator != nil {
		session, err := queries.ReadSession(ctx)
		if err != nil {
			return nil, fmt.Errorf("look up the role of the session: %w", err)
		}
		actor = r.Operator.Actor(session.Role)
	}
	return plan.Write(ctx, tx, Author{Actor: actor, Reason: r.Reason, At: time.Now()})
}

// ApplyPlan is what an apply does about providers. It is made and carried out in one
// transaction, which holds the lock of seeds.
type ApplyPlan struct {
	planned []planned
	with    encryption
}

// planned is what an apply does about one provider.
type planned struct {
	drift.Application
	step  drift.Step
	write write // of [drift.ApplyUpdate]
}

// PlanApply returns what an apply does about each provider of a plan. It writes nothing.
func PlanApply(ctx context.Context, tx pgx.Tx, compared drift.Plan, keys *dbcrypt.Ring) (p ApplyPlan, err error) {
	p.with.keys = keys
	if p.with.sealer, err = store.On(tx).WriteSealer(ctx, keys); err != nil {
		return p, err
	}
	for _, step := range compared.Steps {
		p.planned = append(p.planned, planOne(ctx, store.On(tx), step, p.with))
	}
	return p, nil
}

// planOne plans an apply of one provider. What keeps its row from being written refuses it.
func planOne(ctx context.Context, queries *store.Queries, step drift.Step, with encryption) planned {
	p := planned{Application: step.Apply(), step: step}
	switch p.Verdict {
	case drift.ApplyInsert:
		if err := store.CheckSealing(with.sealer, step.Desired); err != nil {
			p.Application = p.Refuse(err)
		}
	case drift.ApplyUpdate:
		var err error
		if p.write, err = planApplied(ctx, queries, p, with); err != nil {
			p.Application = p.Refuse(remedy.Problem("an apply cannot write it; ", remedy.Run("resolve", step.Desired.Name, "--take", "env"), " could: ", err))
		}
	}
	return p
}

// planApplied returns what an apply writes to a row: the canonical fields that it takes over,
// and the settings only where one of these is in them.
func planApplied(ctx context.Context, queries *store.Queries, p planned, with encryption) (w write, err error) {
	step := p.step
	w.fields = p.outcome().WrittenFields()
	if p.Writes(drift.BaseURLField) {
		w.columns.BaseURL = &step.Desired.BaseURL
	}
	ofType := p.Writes(drift.TypeField)
	if ofType && step.Row.Type != step.RowType {
		w.columns.Type = &step.RowType
	}
	if !ofType && !p.Writes(drift.RegionField) {
		return w, nil
	}
	settings, err := with.openSettings(step)
	if err != nil {
		return w, err
	}
	defer clear(settings)
	if err := w.planSettings(step, settings, ofType, false); err != nil {
		return w, err
	}
	w.unusesKeys = ofType && !step.Desired.UsesKeys()
	if err := w.refuseUnusedKeys(ctx, queries, step, false); err != nil {
		return w, err
	}
	return w, w.seal(with.sealer, step)
}

// acts reports whether the plan writes anything.
func (p ApplyPlan) acts() bool {
	return slices.ContainsFunc(p.planned, func(one planned) bool { return one.Acts() })
}

// Outcomes returns what the plan does about each provider.
func (p ApplyPlan) Outcomes() []Applied {
	outcomes := make([]Applied, len(p.planned))
	for i, one := range p.planned {
		outcomes[i] = one.outcome()
	}
	return outcomes
}

func (p planned) outcome() Applied {
	o := Applied{
		Provider: p.step.Desired.Name, ProviderID: p.step.Observation.ProviderID, Action: p.Verdict, Moved: p.Moved,
		Fields: append([]drift.FieldChange{}, p.Fields...), AcceptanceRenewed: p.Renewed != nil,
	}
	if p.Why != nil {
		o.Why = p.Why.Error()
	}
	return o
}

// Refused returns why providers are refused, by name.
func (p ApplyPlan) Refused() map[string]error {
	refused := map[string]error{}
	for _, one := range p.planned {
		if one.Verdict == drift.ApplyRefused {
			refused[one.step.Desired.Name] = one.Why
		}
	}
	return refused
}

// Author is who applies: the actor of the audit entries, the reason, and when.
type Author struct {
	Actor, Reason string
	At            time.Time
}

// Write carries the plan out, and publishes the rows that it has written on
// ai_providers_changed. Its transaction must have locked the rows before the plan was made. Where
// an operator applies, rows whose acceptance alone is renewed are published too: running workers
// verify them.
func (p ApplyPlan) Write(ctx context.Context, tx pgx.Tx, by Author) ([]Applied, error) {
	op := operation{actor: by.Actor, reason: by.Reason, at: by.At}
	origin, byOperator := drift.ByResolve, by.Actor != audit.System
	if !byOperator {
		origin = drift.ByAgreement
	}
	outcomes := make([]Applied, len(p.planned))
	var published []string // ids
	for i, one := range p.planned {
		outcome, err := one.apply(ctx, tx, p.with.sealer, op, origin)
		if err != nil {
			return nil, fmt.Errorf("provider %q: %w", one.step.Desired.Name, err)
		}
		if outcomes[i] = outcome; outcome.Written() || outcome.AcceptanceRenewed && byOperator {
			published = append(published, outcome.ProviderID.String())
		}
	}
	if len(published) == 0 {
		return outcomes, nil
	}
	if err := pubsub.Publish(ctx, tx, pubsub.ProvidersChanged, published...); err != nil {
		return nil, err
	}
	return outcomes, pubsub.Publish(ctx, tx, pubsub.StagedEntries, "")
}

// apply writes what is planned about one provider.
func (p planned) apply(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, op operation, origin drift.Origin) (Applied, error) {
	outcome, queries := p.outcome(), store.On(tx)
	if !p.Acts() {
		return outcome, nil
	}
	if p.Verdict == drift.ApplyInsert {
		var err error
		outcome.ProviderID, err = p.insert(ctx, tx, sealer, op)
		return outcome, err
	}
	if p.Verdict == drift.ApplyUpdate {
		if err := p.write.apply(ctx, tx, sealer, p.step, op); err != nil {
			return outcome, err
		}
	}
	name, base := p.step.Desired.Name, p.NewBase
	switch {
	case p.Renewed != nil:
		if err := queries.RenewAcceptedDrift(ctx, name, *p.Renewed); err != nil {
			return outcome, fmt.Errorf("renew the acceptance: %w", err)
		}
		if err := op.stageAcceptance(ctx, tx, p.step.Observation, *p.Renewed, p.left()); err != nil {
			return outcome, err
		}
	default:
		base.Origin = origin
		if err := queries.WithdrawAcceptedDrift(ctx, name); err != nil {
			return outcome, fmt.Errorf("withdraw the acceptance: %w", err)
		}
	}
	// Only of a row that is written the WAL has former states that are no drift.
	return outcome, setBase(ctx, tx, p.step, base, p.Verdict == drift.ApplyUpdate)
}

// left returns the fields that differ and are not written.
func (p planned) left() []drift.Field {
	return slices.DeleteFunc(slices.Clone(p.step.Observation.Fields), func(f drift.Field) bool { return p.Writes(f.Name) })
}

// insert inserts the row of a provider that the environment names for the first time, with
// its keys, and publishes it as a seed does.
func (p planned) insert(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, op operation) (uuid.UUID, error) {
	var rows store.NewRows
	id, err := rows.AddProvider(p.step.Desired, p.step.RowType)
	if err != nil {
		return uuid.Nil, err
	}
	if err := insert(ctx, tx, sealer, rows, op); err != nil {
		return uuid.Nil, err
	}
	if err := setBase(ctx, tx, p.step, p.step.Agreement(drift.ByAgreement), true); err != nil {
		return uuid.Nil, err
	}
	return id, pubsub.Publish(ctx, tx, pubsub.Seeds, Seeded(p.step, id, op.at).Payload())
}

// Seeded is the event of a row that was inserted for the step's provider.
func Seeded(step drift.Step, id uuid.UUID, at time.Time) pubsub.Seeded {
	return pubsub.Seeded{
		Provider: step.Desired.Name, ProviderID: id, Type: step.RowType,
		BaseURL: provider.DisplayURL(step.Desired.BaseURL), Keys: len(step.Desired.Keys), SeededAt: at,
	}
}
