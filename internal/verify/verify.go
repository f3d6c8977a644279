// Package verify compares the providers that the environment names with the
// database, and turns what changed since the last look into alerts (spec
// section 6).
//
// It is level-triggered: a request says where to look, never what happened. A
// look is one query. Only when it shows something new is a transaction opened,
// which looks again under the alerts' lock and writes the alerts, the new state
// and the notifications together.
package verify

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/listener"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/seed"
	"provwatch/internal/store"
)

// CredentialMode says what to do about credentials that differ
// (--credential-drift, spec section 2).
type CredentialMode string

// The modes of --credential-drift.
const (
	IgnoreCredentials CredentialMode = "ignore" // do not look
	WarnCredentials   CredentialMode = "warn"   // log it, once for each difference
	AlertCredentials  CredentialMode = "alert"  // it is a drift of kind changed
)

// Scope says how much a verification looks at.
type Scope string

// The scopes of a verification.
const (
	Full   Scope = "full"
	Hinted Scope = "hinted"
)

const (
	// A verification that takes longer is broken off and tried again, for the
	// case that its connection is dead without having been closed.
	fullTimeout   = 2 * time.Minute
	hintedTimeout = 10 * time.Second

	// settleChunk is how many providers one transaction records, so that the
	// alerts' lock is not held for long.
	settleChunk = 2000
)

// Metrics receives what a [Verifier] measures.
type Metrics interface {
	Verified(scope Scope, took time.Duration, err error)
	AlertPublished(kind provider.Kind, source pubsub.Source)
	// DriftsObserved gets the number of providers that drift, by kind.
	DriftsObserved(byKind map[provider.Kind]int)
}

// Verifier verifies. Its methods may be called by several goroutines, which
// then wait for one another.
type Verifier struct {
	pool        *pgxpool.Pool
	credentials CredentialMode
	logger      *slog.Logger
	metrics     Metrics

	mu      sync.Mutex
	desired map[string]provider.Desired
	// unsettled: what was recorded of providers that the environment does not name
	// has not been closed yet.
	unsettled bool
	names     []string
	drifting  map[string]provider.Kind // providers that drift
	warned    map[string]string        // by provider: the credential difference last logged
}

// New returns a verifier for the desired providers.
func New(pool *pgxpool.Pool, desired []provider.Desired, credentials CredentialMode, logger *slog.Logger, metrics Metrics) *Verifier {
	v := &Verifier{
		pool: pool, credentials: credentials, logger: logger, metrics: metrics,
		drifting: map[string]provider.Kind{}, warned: map[string]string{},
	}
	v.SetDesired(desired)
	return v
}

// SetDesired replaces the desired providers. What it changes shows in the next
// verification.
func (v *Verifier) SetDesired(desired []provider.Desired) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unsettled = true
	v.desired = make(map[string]provider.Desired, len(desired))
	v.names = make([]string, len(desired))
	for i, d := range desired {
		v.desired[d.Name] = d
		v.names[i] = d.Name
	}
}

// Verify does one verification. Its alerts are durable and published when it
// returns nil; after an error the same request may be verified again, and no
// alert is published twice.
func (v *Verifier) Verify(ctx context.Context, request listener.Request) (err error) {
	v.mu.Lock()
	defer v.mu.Unlock()

	start := time.Now()
	ctx, done := v.measured(ctx, request)
	defer func() { done(err) }()
	sightings, err := v.lookAt(ctx, request)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	var news []string
	for _, s := range sightings {
		if f := judge(s); f.isNews() {
			news = append(news, f.name)
		} else {
			v.note(f)
		}
	}
	slices.Sort(news)
	for chunk := range slices.Chunk(news, settleChunk) {
		if err := v.settle(ctx, chunk, request.Source); err != nil {
			return fmt.Errorf("record drift: %w", err)
		}
	}
	if request.All {
		if err := v.forgetUnnamed(ctx, request.Source); err != nil {
			return fmt.Errorf("close the drifts of providers that the environment no longer names: %w", err)
		}
	}

	v.count()
	v.logger.DebugContext(ctx, "verified", "full", request.All, "source", string(request.Source),
		"providers", len(sightings), "news", len(news), "took", time.Since(start))
	return nil
}

// count tells the metrics how many providers drift.
func (v *Verifier) count() {
	byKind := map[provider.Kind]int{}
	for _, kind := range v.drifting {
		byKind[kind]++
	}
	v.metrics.DriftsObserved(byKind)
}

// lookAt looks at what is requested, and at everything when a hint belongs to no
// row and to no provider observed before: it is no usable hint then, but another
// program's, or of a row that came and went.
func (v *Verifier) lookAt(ctx context.Context, request listener.Request) ([]sighting, error) {
	params := store.LookAtProvidersParams{Ids: request.ProviderIDs, Names: []string{}}
	if request.All {
		params = store.LookAtProvidersParams{Names: v.names, Ids: []uuid.UUID{}}
	}
	sightings, seen, err := v.look(ctx, v.pool, params)
	if err == nil && slices.ContainsFunc(params.Ids, func(id uuid.UUID) bool { return !seen[id] }) {
		return v.lookAt(ctx, listener.Request{All: true, Source: request.Source})
	}
	return sightings, err
}

// look reads what the parameters ask for. Names that the environment does not
// have are passed over. It returns the ids that it came across as well.
func (v *Verifier) look(ctx context.Context, db store.DBTX, params store.LookAtProvidersParams) ([]sighting, map[uuid.UUID]bool, error) {
	compareCredentials := v.credentials != IgnoreCredentials
	params.WithKeys = compareCredentials
	looked, err := store.New(db).LookAtProviders(ctx, params)
	if err != nil {
		return nil, nil, err
	}
	ids := make(map[uuid.UUID]bool, len(looked))
	seen := make(map[string]*sighting, len(looked))
	rows := make(map[string][]provider.Row, len(looked))
	for _, row := range looked {
		ids[deref(row.ID)], ids[deref(row.StateProviderID)] = true, true
		if _, named := v.desired[row.Name]; !named {
			continue
		}
		if seen[row.Name] == nil {
			seen[row.Name] = &sighting{
				state:    recordedState(row.StateKind, row.StateEnvHash, row.StateDbHash, row.StateCredentials, row.StateProviderID),
				accepted: recordedAcceptance(row.AcceptedKind, row.AcceptedEnvHash, row.AcceptedDbHash),
			}
		}
		if row.ID != nil {
			rows[row.Name] = append(rows[row.Name], providerRow(row))
		}
	}
	sightings := make([]sighting, 0, len(seen))
	for name, s := range seen {
		s.observation = provider.Compare(v.desired[name], provider.Current(rows[name]), compareCredentials)
		if v.credentials == WarnCredentials {
			v.warnCredentials(ctx, s.observation)
			s.observation = s.observation.WithoutCredentials()
		}
		sightings = append(sightings, *s)
	}
	slices.SortFunc(sightings, func(a, b sighting) int { return cmp.Compare(a.observation.Provider, b.observation.Provider) })
	return sightings, ids, nil
}

func (v *Verifier) warnCredentials(ctx context.Context, o provider.Observation) {
	if o.Credentials != "" && v.warned[o.Provider] != o.Credentials {
		v.logger.WarnContext(ctx, "credentials in the database differ from the environment", "provider", o.Provider, "difference", o.Credentials)
	}
	v.warned[o.Provider] = o.Credentials
}

// settle looks again at the named providers, under the alerts' lock, and records
// what is new.
func (v *Verifier) settle(ctx context.Context, names []string, source pubsub.Source) error {
	var recorded Recorded
	err := pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		last, err := store.New(tx).LockAlerts(ctx)
		if err != nil {
			return err
		}
		// READ COMMITTED: this look is made after the lock is held, so that it
		// sees all that whoever held it before has recorded.
		sightings, _, err := v.look(ctx, tx, store.LookAtProvidersParams{Names: names, Ids: []uuid.UUID{}})
		if err != nil {
			return err
		}
		findings := make([]finding, len(sightings))
		for i, s := range sightings {
			findings[i] = judge(s)
		}
		recorded, err = write(ctx, tx, last, findings, source)
		return err
	})
	if err != nil {
		return err
	}
	v.announce(ctx, recorded)
	return nil
}

// TakeOver prepares for following another worker, whose environment may have
// named other providers.
func (v *Verifier) TakeOver() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unsettled = true
}

// forgetUnnamed ends the drifts of providers that the environment no longer
// names, unless that was done before: there is nothing left that they could
// differ from.
func (v *Verifier) forgetUnnamed(ctx context.Context, source pubsub.Source) error {
	if !v.unsettled {
		return nil
	}
	var alerts []pubsub.DriftAlert
	var forgotten []string
	unnamed, err := store.New(v.pool).ListUnnamedStates(ctx, v.names)
	if err != nil {
		return err
	}
	if len(unnamed) == 0 {
		v.unsettled = false
		return nil
	}
	err = pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		queries := store.New(tx)
		last, err := queries.LockAlerts(ctx)
		if err != nil {
			return err
		}
		unnamed, err := queries.ListUnnamedStates(ctx, v.names)
		if err != nil {
			return err
		}
		for _, state := range unnamed {
			forgotten = append(forgotten, state.Provider)
			if provider.Kind(state.Kind) == provider.InSync {
				continue
			}
			last++
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			alerts = append(alerts, pubsub.DriftAlert{
				ID: id, Seq: last, Kind: provider.Resolved, Provider: state.Provider, ProviderID: state.ProviderID,
				DBHash: state.DbHash, Source: source, DetectedAt: time.Now(),
			})
		}
		if err := queries.ForgetObservations(ctx, forgotten); err != nil {
			return err
		}
		return publish(ctx, tx, alerts)
	})
	if err != nil {
		return err
	}
	for _, name := range forgotten {
		delete(v.drifting, name)
		delete(v.warned, name)
	}
	v.announce(ctx, Recorded{alerts: alerts})
	v.unsettled = false
	return nil
}

// note keeps count of the providers that drift.
func (v *Verifier) note(f finding) {
	if f.kind == provider.InSync {
		delete(v.drifting, f.name)
	} else {
		v.drifting[f.name] = f.kind
	}
}

// announce logs and counts alerts whose transaction has committed.
func (v *Verifier) announce(ctx context.Context, recorded Recorded) {
	for _, f := range recorded.findings {
		v.note(f)
	}
	for _, a := range recorded.alerts {
		level, message := slog.LevelWarn, "drift"
		if a.Kind == provider.Resolved {
			level, message = slog.LevelInfo, "drift resolved"
		}
		v.logger.Log(ctx, level, message, "kind", string(a.Kind), "provider", a.Provider, "seq", a.Seq,
			"fields", seed.FieldList(a.Fields), "source", string(a.Source))
		v.metrics.AlertPublished(a.Kind, a.Source)
	}
}

// Providers returns how many providers are watched.
func (v *Verifier) Providers() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.names)
}
