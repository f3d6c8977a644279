package daemon

import (
	"context"
	"errors"

	"github.com/sourcegraph/conc"

	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/retention"
	"provwatch/internal/retry"
	"provwatch/internal/rollout"
	"provwatch/internal/sink"
	"provwatch/internal/verify"
)

// leading is what this worker does in a term: it takes over, delivers to the sinks, prunes,
// looks after silences and publishes alerts from a source. It belongs to the goroutine of the
// [participant].
type leading struct {
	pending     *verify.Queue
	verifier    *verify.Verifier
	member      *rollout.Member
	sinks       *sink.Runner
	pruner      *retention.Runner
	sources     *sources
	preparation *preparation
	ability     *abilityCheck
}

// run leads until the term ends, or ctx. It returns why this worker must give the term up, nil
// where it need not: a [*rollout.OlderError], or why it cannot alert. first is the source of the
// verification that it begins with.
func (l *leading) run(ctx context.Context, term *leader.Term, first pubsub.Source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // also where a part of the leader panics
	ended := context.AfterFunc(term.Context(), cancel)
	defer ended()
	var unable error              // of the goroutine that checks until it has ended
	var older *rollout.OlderError // the same
	var check conc.WaitGroup
	check.Go(func() {
		if unable = l.ability.run(ctx, term); unable != nil {
			cancel()
		}
	})
	check.Go(func() {
		if older = l.becomesOlder(ctx); older != nil {
			cancel()
		}
	})
	l.lead(ctx, term, first)
	early := ctx.Err() == nil
	cancel()
	check.Wait()
	switch {
	case older != nil:
		return older
	case unable != nil:
		return unable
	case early:
		// The source can have ended before [leading.becomesOlder] looked.
		if older := l.member.Older(); older != nil {
			return older
		}
		return errOvertaken
	default:
		return nil
	}
}

// errOvertaken is why a leader gives the term up that ended what it did since another worker had
// a newer environment, also where that worker has none any more.
var errOvertaken = errors.New("another worker had a newer environment")

// becomesOlder waits until another worker has a newer environment. It returns nil where ctx ends
// before.
func (l *leading) becomesOlder(ctx context.Context) *rollout.OlderError {
	for {
		changed := l.member.Changed()
		if older := l.member.Older(); older != nil {
			return older
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// lead takes over, and leads until ctx ends.
func (l *leading) lead(ctx context.Context, term *leader.Term, first pubsub.Source) {
	// First of all: sinks begin where the alerts end, also after a restore.
	if !l.takeOver(ctx, term, first) {
		return
	}
	// A sink that is stuck ends as soon as it notices the end of its context.
	var aside conc.WaitGroup
	defer aside.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // first, also where the source panics
	aside.Go(func() { l.sinks.Run(postgres.Aside(ctx), term) })
	aside.Go(func() { l.pruner.Run(postgres.Aside(ctx), term) })
	aside.Go(func() { l.verifier.FollowSilences(postgres.Aside(ctx), l.pending) })
	aside.Go(func() { l.verifier.FollowPending(postgres.Aside(ctx), l.pending) })
	aside.Go(func() { l.verifier.FollowAcceptances(postgres.Aside(ctx), l.pending) })
	l.sources.run(ctx, term, first)
}

// takeOver takes over from another leader. It retries, and returns false when ctx ends, or when
// another worker has a newer environment.
func (l *leading) takeOver(ctx context.Context, term *leader.Term, first pubsub.Source) bool {
	for attempt := range retry.Every(leadPause).Attempts(ctx) {
		err := l.verifier.TakeOver(ctx, term.Number, first)
		if rollout.IsOlder(err) {
			return false
		}
		if l.preparation.isDone(ctx, attempt, "not leading yet, retrying", err) {
			return true
		}
	}
	return false
}
