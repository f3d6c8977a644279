package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// Resolve ends the drifts of the desired providers, in one transaction: of all or, with an
// error, of none. Each has one outcome, in the order of their names. The keys decrypt the
// stored secrets and encrypt the new ones. The error is an [*UnknownError] where the request
// names rows that are not there.
//
// Audit entries name the operator and the role of the session. What is accepted or in sync
// already leaves none.
func Resolve(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, desired []provider.Desired, request Request) (outcomes []Outcome, err error) {
	if request.WithKeys && !request.Credentials.Compares() {
		request.Credentials = drift.AlertCredentials
	}
	r := resolution{keys: keys, desired: slices.Clone(desired), request: request}
	slices.SortFunc(r.desired, byName)
	do := r.resolve
	if request.DryRun {
		do = r.foretell
	}
	err = transact(ctx, pool, request.DryRun, func(tx pgx.Tx) error {
		outcomes, err = do(ctx, tx)
		return err
	})
	if err != nil {
		return nil, r.failed(err)
	}
	return outcomes, nil
}

func byName(a, b provider.Desired) int { return strings.Compare(a.Name, b.Name) }

// resolution ends the drifts of providers by taking a side.
type resolution struct {
	keys    *dbcrypt.Ring
	desired []provider.Desired // by name
	request Request
}

// side is the side that a resolution takes: the environment or the database.
type side interface {
	// plan returns what ends the drift of the step. It writes nothing.
	plan(ctx context.Context, queries *store.Queries, step drift.Step, with encryption) (change, error)
}

// resolve plans and writes.
func (r resolution) resolve(ctx context.Context, tx pgx.Tx) ([]Outcome, error) {
	queries := store.On(tx)
	if err := queries.LockSeed(ctx, store.SeedLock); err != nil {
		return nil, fmt.Errorf("take the seed lock: %w", err)
	}
	desired, left, err := r.drifting(ctx, queries)
	if err != nil {
		return nil, err
	}
	rows, err := r.request.unmanaged(ctx, queries, r.keys)
	if err != nil {
		return nil, err
	}
	// A gateway may be writing to a row, to rotate its credentials or to turn
	// encryption on. It commits before the row is read.
	if len(rows) > 0 {
		if _, err := queries.ShareProviders(ctx, idsOf(rows)); err != nil {
			return nil, fmt.Errorf("lock the unmanaged rows: %w", err)
		}
		if rows, err = r.request.unmanaged(ctx, queries, r.keys); err != nil {
			return nil, err
		}
	}
	session, err := queries.ReadSession(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up the role of the session: %w", err)
	}
	changes, with, err := r.plan(ctx, queries, queries.LoadLocked, desired, session.At)
	accepted, refused := r.request.planRows(rows, session.At, r.subjects())
	if err := errors.Join(err, refused); err != nil {
		return nil, err
	}
	op := operation{actor: r.request.Operator.Actor(session.Role), reason: r.request.Reason, at: time.Now()}
	outcomes := left
	var written []string // ids
	for _, c := range changes {
		outcome, err := c.apply(ctx, tx, with.sealer, op)
		if err != nil {
			return nil, of(c.step.Desired.Name, err, r.subjects())
		}
		outcomes = append(outcomes, outcome)
	}
	if err := op.acceptRows(ctx, tx, accepted); err != nil {
		return nil, err
	}
	for _, a := range accepted {
		outcomes = append(outcomes, a.outcome)
	}
	for _, outcome := range outcomes {
		if outcome.Written() {
			written = append(written, outcome.ProviderID.String())
		}
	}
	if len(written) == 0 {
		return sorted(outcomes), nil
	}
	// Running workers verify the providers, with our triggers or without, and deliver the
	// audit entries, which the operator's role cannot.
	if err := pubsub.Publish(ctx, tx, pubsub.ProvidersChanged, written...); err != nil {
		return nil, err
	}
	return sorted(outcomes), pubsub.Publish(ctx, tx, pubsub.StagedEntries, "")
}

// foretell only plans.
func (r resolution) foretell(ctx context.Context, tx pgx.Tx) ([]Outcome, error) {
	queries := store.On(tx)
	desired, outcomes, err := r.drifting(ctx, queries)
	if err != nil {
		return nil, err
	}
	session, err := queries.ReadSession(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up the time: %w", err)
	}
	rows, err := r.request.unmanaged(ctx, queries, r.keys)
	if err != nil {
		return nil, err
	}
	changes, _, err := r.plan(ctx, queries, queries.LoadStored, desired, session.At)
	for _, c := range changes {
		outcomes = append(outcomes, c.outcome)
	}
	accepted, refused := r.request.planRows(rows, session.At, r.subjects())
	for _, a := range accepted {
		outcomes = append(outcomes, a.outcome)
	}
	return sorted(outcomes), errors.Join(err, refused)
}

// drifting returns the providers to resolve. [Request.Drifting] leaves out providers that
// cannot be compared, each with an outcome.
func (r resolution) drifting(ctx context.Context, queries *store.Queries) (desired []provider.Desired, left []Outcome, err error) {
	if !r.request.Drifting {
		return r.desired, nil, nil
	}
	plan, err := r.compare(ctx, queries.LoadStored, r.desired)
	for _, step := range plan.Steps {
		switch {
		case step.IsNotComparable():
			why := cmp.Or(step.WhyNotComparable(), step.Observation.WhyNotComparable())
			left = append(left, Outcome{
				Provider: step.Desired.Name, ProviderID: step.Observation.ProviderID, Kind: drift.NotComparable, NotComparable: why.Error(),
			})
		case step.IsDrift():
			desired = append(desired, step.Desired)
		}
	}
	return desired, left, err
}

// loading loads what the database has of providers.
type loading func(ctx context.Context, names []string, keys *dbcrypt.Ring, credentials bool) (drift.Stored, error)

func (r resolution) compare(ctx context.Context, load loading, desired []provider.Desired) (drift.Plan, error) {
	stored, err := load(ctx, provider.Names(desired), r.keys, r.request.Credentials.Compares())
	if err != nil {
		return drift.Plan{}, err
	}
	return drift.MakePlan(desired, stored, r.request.Credentials), nil
}

// taken returns the side that the resolution takes, at the database's time.
func (r resolution) taken(now time.Time) (side, error) {
	if r.request.Side == Environment {
		return environmentSide{r.request.WithKeys}, nil
	}
	expires := r.request.Expires.of(now)
	if !expires.IsZero() && !expires.After(now) {
		return nil, fmt.Errorf("the acceptance would end at %s, and it is %s by the database's clock", expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return databaseSide{expires}, nil
}

// plan loads the providers and returns what to do about each, at the database's time. The error
// names each provider of which the drift cannot be ended.
func (r resolution) plan(ctx context.Context, queries *store.Queries, load loading, desired []provider.Desired, now time.Time) (changes []change, with encryption, err error) {
	side, err := r.taken(now)
	if err != nil {
		return nil, with, err
	}
	compared, err := r.compare(ctx, load, desired)
	if err != nil {
		return nil, with, err
	}
	with.keys = r.keys
	if with.sealer, err = queries.WriteSealer(ctx, r.keys); err != nil {
		return nil, with, err
	}
	var refused []error
	for _, step := range compared.Steps {
		c, err := change{}, error(nil)
		if step.Action == drift.ActionUnsupported {
			err = fmt.Errorf("the database's enum ai_provider_type lacks the type %s", step.Desired.Type)
		} else {
			c, err = side.plan(ctx, queries, step, with)
		}
		if err != nil {
			refused = append(refused, of(step.Desired.Name, err, r.subjects()))
		}
		changes = append(changes, c)
	}
	return changes, with, errors.Join(refused...)
}

// apply makes the change.
func (c change) apply(ctx context.Context, tx pgx.Tx, sealer dbcrypt.Sealer, op operation) (Outcome, error) {
	if c.withdraws {
		if err := store.On(tx).WithdrawAcceptedDrift(ctx, c.step.Desired.Name); err != nil {
			return c.outcome, err
		}
	}
	switch {
	case c.accepts != nil:
		return c.outcome, c.accept(ctx, tx, op)
	case c.inserts:
		var rows store.NewRows
		id, err := rows.AddProvider(c.step.Desired, c.step.RowType)
		if err != nil {
			return c.outcome, err
		}
		c.outcome.ProviderID = id
		if err := insert(ctx, tx, sealer, rows, op); err != nil {
			return c.outcome, err
		}
	case c.writes != nil:
		if err := c.writes.apply(ctx, tx, sealer, c.step, op); err != nil {
			return c.outcome, err
		}
	default:
		return c.outcome, nil
	}
	return c.outcome, setBase(ctx, tx, c.step, c.step.Agreement(drift.ByResolve), false)
}

// subjects returns how many providers and rows the resolution was asked for, 0 where that is not known:
// all rows that drift are accepted with the providers.
func (r resolution) subjects() int {
	if r.request.isOfAllRows() {
		return 0
	}
	return len(r.desired) + len(r.request.Unmanaged)
}

// failed returns an error of the resolution as a whole.
func (r resolution) failed(err error) error {
	switch {
	case r.request.isOfAllRows():
		return fmt.Errorf("resolve all drifts, all or none: %w", err)
	case r.subjects() != 1:
		return fmt.Errorf("resolve %d providers, all or none: %w", r.subjects(), err)
	case len(r.desired) == 1:
		return fmt.Errorf("resolve provider %q: %w", r.desired[0].Name, err)
	default:
		return fmt.Errorf("resolve unmanaged provider %q: %w", r.request.Unmanaged[0], err)
	}
}

func sorted(outcomes []Outcome) []Outcome {
	slices.SortFunc(outcomes, func(a, b Outcome) int { return strings.Compare(a.Provider, b.Provider) })
	return outcomes
}
