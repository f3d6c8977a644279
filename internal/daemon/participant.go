package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/leader"
	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
	"provwatch/internal/rollout"
)

// participant stands by and leads by turns. Its goroutine is that of the source.
type participant struct {
	worker     uuid.UUID
	elector    *leader.Elector
	standby    *standby
	leading    *leading
	leadership *leadership
	publisher  *publisher
	metrics    *instruments
	report     *report
	logger     *slog.Logger

	// yield is for how long other standbys come first when this leader resigns. In a term
	// [abilityCheck.run] resets it while the leader is well; between terms the
	// participant's goroutine uses it.
	yield *retry.Backoff
}

// run stands by until this worker leads, then leads until its term ends, until ctx ends.
func (p *participant) run(ctx context.Context) {
	first := pubsub.SourceBoot
	for {
		p.leadership.term.Store(nil)
		p.metrics.Leading(false)
		term, ok := p.standby.run(ctx)
		if !ok {
			return
		}
		// Listening asks for the leader's first verification, and no second follows when the
		// worker is ready.
		select {
		case <-term.Listening():
		case <-term.Context().Done(): // the session was lost before
		case <-ctx.Done():
			return
		}
		if term.Context().Err() != nil {
			continue
		}
		if !p.lead(ctx, term, first) {
			return
		}
		first = pubsub.SourceResync
	}
}

// lead leads for the term, and returns false when ctx ends. first is the source of the
// verification that the term begins with.
func (p *participant) lead(ctx context.Context, term *leader.Term, first pubsub.Source) bool {
	p.leadership.term.Store(term)
	p.metrics.Leading(true)
	p.logger.InfoContext(ctx, "leading", "worker", p.worker.String(), "term", term.Number)
	p.publisher.publish(ctx, pubsub.EventLeading, "")
	why := p.leading.run(ctx, term, first)
	if ctx.Err() != nil {
		return false
	}
	if why != nil && !p.giveUp(ctx, term, why) {
		return false
	}
	p.logger.WarnContext(ctx, "no longer leading", "reason", context.Cause(term.Context()))
	p.metrics.NotComparableObserved(nil) // the next leader lists them
	p.leadership.setSource("")
	p.report.describe()
	return true
}

// giveUp gives the term up, once what was done in it has ended: the sinks, and the stream
// with its slot. It returns false when ctx has ended.
func (p *participant) giveUp(ctx context.Context, term *leader.Term, why error) bool {
	var older *rollout.OlderError
	switch {
	case errors.As(why, &older):
		p.logger.InfoContext(ctx, "stepping down for a worker with a newer environment", append(older.Attributes(), "term", term.Number)...)
		p.elector.StepDown(term)
	case errors.Is(why, errOvertaken):
		p.logger.InfoContext(ctx, "stepping down", "reason", why, "term", term.Number)
		p.elector.StepDown(term)
	default:
		yield := p.yield.Next()
		p.logger.WarnContext(ctx, "resigning: this worker cannot alert, and another one waits to lead", "error", why, "term", term.Number, "yield", yield.Round(time.Second))
		p.elector.Resign(term, yield)
	}
	select {
	case <-term.Context().Done():
		return true
	case <-ctx.Done():
		return false
	}
}
