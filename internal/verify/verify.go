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

	mu       sync.Mutex
	desired  map[string]provider.Desired
	names    []string
	drifting map[string]provider.Kind // providers that drift
	warned   map[string]string        // by provider: the credential difference last logged
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

	scope, timeout := Hinted, hintedTimeout
	if request.All {
		scope, timeout = Full, fullTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	defer func() { v.metrics.Verified(scope, time.Since(start), err) }()

	findings, known, err := v.lookAt(ctx, request)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	if !known {
		// An id that belongs to nothing is no usable hint: another program's, or of
		// a row that came and went.
		if findings, _, err = v.lookAt(ctx, listener.Request{All: true, Source: request.Source}); err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
	}
	var news []string
	for _, f := range findings {
		if f.isNews() {
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
	if request.All && (request.Source == pubsub.SourceBoot || request.Source == pubsub.SourceReload) {
		if err := v.forgetUnnamed(ctx, request.Source); err != nil {
			return fmt.Errorf("close the drifts of providers that the environment no longer names: %w", err)
		}
	}

	byKind := map[provider.Kind]int{}
	for _, kind := range v.drifting {
		byKind[kind]++
	}
	v.metrics.DriftsObserved(byKind)
	v.logger.DebugContext(ctx, "verified", "scope", string(scope), "source", string(request.Source),
		"providers", len(findings), "news", len(news), "took", time.Since(start))
	return nil
}

// lookAt looks at what is requested. known is false when a hint belongs to no row
// and to no provider observed before.
func (v *Verifier) lookAt(ctx context.Context, request listener.Request) (findings []finding, known bool, err error) {
	params := store.LookAtProvidersParams{Ids: request.ProviderIDs, Names: []string{}}
	if request.All {
		params = store.LookAtProvidersParams{Names: v.names, Ids: []uuid.UUID{}}
	}
	findings, seen, err := v.look(ctx, v.pool, params)
	known = !slices.ContainsFunc(params.Ids, func(id uuid.UUID) bool { return !seen[id] })
	return findings, known, err
}

// look reads what the parameters ask for and judges it. Names that the
// environment does not have are passed over. It returns the ids that it came
// across as well.
func (v *Verifier) look(ctx context.Context, db store.DBTX, params store.LookAtProvidersParams) ([]finding, map[uuid.UUID]bool, error) {
	compareCredentials := v.credentials != IgnoreCredentials
	params.WithKeys = compareCredentials
	looked, err := store.New(db).LookAtProviders(ctx, params)
	if err != nil {
		return nil, nil, err
	}
	ids := make(map[uuid.UUID]bool, len(looked))
	seen := make(map[string]*sighting, len(looked))
	for _, row := range looked {
		ids[deref(row.ID)], ids[deref(row.StateProviderID)] = true, true
		if _, named := v.desired[row.Name]; !named {
			continue
		}
		s := seen[row.Name]
		if s == nil {
			s = newSighting(row)
			seen[row.Name] = s
		}
		if row.ID != nil {
			s.rows = append(s.rows, providerRow(row))
		}
	}
	findings := make([]finding, 0, len(seen))
	for name, s := range seen {
		o := provider.Compare(v.desired[name], provider.Current(s.rows), compareCredentials)
		if v.credentials == WarnCredentials {
			v.warnCredentials(ctx, o)
			o = o.WithoutCredentials()
		}
		findings = append(findings, judge(name, o, s))
	}
	return findings, ids, nil
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
	var alerts []pubsub.DriftAlert
	var findings []finding
	err := pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		queries := store.New(tx)
		last, err := queries.LockAlerts(ctx)
		if err != nil {
			return err
		}
		// READ COMMITTED: this look is made after the lock is held, so that it
		// sees all that whoever held it before has recorded.
		findings, _, err = v.look(ctx, tx, store.LookAtProvidersParams{Names: names, Ids: []uuid.UUID{}})
		if err != nil {
			return err
		}
		slices.SortFunc(findings, func(a, b finding) int { return cmp.Compare(a.name, b.name) })

		var withdrawn store.WithdrawStaleAcceptedDriftsParams
		var states store.RecordObservationsParams
		alerts = alerts[:0]
		for _, f := range findings {
			if f.withdraw != nil {
				withdrawn.Providers = append(withdrawn.Providers, f.name)
				withdrawn.Kinds = append(withdrawn.Kinds, string(f.withdraw.kind))
				withdrawn.EnvHashes = append(withdrawn.EnvHashes, f.withdraw.envHash)
				withdrawn.DbHashes = append(withdrawn.DbHashes, f.withdraw.dbHash)
			}
			if f.record {
				f.appendTo(&states)
			}
			if f.alert != "" {
				last++
				alert, err := f.driftAlert(last, source)
				if err != nil {
					return err
				}
				alerts = append(alerts, alert)
			}
		}
		if len(withdrawn.Providers) > 0 {
			if err := queries.WithdrawStaleAcceptedDrifts(ctx, withdrawn); err != nil {
				return err
			}
		}
		if len(states.Providers) > 0 {
			if err := store.FirstError(queries.RecordObservations(ctx, []store.RecordObservationsParams{states}).Exec); err != nil {
				return err
			}
		}
		return publish(ctx, tx, alerts)
	})
	if err != nil {
		return err
	}
	for _, f := range findings {
		v.note(f)
	}
	v.announce(ctx, alerts)
	return nil
}

// forgetUnnamed ends the drifts of providers that the environment no longer
// names: there is nothing left that they could differ from.
func (v *Verifier) forgetUnnamed(ctx context.Context, source pubsub.Source) error {
	var alerts []pubsub.DriftAlert
	var forgotten []string
	unnamed, err := store.New(v.pool).ListUnnamedStates(ctx, v.names)
	if err != nil || len(unnamed) == 0 {
		return err
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
	v.announce(ctx, alerts)
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
func (v *Verifier) announce(ctx context.Context, alerts []pubsub.DriftAlert) {
	for _, a := range alerts {
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
