// Package verify compares the providers that the environment names with the
// database, and turns what changed since the last look into alerts
// (docs/specification.md, section 6).
//
// It is level-triggered: a request says where to look, never what happened. A
// look is one query. When it shows something new, one statement writes the
// alerts, the new state and the notifications together, unless somebody has
// recorded anything since the look: then it writes nothing, and the look is
// repeated.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/seed"
	"provwatch/internal/store"
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
	// case that its connection is dead without having been closed. That of what is
	// named is by default, see [Verifier.AnswerWithin].
	fullTimeout   = 2 * time.Minute
	hintedTimeout = 10 * time.Second

	// chunk is how many providers are looked at and recorded at a time, so that
	// neither memory nor the time that a row of ours is locked grows with them.
	chunk = 2000

	// maxRaces bounds how often a look is repeated because somebody else has
	// recorded something since.
	maxRaces = 10
)

// Metrics receives what a [Verifier] measures.
type Metrics interface {
	Verified(scope Scope, took time.Duration, err error)
	AlertPublished(kind drift.Kind, source pubsub.Source)
	// GapObserved gets when there was the latest gap, or the latest rewind that is
	// certain; zero for never.
	GapObserved(kind drift.Kind, at time.Time)
	// DriftsObserved gets the number of providers that drift, by kind.
	DriftsObserved(byKind map[drift.Kind]int)
	// NotComparableObserved gets the providers that cannot be compared, by name, each with
	// the reason. The map is not changed later.
	NotComparableObserved(reasons map[string]string)
}

// Verifier verifies. Its methods may be called by several goroutines, which
// then wait for one another.
type Verifier struct {
	pool        *pgxpool.Pool
	credentials drift.CredentialMode
	secrets     secrets
	logger      *slog.Logger
	metrics     Metrics
	// answerWithin bounds the verification of what is named.
	answerWithin time.Duration

	// named is what desired is, for those who do not wait for a verification. Only
	// what is desired of each is to be read of it.
	named atomic.Pointer[map[string]*watched]

	mu sync.Mutex
	// hasher is read from the database when a look needs it first, and at each
	// takeover.
	hasher  provider.Hasher
	desired map[string]*watched
	names   []string // of the desired providers, sorted
	// unsettled: what was recorded of providers that the environment does not name
	// has not been closed yet.
	unsettled bool
	drifting  map[string]drift.Kind // providers that drift
	warned    map[string]string     // by provider: the credential difference last logged
	// notComparable are the providers that cannot be compared, with the reason.
	notComparable map[string]string

	// What is recorded is known of the generation: each watched.settled is right
	// as long as there is no later one.
	known      bool
	generation int64
	term       int64 // in which this worker records
	// epoch of the sequence of alerts, uuid.Nil while it is not known.
	epoch   uuid.UUID
	reached reached
	scans   uint32
}

// New returns a verifier for the desired providers.
func New(pool *pgxpool.Pool, desired []provider.Desired, credentials drift.CredentialMode, logger *slog.Logger, metrics Metrics) *Verifier {
	v := &Verifier{
		secrets: newSecrets(),
		pool:    pool, credentials: credentials, logger: logger, metrics: metrics, answerWithin: hintedTimeout,
		drifting: map[string]drift.Kind{}, warned: map[string]string{}, notComparable: map[string]string{},
	}
	v.SetDesired(desired)
	return v
}

// AnswerWithin bounds a verification of providers that are named, 10 s by default; one
// of all may take two minutes. It is called before anything is verified.
func (v *Verifier) AnswerWithin(limit time.Duration) { v.answerWithin = limit }

// SetNotComparable takes over which providers a seed could not compare, and has logged,
// by name with the reason. It is called before anything is verified.
func (v *Verifier) SetNotComparable(reasons map[string]string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notComparable = map[string]string{}
	maps.Copy(v.notComparable, reasons)
}

// SetDesired replaces the desired providers. What it changes shows in the next
// verification.
func (v *Verifier) SetDesired(desired []provider.Desired) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unsettled = true
	v.known = false
	byName := make(map[string]*watched, len(desired))
	v.desired = byName
	v.names = make([]string, len(desired))
	for i, d := range desired {
		v.desired[d.Name] = &watched{desired: v.compared(d)}
		v.names[i] = d.Name
	}
	slices.Sort(v.names)
	v.named.Store(&byName)
}

// Verify does one verification. Its alerts are durable and published when it
// returns nil; after an error the same request may be verified again, and no
// alert is published twice.
func (v *Verifier) Verify(ctx context.Context, request Request) (err error) {
	v.mu.Lock()
	defer v.mu.Unlock()

	start := time.Now()
	ctx, done := v.measured(ctx, request)
	defer func() { done(err) }()
	hinted, names, err := v.suspects(ctx, request)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	looked := len(hinted.sightings) + len(names)
	news, err := v.settle(ctx, hinted, request.Source)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	for some := range slices.Chunk(names, chunk) {
		seen, err := v.look(ctx, some, nil, v.credentials)
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		recorded, err := v.settle(ctx, seen, request.Source)
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		news += recorded
	}
	if request.All {
		if err := v.forgetUnnamed(ctx, request.Source); err != nil {
			return fmt.Errorf("close the drifts of providers that the environment no longer names: %w", err)
		}
	}

	v.count()
	v.logger.DebugContext(ctx, "verified", "full", request.All, "source", string(request.Source),
		"looked_at", looked, "news", news, "took", time.Since(start))
	return nil
}

// count tells the metrics how many providers drift.
func (v *Verifier) count() {
	byKind := map[drift.Kind]int{}
	for _, kind := range v.drifting {
		byKind[kind]++
	}
	v.metrics.DriftsObserved(byKind)
	v.metrics.NotComparableObserved(maps.Clone(v.notComparable))
}

// suspects returns what a look at the request's hints has seen, or the names of
// the providers that are to be looked at.
func (v *Verifier) suspects(ctx context.Context, request Request) (hinted look, names []string, err error) {
	hinted, usable, err := v.lookAtHints(ctx, request)
	switch {
	case usable || err != nil:
		return hinted, nil, err
	case v.credentials.Compares():
		return look{}, v.names, nil // a scan reads no keys
	}
	names, err = v.scan(ctx)
	return look{}, names, err
}

// lookAtHints looks at the request's hints. It reports false when the request has no
// usable ones.
func (v *Verifier) lookAtHints(ctx context.Context, request Request) (hinted look, usable bool, err error) {
	if request.All {
		return look{}, false, nil
	}
	looked, err := v.look(ctx, nil, request.ProviderIDs, v.credentials)
	if err != nil {
		return look{}, false, err
	}
	// A hint that belongs to no row and to no provider observed before is no
	// usable hint, but another program's, or of a row that came and went.
	if slices.ContainsFunc(request.ProviderIDs, func(id uuid.UUID) bool { return !looked.ids[id] }) {
		return look{}, false, nil
	}
	return looked, true, nil
}

// look is what a look has seen, in one moment.
type look struct {
	sightings  []sighting         // in the order of their names
	ids        map[uuid.UUID]bool // that it came across
	generation int64              // of what is recorded
	lastSeq    int64              // of the latest alert
}

// look reads what the parameters ask for. Names that the environment does not
// have are passed over.
func (v *Verifier) look(ctx context.Context, names []string, ids []uuid.UUID, credentials drift.CredentialMode) (look, error) {
	if err := v.needHasher(ctx); err != nil {
		return look{}, err
	}
	found, err := store.On(v.pool).LookAtProviders(ctx, names, ids, v.secrets.keys, credentials.Compares())
	if err != nil {
		return look{}, err
	}
	looked := look{ids: found.IDs, generation: found.Generation, lastSeq: found.LastSeq}
	for name, seen := range found.Providers {
		w := v.desired[name]
		if w == nil {
			continue
		}
		if credentials.Compares() {
			for i := range seen.Rows {
				v.secrets.digestOf(&seen.Rows[i])
			}
		}
		s := sighting{drift.Compare(v.hasher, w.desired, provider.Current(seen.Rows), credentials.Compares()), seen.Recorded}
		if credentials == drift.WarnCredentials {
			v.warnCredentials(ctx, s.observation)
		}
		s.observation = credentials.Judged(s.observation)
		looked.sightings = append(looked.sightings, s)
	}
	slices.SortFunc(looked.sightings, func(a, b sighting) int { return cmp.Compare(a.observation.Provider, b.observation.Provider) })
	return looked, nil
}

// warnCredentials logs each difference of credentials once.
func (v *Verifier) warnCredentials(ctx context.Context, o drift.Observation) {
	difference := o.Credentials
	if o.UnreadableCredentials != nil {
		difference = o.UnreadableCredentials.Error()
	}
	if v.warned[o.Provider] != difference {
		WarnCredentials(ctx, v.logger, o)
	}
	v.warned[o.Provider] = difference
}

// WarnCredentials logs how credentials differ, or that they cannot be compared.
func WarnCredentials(ctx context.Context, logger *slog.Logger, o drift.Observation) {
	switch {
	case o.UnreadableCredentials != nil:
		logger.WarnContext(ctx, "credentials in the database cannot be compared with the environment", "provider", o.Provider, "error", o.UnreadableCredentials)
	case o.Credentials != "":
		logger.WarnContext(ctx, "credentials in the database differ from the environment", "provider", o.Provider, "difference", o.Credentials)
	}
}

// settle records what is new in a look, and returns of how many providers. When
// somebody has recorded anything since, it looks at these again.
func (v *Verifier) settle(ctx context.Context, looked look, source pubsub.Source) (news int, err error) {
	for range maxRaces {
		var findings []finding
		var names []string
		for _, s := range looked.sightings {
			j := s.recorded.Judge(s.observation)
			if !j.IsNews() {
				v.note(ctx, j)
				continue
			}
			findings, names = append(findings, finding{Judgement: j}), append(names, j.Observation.Provider)
		}
		if len(findings) == 0 {
			return 0, nil
		}
		if err := v.needEpoch(ctx); err != nil {
			return 0, err
		}
		recorded, err := v.write(ctx, v.pool, place{looked.generation, looked.lastSeq, v.epoch}, findings, nil, source)
		if err != nil {
			return 0, fmt.Errorf("record drift: %w", err)
		}
		if recorded.generation != 0 {
			v.announce(ctx, recorded)
			return len(findings), nil
		}
		if looked, err = v.look(ctx, names, nil, v.credentials); err != nil {
			return 0, err
		}
	}
	return 0, errRace
}

// errRace says that other workers keep recording.
var errRace = errors.New("record drift: another worker records all the while")

// TakeOver prepares for following another worker, whose environment may have
// named other providers. What is recorded from now on is of the term, and refused when
// there is a later one. Where the sequence of alerts was rewound since, it begins an
// epoch, with an alert from the source.
func (v *Verifier) TakeOver(ctx context.Context, term int64, source pubsub.Source) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	// After a restore the generation can be equal to the known one, and the recorded states
	// differ.
	v.unsettled, v.term, v.known = true, term, false
	err := v.readHashKey(ctx)
	if err == nil {
		err = v.findGaps(ctx)
	}
	if err == nil {
		err = v.takeCounter(ctx, source)
	}
	if err != nil {
		return fmt.Errorf("take over from another worker: %w", err)
	}
	return nil
}

// Hasher reads the key of hashes anew and returns what makes them from now on.
func (v *Verifier) Hasher(ctx context.Context) (provider.Hasher, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := v.readHashKey(ctx)
	return v.hasher, err
}

// readHashKey makes the hasher that of the database. Of another one nothing that is
// recorded of keyed hashes is known.
func (v *Verifier) readHashKey(ctx context.Context) error {
	hasher, err := store.On(v.pool).Hasher(ctx)
	if err != nil {
		return err
	}
	if v.hasher != hasher {
		v.hasher, v.known = hasher, false
	}
	return nil
}

// needHasher reads the key of the hasher unless it was read before.
func (v *Verifier) needHasher(ctx context.Context) error {
	if v.hasher.IsZero() {
		return v.readHashKey(ctx)
	}
	return nil
}

// forgetUnnamed ends the drifts of providers that the environment no longer
// names, unless that was done before: there is nothing left that they could
// differ from.
func (v *Verifier) forgetUnnamed(ctx context.Context, source pubsub.Source) error {
	if !v.unsettled {
		return nil
	}
	for range maxRaces {
		unnamed, err := store.On(v.pool).ListUnnamedStates(ctx, v.names)
		if err != nil {
			return err
		}
		if len(unnamed.States) == 0 {
			v.settleUnnamed()
			return nil
		}
		var findings []finding
		var forgotten []string
		for _, state := range unnamed.States {
			forgotten = append(forgotten, state.Provider)
			j := drift.Unnamed(state.Provider, state.State)
			if j.IsNews() {
				findings = append(findings, finding{Judgement: j})
			}
		}
		if err := v.needEpoch(ctx); err != nil {
			return err
		}
		recorded, err := v.write(ctx, v.pool, place{unnamed.Generation, unnamed.LastSeq, v.epoch}, findings, forgotten, source)
		if err != nil {
			return err
		}
		if recorded.generation == 0 {
			continue
		}
		v.announce(ctx, recorded)
		v.settleUnnamed()
		return nil
	}
	return errRace
}

// settleUnnamed takes what was recorded of providers that the environment does not
// name for closed, by whomever.
func (v *Verifier) settleUnnamed() {
	v.unsettled = false
	maps.DeleteFunc(v.drifting, func(name string, _ drift.Kind) bool { return v.desired[name] == nil })
	maps.DeleteFunc(v.warned, func(name, _ string) bool { return v.desired[name] == nil })
	maps.DeleteFunc(v.notComparable, func(name, _ string) bool { return v.desired[name] == nil })
}

// note keeps count of the providers that drift, and of those that cannot be compared.
// That a provider cannot is logged once for each reason.
func (v *Verifier) note(ctx context.Context, j drift.Judgement) {
	name := j.Observation.Provider
	if j.Reason == "" {
		v.comparable(ctx, name)
	} else if v.notComparable[name] != j.Reason {
		v.notComparable[name] = j.Reason
		remedy := "add the key that its API keys are encrypted with, or replace them with \"resolve " + name + " --take env --with-keys\""
		if w := v.desired[name]; w != nil && j.Observation.Unreadable != nil {
			remedy = seed.Repair(w.desired, j.Observation.Unreadable)
		}
		v.logger.WarnContext(ctx, "provider cannot be compared with the environment", "provider", name, "error", j.Reason, "remedy", remedy)
	}
	if j.Kind == drift.InSync {
		delete(v.drifting, name)
	} else {
		v.drifting[name] = j.Kind
	}
}

// comparable takes note that a provider was compared.
func (v *Verifier) comparable(ctx context.Context, name string) {
	if _, noted := v.notComparable[name]; noted {
		delete(v.notComparable, name)
		v.logger.InfoContext(ctx, "provider can be compared again", "provider", name)
	}
}

// announce logs and counts alerts whose transaction has committed.
func (v *Verifier) announce(ctx context.Context, recorded Recorded) {
	if recorded.generation != 0 {
		v.recordedBy(recorded.generation, recorded.findings)
	}
	for _, f := range recorded.findings {
		v.note(ctx, f.Judgement)
	}
	for _, a := range recorded.alerts {
		v.reached.see(a.Epoch, a.Seq)
		v.metrics.AlertPublished(a.Kind, a.Source)
		if !a.Kind.HasProvider() {
			v.announceOfNone(ctx, a)
			continue
		}
		level, message := slog.LevelWarn, "drift"
		if a.Kind == drift.Resolved {
			level, message = slog.LevelInfo, "drift resolved"
		}
		v.logger.Log(ctx, level, message, "kind", string(a.Kind), "provider", a.Provider, "seq", a.Seq,
			"fields", drift.List(a.Fields), "source", string(a.Source))
	}
}

// Providers returns how many providers are watched. It waits for no verification.
func (v *Verifier) Providers() int { return len(*v.named.Load()) }
