package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/listener"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// Observed is an observation that another source than a look of the verifier's
// own has made.
type Observed struct {
	provider.Observation
	// Commit is the transaction that made it so, nil if it is as things are now.
	Commit *pubsub.Commit
}

// Recorded is what [Verifier.Record] has written, to be announced once its
// transaction has committed.
type Recorded struct {
	findings []finding
	alerts   []pubsub.DriftAlert
}

// Observe compares a provider with a row, nil for none, without its credentials.
// It reports false when the environment does not name it.
func (v *Verifier) Observe(name string, row *provider.Row) (provider.Observation, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	desired, named := v.desired[name]
	if !named {
		return provider.Observation{}, false
	}
	return provider.Compare(desired, row, false), true
}

// Named returns the desired provider of a name.
func (v *Verifier) Named(name string) (provider.Desired, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	desired, named := v.desired[name]
	return desired, named
}

// Look looks at what is requested and records nothing.
func (v *Verifier) Look(ctx context.Context, request listener.Request) (observed []Observed, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	ctx, done := v.measured(ctx, request)
	defer func() { done(err) }()
	sightings, err := v.lookAt(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("verify providers: %w", err)
	}
	for _, s := range sightings {
		observed = append(observed, Observed{Observation: s.observation})
	}
	return observed, nil
}

// Record judges observations in their order, each against what the ones before
// it left, and writes states, alerts and notifications in the transaction tx.
// After tx has committed, hand the result to [Verifier.Announce].
//
// An observation from a commit does not know of credentials: what was recorded
// of them stands.
func (v *Verifier) Record(ctx context.Context, tx pgx.Tx, observed []Observed, source pubsub.Source) (Recorded, error) {
	if len(observed) == 0 {
		return Recorded{}, nil
	}
	queries := store.New(tx)
	last, err := queries.LockAlerts(ctx)
	if err != nil {
		return Recorded{}, err
	}
	known := make(map[string]*sighting, len(observed))
	var names []string
	for _, o := range observed {
		if known[o.Provider] == nil {
			known[o.Provider] = &sighting{}
			names = append(names, o.Provider)
		}
	}
	states, err := queries.ListStates(ctx, names)
	if err != nil {
		return Recorded{}, err
	}
	for _, row := range states {
		*known[row.Name] = sighting{
			state:    recordedState(row.StateKind, row.StateEnvHash, row.StateDbHash, row.StateCredentials, row.StateProviderID),
			accepted: recordedAcceptance(row.AcceptedKind, row.AcceptedEnvHash, row.AcceptedDbHash),
		}
	}
	findings := make([]finding, len(observed))
	for i, o := range observed {
		s := known[o.Provider]
		s.observation = o.Observation
		if o.Commit != nil && s.state != nil && s.state.credentials != "" && o.Kind != provider.Missing {
			s.observation.Credentials = s.state.credentials
			if o.Kind == provider.InSync {
				s.observation.Kind = provider.Changed
			}
		}
		f := judge(*s)
		f.commit = o.Commit
		findings[i] = f
		now := f.state()
		s.state = &now
		if f.withdraw != nil {
			s.accepted = nil
		}
	}
	return write(ctx, tx, last, findings, source)
}

// Announce logs and counts what was recorded.
func (v *Verifier) Announce(ctx context.Context, recorded Recorded) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.announce(ctx, recorded)
	v.count()
}

// CloseUnnamed ends the drifts of providers that the environment no longer
// names, the first time that it is called after the environment or the leader
// changed.
func (v *Verifier) CloseUnnamed(ctx context.Context, source pubsub.Source) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.forgetUnnamed(ctx, source)
}

// measured bounds a verification in time and measures it.
func (v *Verifier) measured(ctx context.Context, request listener.Request) (context.Context, func(error)) {
	scope, timeout := Hinted, hintedTimeout
	if request.All {
		scope, timeout = Full, fullTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	start := time.Now()
	return ctx, func(err error) {
		cancel()
		v.metrics.Verified(scope, time.Since(start), err)
	}
}

// write writes what is new in the findings, in their order, and notifies. last
// is the seq of the latest alert; the transaction holds the alerts' lock.
func write(ctx context.Context, tx pgx.Tx, last int64, findings []finding, source pubsub.Source) (Recorded, error) {
	queries := store.New(tx)
	recorded := Recorded{findings: findings}
	var withdrawn store.WithdrawStaleAcceptedDriftsParams
	latest := map[string]finding{} // to be recorded, by name
	var names []string
	for _, f := range findings {
		if f.withdraw != nil {
			withdrawn.Providers = append(withdrawn.Providers, f.name)
			withdrawn.Kinds = append(withdrawn.Kinds, string(f.withdraw.kind))
			withdrawn.EnvHashes = append(withdrawn.EnvHashes, f.withdraw.envHash)
			withdrawn.DbHashes = append(withdrawn.DbHashes, f.withdraw.dbHash)
		}
		if f.record {
			if _, again := latest[f.name]; !again {
				names = append(names, f.name)
			}
			latest[f.name] = f
		}
		if f.alert != "" {
			last++
			alert, err := f.driftAlert(last, source)
			if err != nil {
				return Recorded{}, err
			}
			recorded.alerts = append(recorded.alerts, alert)
		}
	}
	if len(withdrawn.Providers) > 0 {
		if err := queries.WithdrawStaleAcceptedDrifts(ctx, withdrawn); err != nil {
			return Recorded{}, err
		}
	}
	if len(names) > 0 {
		var states store.RecordObservationsParams
		for _, name := range names {
			latest[name].appendTo(&states)
		}
		if err := store.FirstError(queries.RecordObservations(ctx, []store.RecordObservationsParams{states}).Exec); err != nil {
			return Recorded{}, err
		}
	}
	return recorded, publish(ctx, tx, recorded.alerts)
}

// ComparesCredentials reports whether credentials are looked at.
func (v *Verifier) ComparesCredentials() bool { return v.credentials != IgnoreCredentials }
