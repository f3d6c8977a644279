package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/store"
)

// MaxObserved is how many providers and rows one [Verifier.Observe] reads at most.
const MaxObserved = chunk

// Begun is the environment that [Verifier.Suspects] has begun a verification with, none where it is
// the zero value.
type Begun struct{ environment *environment }

// Suspects returns what to observe for the request: the providers that are not seen to be in
// sync as recorded, and the unmanaged rows that are not as recorded.
func (v *Verifier) Suspects(ctx context.Context, request Request) (subjects []drift.Subject, begun Begun, err error) {
	err = v.measure(ctx, request.All, func(ctx context.Context, run *verification) error {
		if err := run.take(ctx); err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		hinted, found, err := run.suspects(ctx, request)
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		subjects, begun = append(hinted.subjects(), found.subjects()...), Begun{run.environment}
		return nil
	})
	return subjects, begun, err
}

// Observe reads the subjects and records nothing.
func (v *Verifier) Observe(ctx context.Context, subjects []drift.Subject) (observed []Observed, err error) {
	err = v.current(ctx, v.answerWithin, func(ctx context.Context, run *verification) error {
		if err := run.take(ctx); err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		read, err := run.readSuspects(ctx, suspectsOf(subjects))
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		observed = make([]Observed, 0, len(read.comparisons)+len(read.rows))
		for _, c := range read.rows {
			observed = append(observed, Observed{Observation: c.observation, environment: run.environment, acceptance: c.recorded.Accepted})
		}
		for _, c := range read.comparisons {
			observed = append(observed, Observed{Observation: c.observation, environment: run.environment, formerServes: c.formerServes, recorded: c.recorded})
		}
		return nil
	})
	return observed, err
}

// Record judges observations in their order, each against what the ones before it left,
// and writes states, alerts and notifications in the transaction tx. After tx has
// committed, hand the result to [Verifier.Announce].
//
// An observation from a commit does not know of credentials: what was recorded of them
// stands. A pending drift that has lasted by the commit is alerted before it. An observation of
// [Verifier.Observe] is left out where a reload has replaced the environment since. The request
// that follows the reload covers it.
func (v *Verifier) Record(ctx context.Context, tx pgx.Tx, observed []Observed, source pubsub.Source) (Recorded, error) {
	return v.recordIn(ctx, tx, observed, source, v.takeGeneration, v.whyRefused)
}

// RecordMore is [Verifier.Record] in a transaction in which that was called before. It takes no
// generation: an apply takes one before it writes bases, and this transaction may hold bases. It
// fails where a reload has since replaced the environment by another, which has taken none. The caller
// then begins another transaction.
func (v *Verifier) RecordMore(ctx context.Context, tx pgx.Tx, observed []Observed, source pubsub.Source) (Recorded, error) {
	return v.recordIn(ctx, tx, observed, source, v.takenGeneration, v.overtaken)
}

// takenGeneration is [Verifier.takeGeneration] of an environment that has taken one. It fails with
// [errReplaced] for another.
func (v *Verifier) takenGeneration(_ context.Context, _ store.DBTX, e *environment, _ provider.Hasher) (newest int64, err error) {
	if v.member == nil {
		return store.AnyEnvironment, nil
	}
	taken := e.newest.Load()
	if taken == nil {
		return 0, errReplaced
	}
	return *taken, nil
}

// overtaken is [Verifier.whyRefused] that does not look for the reason: the next transaction does.
func (v *Verifier) overtaken(_ context.Context, _ store.DBTX, e *environment, _ provider.Hasher) error {
	e.newest.Store(nil)
	return errRace
}

func (v *Verifier) recordIn(ctx context.Context, tx pgx.Tx, observed []Observed, source pubsub.Source,
	generationOf func(context.Context, store.DBTX, *environment, provider.Hasher) (int64, error),
	whyRefused func(context.Context, store.DBTX, *environment, provider.Hasher) error,
) (Recorded, error) {
	environment := v.environment.Load()
	observed = slices.DeleteFunc(slices.Clone(observed), func(o Observed) bool {
		return o.environment != nil && o.environment != environment
	})
	if len(observed) == 0 {
		return Recorded{}, nil
	}
	hasher, err := v.knownHasher(ctx)
	if err != nil {
		return Recorded{}, err
	}
	newest, err := generationOf(ctx, tx, environment, hasher)
	if err != nil {
		return Recorded{}, err
	}
	now := time.Now()
	locked, err := store.On(tx).LockAlerts(ctx)
	if err != nil {
		return Recorded{}, err
	}
	known := judge{
		environment: environment, source: source, mode: v.reader.unmanaged, credentials: v.reader.credentials == drift.AlertCredentials,
		alertAfter: v.alertAfter, formerly: v.formerlyNamed(environment), since: environment.since(locked.At, now),
	}
	if err := known.read(ctx, tx, observed); err != nil {
		return Recorded{}, err
	}
	what := Recorded{environment: environment, judgements: known.judgeAll(observed)}
	if xids := deciding(what.judgements); len(xids) > 0 {
		if err := awaitVisible(ctx, tx, xids); err != nil {
			return Recorded{}, err
		}
		if err := known.read(ctx, tx, observed); err != nil {
			return Recorded{}, err
		}
		what.judgements = known.judgeAll(observed)
	}
	if !slices.ContainsFunc(what.judgements, func(j judgement) bool { return j.IsNews() }) {
		return what, nil
	}
	at := position{locked.Generation, locked.LastSeq, locked.Epoch}
	recorded, err := record{db: tx, at: at, term: v.sequence.currentTerm(), newest: newest, source: source}.write(ctx, what)
	if err == nil && recorded.generation == 0 {
		err = whyRefused(ctx, tx, environment, hasher) // another worker leads by now, or has a newer environment
	}
	return recorded, err
}

// deciding returns the transactions of which something is recorded, each once. What they mean can
// stand in other rows that they have written: the base of a resolution that ends a drift, or the
// acceptance that an apply renews. The stream can have a commit a moment before queries see these.
func deciding(judgements []judgement) (xids []int64) {
	seen := map[int64]bool{}
	for _, j := range judgements {
		if j.commit != nil && j.IsNews() && !seen[j.commit.XID] {
			seen[j.commit.XID] = true
			xids = append(xids, j.commit.XID)
		}
	}
	return xids
}

// visibleWithin bounds how long a record waits for that moment to pass. A commit that waits
// for a synchronous standby can take longer: it is then judged without what else it wrote.
const visibleWithin = time.Second

// awaitVisible waits until queries see the transactions.
func awaitVisible(ctx context.Context, tx pgx.Tx, xids []int64) error {
	for began := time.Now(); time.Since(began) < visibleWithin; {
		invisible, err := store.On(tx).ListInvisible(ctx, xids)
		if err != nil || len(invisible) == 0 {
			return err
		}
		if err := retry.Sleep(ctx, visiblePause); err != nil {
			return err
		}
	}
	return nil
}

// visiblePause is the time between two looks of [awaitVisible].
const visiblePause = 5 * time.Millisecond

// Announce logs and counts what was recorded.
func (v *Verifier) Announce(ctx context.Context, recorded Recorded) {
	if recorded.environment != nil {
		v.announce(ctx, recorded)
	}
	v.conditions.measure(v.metrics)
}

// End ends a full verification. It ends the drifts of providers that the environment no longer
// names, the first time that it is called after the environment or the leader changed. It alerts
// again the drifts that have outlived their silences, and counts the providers that drift.
//
// Where a reload has replaced the environment that the verification has begun with, or begun is the
// zero value, not everything was verified for the present one: the drifts of providers that it does
// not name stay. The request that follows the reload covers them.
func (v *Verifier) End(ctx context.Context, source pubsub.Source, begun Begun) error {
	err := v.current(ctx, fullTimeout, func(ctx context.Context, run *verification) error {
		if err := run.take(ctx); err != nil {
			return err
		}
		if run.environment != begun.environment {
			return run.repeatOutlived(ctx)
		}
		return run.end(ctx, source)
	})
	if err != nil {
		return err
	}
	v.conditions.measure(v.metrics)
	return nil
}
