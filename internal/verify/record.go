package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// Observed is an observation that another source than a look of the verifier's
// own has made.
type Observed struct {
	drift.Observation
	// Commit is the transaction that made it so, nil if it is as things are now.
	Commit *pubsub.Commit
}

// Recorded is what [Verifier.Record] has written, to be announced once its
// transaction has committed.
type Recorded struct {
	generation int64 // that it made, 0 if nothing was written
	findings   []finding
	alerts     []pubsub.DriftAlert
}

// Named returns the desired provider of a name. It waits for no verification.
func (v *Verifier) Named(name string) (provider.Desired, bool) {
	w := (*v.named.Load())[name]
	if w == nil {
		return provider.Desired{}, false
	}
	return w.desired, true
}

// Names returns the names of all desired providers.
func (v *Verifier) Names() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.names
}

// Suspects tells which providers are to be looked at for the request: those that
// are not seen to be in sync as recorded.
func (v *Verifier) Suspects(ctx context.Context, request Request) (names []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	ctx, done := v.measured(ctx, request)
	defer func() { done(err) }()
	hinted, names, err := v.suspects(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("verify providers: %w", err)
	}
	for _, s := range hinted.sightings {
		names = append(names, s.observation.Provider)
	}
	return names, nil
}

// MaxLook is how many providers are to be looked at with one [Verifier.Look].
const MaxLook = chunk

// Look looks at the providers named and records nothing.
func (v *Verifier) Look(ctx context.Context, names []string) ([]Observed, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, v.answerWithin)
	defer cancel()
	looked, err := v.look(ctx, names, nil, v.credentials)
	if err != nil {
		return nil, fmt.Errorf("verify providers: %w", err)
	}
	observed := make([]Observed, len(looked.sightings))
	for i, s := range looked.sightings {
		observed[i] = Observed{Observation: s.observation}
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
	queries := store.On(tx)
	locked, err := queries.LockAlerts(ctx)
	if err != nil {
		return Recorded{}, err
	}
	names := make([]string, len(observed))
	for i, o := range observed {
		names[i] = o.Provider
	}
	slices.Sort(names)
	names = slices.Compact(names)
	known, err := queries.ReadRecorded(ctx, names)
	if err != nil {
		return Recorded{}, err
	}
	findings := make([]finding, 0, len(observed))
	for _, o := range observed {
		recorded := known[o.Provider]
		f := finding{commit: o.Commit}
		if o.Commit == nil {
			f.Judgement = recorded.Judge(o.Observation)
		} else {
			judged := false
			if f.Judgement, judged = recorded.JudgeRow(o.Observation, v.credentials == drift.AlertCredentials); !judged {
				continue // the verification that follows compares the credentials
			}
		}
		findings = append(findings, f)
		known[o.Provider] = recorded.After(f.Judgement)
	}
	if !slices.ContainsFunc(findings, func(f finding) bool { return f.IsNews() }) {
		return Recorded{findings: findings}, nil
	}
	recorded, err := v.write(ctx, tx, place{locked.Generation, locked.LastSeq, locked.Epoch}, findings, nil, source)
	if err == nil && recorded.generation == 0 {
		err = errRace // another worker leads by now
	}
	return recorded, err
}

// Announce logs and counts what was recorded.
func (v *Verifier) Announce(ctx context.Context, recorded Recorded) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.announce(ctx, recorded)
	v.count()
}

// CloseUnnamed ends a full verification: it ends the drifts of providers that the
// environment no longer names, the first time that it is called after the
// environment or the leader changed, and counts the providers that drift.
func (v *Verifier) CloseUnnamed(ctx context.Context, source pubsub.Source) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	ctx, cancel := context.WithTimeout(postgres.Bounded(ctx, fullTimeout), fullTimeout)
	defer cancel()
	if err := v.forgetUnnamed(ctx, source); err != nil {
		return err
	}
	v.count()
	return nil
}

// measured bounds a verification in time and measures it.
func (v *Verifier) measured(ctx context.Context, request Request) (context.Context, func(error)) {
	scope, timeout := Hinted, v.answerWithin
	if request.All {
		scope, timeout = Full, fullTimeout
	}
	// Each of its statements may take all of that time.
	ctx, cancel := context.WithTimeout(postgres.Bounded(ctx, timeout), timeout)
	start := time.Now()
	return ctx, func(err error) {
		cancel()
		v.metrics.Verified(scope, time.Since(start), err)
	}
}

// write writes what is new in the findings, in their order, and notifies; what
// is recorded of the forgotten is removed. The findings are of the place: when its
// generation is over by now, nothing is written, and the result has no generation.
func (v *Verifier) write(ctx context.Context, db store.DBTX, at place, findings []finding, forgotten []string, source pubsub.Source) (Recorded, error) {
	params := store.RecordParams{Forgotten: forgotten}
	recorded := Recorded{findings: findings}
	latest := map[string]finding{} // to be recorded, by name
	var names []string
	reasons := map[string]string{} // to be recorded, by name
	for _, f := range findings {
		name := f.Observation.Provider
		if f.NewReason {
			reasons[name] = f.Reason
		}
		if a := f.Withdrawn; a != nil {
			params.WithdrawnProviders = append(params.WithdrawnProviders, name)
			params.WithdrawnKinds = append(params.WithdrawnKinds, string(a.Kind))
			params.WithdrawnEnvHashes = append(params.WithdrawnEnvHashes, a.EnvHash)
			params.WithdrawnDbHashes = append(params.WithdrawnDbHashes, a.DBHash)
		}
		if f.NewState {
			if _, again := latest[name]; !again {
				names = append(names, name)
			}
			latest[name] = f
		}
		if f.Alert != "" {
			alert, err := f.driftAlert(at.next(len(recorded.alerts)), source)
			if err != nil {
				return Recorded{}, err
			}
			alert.Epoch = at.epoch
			recorded.alerts = append(recorded.alerts, alert)
		}
	}
	for _, name := range names {
		latest[name].appendTo(&params)
	}
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		if reason := reasons[name]; reason == "" {
			params.Compared = append(params.Compared, name)
		} else {
			params.NotCompared, params.Reasons = append(params.NotCompared, name), append(params.Reasons, reason)
		}
	}
	return v.store(ctx, db, at, params, recorded, source)
}

// store writes what is to be recorded, with its alerts.
func (v *Verifier) store(ctx context.Context, db store.DBTX, at place, params store.RecordParams, recorded Recorded, source pubsub.Source) (Recorded, error) {
	params.Generation, params.Term, params.Epoch, params.Source = at.generation, v.term, at.epoch, string(source)
	if err := appendAlerts(&params, recorded.alerts); err != nil {
		return Recorded{}, err
	}
	done, err := store.On(db).Record(ctx, params)
	if err != nil {
		return Recorded{}, err
	}
	if len(done) == 0 {
		return Recorded{}, nil
	}
	recorded.generation = done[0].Generation
	return recorded, nil
}

// place is where the sequence of alerts stands.
type place struct {
	generation, lastSeq int64
	epoch               uuid.UUID
}

// next returns the seq after as many more alerts.
func (p place) next(more int) int64 { return p.lastSeq + int64(more) + 1 }

// ComparesCredentials reports whether credentials are looked at.
func (v *Verifier) ComparesCredentials() bool { return v.credentials.Compares() }
