package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
)

const (
	// fullTimeout is [hintedTimeout] of a verification of everything.
	fullTimeout = 2 * time.Minute
	// chunk is how many providers are read and recorded at a time, so that neither memory
	// nor the time that a row of ours is locked grows with them.
	chunk = 2000
)

// verification is one run over what a request covers, of one goroutine. It compares with
// the environment and the hashes that it began with, and records in the term.
type verification struct {
	v           *Verifier
	environment *environment
	hasher      provider.Hasher
	term        int64
	// newest is the newest generation of environments that it records with; it is
	// [store.AnyEnvironment] where it records nothing.
	newest int64
}

// errReplaced is returned when a reload has replaced the environment of a verification.
var errReplaced = errors.New("the environment was replaced meanwhile")

// errOvertaken is returned when another environment has become the newest since the
// environment of a verification was given its generation.
var errOvertaken = errors.New("another environment has become the newest meanwhile")

// Verify does one verification. Its alerts are durable and published when it returns nil;
// after an error the same request may be verified again, and no alert is published twice.
func (v *Verifier) Verify(ctx context.Context, request Request) error {
	return v.measure(ctx, request.All, func(ctx context.Context, run *verification) error { return run.verify(ctx, request) })
}

// measure does a verification, bounded in time, and measures it.
func (v *Verifier) measure(ctx context.Context, all bool, do func(context.Context, *verification) error) error {
	scope, limit := Hinted, v.answerWithin
	if all {
		scope, limit = Full, fullTimeout
	}
	start := time.Now()
	err := v.current(ctx, limit, do)
	if !rollout.IsOlder(err) { // which is no failure
		v.metrics.Verified(scope, time.Since(start), err)
	}
	return err
}

// current does a verification, again while a reload replaces its environment, or another
// environment becomes the newest. Each round may take the limit, and each of its statements all
// of that time.
func (v *Verifier) current(ctx context.Context, limit time.Duration, do func(context.Context, *verification) error) error {
	for overtaken := 0; ; {
		switch err := v.round(ctx, limit, do); {
		case errors.Is(err, errReplaced):
		case errors.Is(err, errOvertaken) && overtaken < maxRaces:
			overtaken++
		default:
			return err
		}
	}
}

func (v *Verifier) round(ctx context.Context, limit time.Duration, do func(context.Context, *verification) error) error {
	ctx, cancel := context.WithTimeout(postgres.Bounded(ctx, limit), limit)
	defer cancel()
	run, err := v.begin(ctx)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	return do(ctx, run)
}

// begin begins a verification with the present environment, hashes and term.
func (v *Verifier) begin(ctx context.Context) (*verification, error) {
	hasher, err := v.knownHasher(ctx)
	if err != nil {
		return nil, err
	}
	return &verification{
		v: v, environment: v.environment.Load(), hasher: hasher, term: v.sequence.currentTerm(), newest: store.AnyEnvironment,
	}, nil
}

// take has a verification that records take a generation for its environment. It fails with a
// [*rollout.OlderError] where the environment is older than that of another worker.
func (r *verification) take(ctx context.Context) (err error) {
	r.newest, err = r.v.takeGeneration(ctx, r.v.pool, r.environment, r.hasher)
	return err
}

// unlessOvertaken returns [errOvertaken] where rows were read with another newest generation
// than the verification has taken. The next round then takes one again.
func (r *verification) unlessOvertaken(newest int64) error {
	if r.newest == store.AnyEnvironment || newest == store.AnyEnvironment || newest == r.newest {
		return nil
	}
	r.environment.newest.Store(nil)
	return errOvertaken
}

// verify reads what the request covers, and records what is news.
func (r *verification) verify(ctx context.Context, request Request) error {
	start := time.Now()
	if err := r.take(ctx); err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	hinted, names, err := r.suspects(ctx, request)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	read := len(hinted.comparisons) + len(names)
	news, err := r.record(ctx, hinted, request.Source)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	for some := range slices.Chunk(names, chunk) {
		seen, err := r.readNamed(ctx, some)
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		recorded, err := r.record(ctx, seen, request.Source)
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		news += recorded
	}
	if request.All {
		if err := r.end(ctx, request.Source); err != nil {
			return err
		}
	}

	r.v.conditions.measure(r.v.metrics)
	r.v.logger.DebugContext(ctx, "verified", "full", request.All, "source", string(request.Source),
		"looked_at", read, "news", news, "took", time.Since(start))
	return nil
}

// suspects returns what reading the request's hints has shown, or the names of the
// providers to read.
func (r *verification) suspects(ctx context.Context, request Request) (hinted reading, names []string, err error) {
	hinted, usable, err := r.readHinted(ctx, request)
	switch {
	case usable || err != nil:
		return hinted, nil, err
	case r.v.reader.credentials.Compares():
		return reading{}, r.environment.names, nil // a scan reads no keys
	}
	names, err = r.scan(ctx)
	return reading{}, names, err
}

// readHinted reads the providers of the request's hints. It reports false when the request
// has no usable ones.
func (r *verification) readHinted(ctx context.Context, request Request) (hinted reading, usable bool, err error) {
	if request.All {
		return reading{}, false, nil
	}
	hinted, err = r.read(ctx, nil, request.ProviderIDs, r.v.reader.credentials)
	if err != nil {
		return reading{}, false, err
	}
	// A hint that belongs to no row and to no provider observed before is no usable hint,
	// but another program's, or of a row that came and went.
	if slices.ContainsFunc(request.ProviderIDs, func(id uuid.UUID) bool { return !hinted.ids[id] }) {
		return reading{}, false, nil
	}
	return hinted, true, nil
}

// readNamed reads the providers named. It passes over names that the environment does not
// have.
func (r *verification) readNamed(ctx context.Context, names []string) (reading, error) {
	return r.read(ctx, names, nil, r.v.reader.credentials)
}

// read reads the providers named, and the providers of the ids. The observations are
// what the mode judges.
func (r *verification) read(ctx context.Context, names []string, ids []uuid.UUID, mode drift.CredentialMode) (reading, error) {
	read, err := r.v.reader.read(ctx, r.v.pool, r.environment, r.hasher, names, ids, mode.Compares())
	if err == nil {
		err = r.unlessOvertaken(read.newest)
	}
	if err != nil {
		return reading{}, err
	}
	for i := range read.comparisons {
		o := &read.comparisons[i].observation
		*o = r.v.conditions.observed(ctx, *o, mode)
	}
	return read, nil
}

// scan reads the rows of all providers and returns the names of those to read: they are
// not seen to be in sync as recorded. What is recorded of the others is known from the
// last time, unless another worker has recorded something since.
func (r *verification) scan(ctx context.Context) (suspects []string, err error) {
	scan, err := r.v.reader.scan(ctx, r.v.pool, r.environment)
	if err == nil {
		err = r.unlessOvertaken(scan.newest)
	}
	if err != nil {
		return nil, err
	}
	suspects, known := r.v.baseline.suspects(scan, r.hasher)
	if !known {
		generation, inSync, err := recordedInSync(ctx, r.v.pool, r.environment, r.hasher)
		if err != nil {
			return nil, fmt.Errorf("read what is recorded: %w", err)
		}
		suspects = scan.suspects(inSync)
		r.v.baseline.replace(r.environment, r.hasher, generation, inSync)
	}
	r.v.conditions.inSync(ctx, r.environment, suspects)
	return suspects, nil
}

// unlessReplaced returns [errReplaced] where a reload has replaced the environment.
func (r *verification) unlessReplaced() error {
	if r.v.environment.Load() != r.environment {
		return errReplaced
	}
	return nil
}

// record records what is new in a reading, and returns of how many providers. When
// another worker has recorded anything since, it reads these again.
func (r *verification) record(ctx context.Context, read reading, source pubsub.Source) (news int, err error) {
	for range maxRaces {
		if err := r.unlessReplaced(); err != nil {
			return 0, err
		}
		var judged []judgement
		var names []string
		for _, c := range read.comparisons {
			c.recorded.AlertAfter = r.v.alertAfter
			j := c.recorded.Judge(c.observation)
			if r.environment.withholds(j) {
				continue
			}
			if !j.IsNews() {
				r.v.judged(ctx, r.environment, j)
				continue
			}
			next := judgement{Judgement: j}
			next.show(source)
			judged, names = append(judged, next), append(names, j.Observation.Provider)
		}
		if len(judged) == 0 {
			return 0, nil
		}
		recorded, err := r.write(ctx, position{generation: read.generation, lastSeq: read.lastSeq}, judged, nil, source)
		if err != nil {
			return 0, fmt.Errorf("record drift: %w", err)
		}
		if recorded {
			return len(judged), nil
		}
		if read, err = r.readNamed(ctx, names); err != nil {
			return 0, err
		}
	}
	return 0, errRace
}

// end ends a verification of everything: what it could not see is recorded as well.
func (r *verification) end(ctx context.Context, source pubsub.Source) error {
	if err := r.closeUnnamed(ctx, source); err != nil {
		return fmt.Errorf("close the drifts of providers that the environment no longer names: %w", err)
	}
	if err := r.repeatOutlived(ctx); err != nil {
		return fmt.Errorf("alert the drifts that have outlived their silences: %w", err)
	}
	return nil
}

// closeUnnamed ends the drifts of providers that the environment no longer names, unless
// that was done before: nothing is left that they could differ from.
func (r *verification) closeUnnamed(ctx context.Context, source pubsub.Source) error {
	if r.v.baseline.isClosed(r.environment) {
		return nil
	}
	for range maxRaces {
		unnamed, err := store.On(r.v.pool).ListUnnamedStates(ctx, r.environment.names)
		if err != nil {
			return err
		}
		if err := r.unlessReplaced(); err != nil {
			return err
		}
		recorded := len(unnamed.States) == 0
		if !recorded {
			if err := r.unlessOvertaken(unnamed.Newest); err != nil {
				return err
			}
			judged, forgotten := judgeUnnamed(unnamed.States)
			at := position{generation: unnamed.Generation, lastSeq: unnamed.LastSeq}
			if recorded, err = r.write(ctx, at, judged, forgotten, source); err != nil {
				return err
			}
		}
		if recorded {
			r.v.baseline.close(r.environment)
			r.v.conditions.forgetUnnamed(r.environment)
			return nil
		}
	}
	return errRace
}

// repeatOutlived alerts the drifts that have outlived the silences that matched them: each once
// more.
func (r *verification) repeatOutlived(ctx context.Context) error {
	defer r.v.silences.prompt()
	for races := 0; races < maxRaces && !r.v.silences.areSettled(); {
		outlived, err := store.On(r.v.pool).ListOutlived(ctx, chunk)
		if err != nil || len(outlived.Drifts) == 0 {
			return err
		}
		repeated := make([]judgement, len(outlived.Drifts))
		for i, d := range outlived.Drifts {
			repeated[i] = repeatOf(d)
		}
		at := position{generation: outlived.Generation, lastSeq: outlived.LastSeq}
		recorded, err := r.write(ctx, at, repeated, nil, pubsub.SourceSilence)
		switch {
		case err != nil:
			return err
		case recorded:
			races = 0
		default:
			races++
		}
		if races == maxRaces {
			return errRace
		}
	}
	return nil
}

// judgeUnnamed judges the recorded states of providers that the environment does not
// name, all of which are then forgotten.
func judgeUnnamed(states []store.NamedState) (judged []judgement, forgotten []string) {
	for _, state := range states {
		forgotten = append(forgotten, state.Provider)
		j := drift.Unnamed(state.Provider, state.State, state.AlertSeq)
		j.Silenced, j.EndsPending = state.Silenced, state.Pending
		if j.IsNews() {
			judged = append(judged, judgement{Judgement: j})
		}
	}
	return judged, forgotten
}

// write writes judgements and announces them. It reports false, and has written nothing,
// when the generation of the position is over by now. The epoch is filled in.
func (r *verification) write(ctx context.Context, at position, judgements []judgement, forgotten []string, source pubsub.Source) (bool, error) {
	if at.epoch = r.v.sequence.currentEpoch(); at.epoch == uuid.Nil { // a verifier that has not taken over
		epoch, err := store.On(r.v.pool).ReadEpoch(ctx)
		if err != nil {
			return false, fmt.Errorf("read provwatch.alert_counter: %w", err)
		}
		r.v.sequence.goOn(epoch)
		at.epoch = epoch
	}
	if err := r.unlessReplaced(); err != nil {
		return false, err
	}
	recorded, err := record{db: r.v.pool, at: at, term: r.term, newest: r.newest, source: source}.write(ctx, Recorded{
		environment: r.environment, judgements: judgements, forgotten: forgotten,
	})
	if err != nil {
		r.v.Unannounced()
		return false, err
	}
	if recorded.generation == 0 {
		return false, nil
	}
	r.v.announce(ctx, recorded)
	return true, nil
}
