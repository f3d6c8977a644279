package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/sink"
	"provwatch/internal/verify"
)

// leadPause is the wait before what begins a term is retried.
const leadPause = time.Second

// leading is what this worker does in a term: it takes over, delivers to the sinks and
// publishes alerts from a source. It belongs to the goroutine of the [participant].
type leading struct {
	pool          *pgxpool.Pool
	verifier      *verify.Verifier
	sinks         *sink.Runner
	sources       *sources
	preparation   *preparation
	health        *health
	takeOverAfter time.Duration
	answerTimeout time.Duration
	yield         *retry.Backoff // of the [participant]
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
		if unable = l.checkAbility(ctx, term); unable != nil {
			cancel()
		}
	})
	l.takeOver(ctx, term, first)
	cancel()
	check.Wait()
	return unable
}

// takeOver takes over from another leader, and leads until ctx ends.
func (l *leading) takeOver(ctx context.Context, term *leader.Term, first pubsub.Source) {
	// First of all: sinks begin where the alerts end, also after a restore.
	takeOver := func(ctx context.Context) error { return l.verifier.TakeOver(ctx, term.Number, first) }
	if !l.preparation.untilDone(ctx, "not leading yet, retrying", takeOver) {
		return
	}
	// A sink that is stuck ends as soon as it notices the end of its context.
	var sinks conc.WaitGroup
	defer sinks.Wait()
	sinks.Go(func() { l.sinks.Run(postgres.Aside(ctx), term) })
	l.sources.run(ctx, term, first)
}

// preparation retries what must succeed before a leader, or its source, begins. Nothing is
// verified meanwhile, so that the worker is not ready.
type preparation struct {
	verifications *verifications
	logger        *slog.Logger

	logged logDedup
}

// untilDone retries do until it succeeds, and returns false when ctx ends. It logs message
// with each failure.
func (p *preparation) untilDone(ctx context.Context, message string, do func(context.Context) error) bool {
	for attempt := range retry.Every(leadPause).Attempts(ctx) {
		err := do(ctx)
		if ctx.Err() != nil {
			return false
		}
		p.logged.warnRetry(ctx, p.logger, message, err, leadPause)
		if err == nil {
			return true
		}
		p.verifications.ended(ctx, verify.Request{All: true}, err)
		attempt.Failed()
	}
	return false
}
