package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/store"
)

// Observed is an observation that [Verifier.Record] judges.
type Observed struct {
	drift.Observation
	// Commit is the transaction that made it so, nil if it is as things are now.
	Commit *pubsub.Commit

	environment *environment // that it was compared with, nil where the caller compared it
	// recorded is what was recorded when the row was read, empty where the caller read it.
	recorded drift.Recorded
}

// stand leaves of a judgement on the observation what ends something that was recorded since the
// row was read: an acceptance, and what both sides agreed on.
func (o Observed) stand(j drift.Judgement) drift.Judgement {
	if o.environment == nil {
		return j
	}
	accepted, base := o.recorded.Accepted, o.recorded.Base
	if j.Withdrawn != nil && (accepted == nil || !accepted.AcceptedAt.Equal(j.Withdrawn.AcceptedAt)) {
		j.Withdrawn = nil
	}
	if j.NewBase != nil {
		// It replaces the base that was read, and no other.
		if j.NewBase.SetAt = ""; base != nil {
			j.NewBase.SetAt = base.SetAt
		}
	}
	return j
}

// MaxObserved is how many providers one [Verifier.Observe] reads at most.
const MaxObserved = chunk

// Suspects returns the providers to observe for the request: those that are not seen to
// be in sync as recorded.
func (v *Verifier) Suspects(ctx context.Context, request Request) (names []string, err error) {
	err = v.measure(ctx, request.All, func(ctx context.Context, run *verification) error {
		if err := run.take(ctx); err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		hinted, found, err := run.suspects(ctx, request)
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		names = found
		for _, c := range hinted.comparisons {
			names = append(names, c.observation.Provider)
		}
		return nil
	})
	return names, err
}

// Observe reads the providers named and records nothing.
func (v *Verifier) Observe(ctx context.Context, names []string) (observed []Observed, err error) {
	err = v.current(ctx, v.answerWithin, func(ctx context.Context, run *verification) error {
		if err := run.take(ctx); err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		read, err := run.readNamed(ctx, names)
		if err != nil {
			return fmt.Errorf("verify providers: %w", err)
		}
		observed = make([]Observed, len(read.comparisons))
		for i, c := range read.comparisons {
			observed[i] = Observed{Observation: c.observation, environment: run.environment, recorded: c.recorded}
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
	newest, err := v.takeGeneration(ctx, tx, environment, hasher)
	if err != nil {
		return Recorded{}, err
	}
	locked, err := store.On(tx).LockAlerts(ctx)
	if err != nil {
		return Recorded{}, err
	}
	known, err := store.On(tx).ReadRecorded(ctx, providersOf(observed))
	if err != nil {
		return Recorded{}, err
	}
	what := Recorded{environment: environment, judgements: v.judge(environment, observed, known, source)}
	if xids := ending(what.judgements); len(xids) > 0 {
		if err := awaitVisible(ctx, tx, xids); err != nil {
			return Recorded{}, err
		}
		if known, err = store.On(tx).ReadRecorded(ctx, providersOf(observed)); err != nil {
			return Recorded{}, err
		}
		what.judgements = v.judge(environment, observed, known, source)
	}
	if !slices.ContainsFunc(what.judgements, func(j judgement) bool { return j.IsNews() }) {
		return what, nil
	}
	at := position{locked.Generation, locked.LastSeq, locked.Epoch}
	recorded, err := record{db: tx, at: at, term: v.sequence.currentTerm(), newest: newest, source: source}.write(ctx, what)
	if err == nil && recorded.generation == 0 {
		err = v.whyRefused(ctx, tx, environment, hasher) // another worker leads by now, or has a newer environment
	}
	return recorded, err
}

// providersOf returns the names of the providers that were observed, each once.
func providersOf(observed []Observed) []string {
	names := make([]string, len(observed))
	for i, o := range observed {
		names[i] = o.Provider
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// judge judges observations in their order, from the source. It brings what is recorded up to date.
func (v *Verifier) judge(environment *environment, observed []Observed, known map[string]drift.Recorded, source pubsub.Source) []judgement {
	judgements := make([]judgement, 0, len(observed))
	for _, o := range observed {
		recorded := known[o.Provider]
		if isBeforeApply(o.Commit, recorded.Base) {
			continue
		}
		readAt := recorded.At
		recorded.AlertAfter = v.alertAfter
		j, judged := judgement{commit: o.Commit}, true
		if o.Commit == nil {
			j.Judgement = o.stand(recorded.Judge(o.Observation))
		} else {
			recorded.At = o.Commit.CommittedAt
			if lasted, ok := recorded.Lasted(o.Provider); ok {
				judgements = append(judgements, judgement{Judgement: lasted})
				recorded = recorded.After(lasted)
			}
			// Where it is not judged, the verification that follows compares the credentials.
			j.Judgement, judged = recorded.JudgeRow(o.Observation, v.reader.credentials == drift.AlertCredentials)
		}
		if judged && !environment.withholds(j.Judgement) {
			j.show(source)
			judgements = append(judgements, j)
			recorded = recorded.After(j.Judgement)
		}
		recorded.At = readAt
		known[o.Provider] = recorded
	}
	return judgements
}

// ending returns the transactions that end a drift. How they end it stands in other rows that
// they have written, such as the base of a resolution. The stream can have a commit a moment
// before queries see these.
func ending(judgements []judgement) (xids []int64) {
	for _, j := range judgements {
		if j.commit != nil && j.Alert == drift.Resolved {
			xids = append(xids, j.commit.XID)
		}
	}
	return xids
}

// visibleWithin bounds how long a record waits for that moment to pass. A commit that waits
// for a synchronous standby takes longer, and how it ended the drift is then not known.
const visibleWithin = 200 * time.Millisecond

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

// isBeforeApply reports whether a commit came before an apply wrote to the row: what it shows
// differs from the environment that was applied then, and the row was as agreed at the apply.
func isBeforeApply(commit *pubsub.Commit, base *drift.Base) bool {
	if commit == nil || base == nil || base.AppliedLSN == 0 {
		return false
	}
	at, err := pglogrepl.ParseLSN(commit.LSN)
	return err == nil && uint64(at) <= base.AppliedLSN
}

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
func (v *Verifier) End(ctx context.Context, source pubsub.Source) error {
	err := v.current(ctx, fullTimeout, func(ctx context.Context, run *verification) error {
		if err := run.take(ctx); err != nil {
			return err
		}
		return run.end(ctx, source)
	})
	if err != nil {
		return err
	}
	v.conditions.measure(v.metrics)
	return nil
}
