package daemon

import (
	"context"

	"github.com/sourcegraph/conc"

	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/retention"
	"provwatch/internal/retry"
	"provwatch/internal/sink"
	"provwatch/internal/verify"
)

// leading is what this worker does in a term: it takes over, delivers to the sinks, prunes,
// looks after silences and publishes alerts from a source. It belongs to the goroutine of the
// [participant].
type leading struct {
	pending     *verify.Queue
	verifier    *verify.Verifier
	sinks       *sink.Runner
	pruner      *retention.Runner
	sources     *sources
	preparation *preparation
	ability     *abilityCheck
}

// run leads until the term ends, or ctx. It returns why this worker must resign, nil where
// it need not. first is the source of the verification that it begins with.
func (l *leading) run(ctx context.Context, term *leader.Term, first pubsub.Source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // also where a part of the leader panics
	ended := context.AfterFunc(term.Context(), cancel)
	defer ended()
	var unable error // of the goroutine that checks until it has ended
	var check conc.WaitGroup
	check.Go(func() {
		if unable = l.ability.run(ctx, term); unable != nil {
			cancel()
		}
	})
	l.lead(ctx, term, first)
	cancel()
	check.Wait()
	return unable
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
	l.sources.run(ctx, term, first)
}

// takeOver takes over from another leader. It retries, and returns false when ctx ends.
func (l *leading) takeOver(ctx context.Context, term *leader.Term, first pubsub.Source) bool {
	for attempt := range retry.Every(leadPause).Attempts(ctx) {
		err := l.verifier.TakeOver(ctx, term.Number, first)
		if l.preparation.isDone(ctx, attempt, "not leading yet, retrying", err) {
			return true
		}
	}
	return false
}
