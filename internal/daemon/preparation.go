package daemon

import (
	"context"
	"log/slog"
	"time"

	"provwatch/internal/retry"
	"provwatch/internal/verify"
)

// leadPause is the wait before what begins a term is retried.
const leadPause = time.Second

// preparation records the attempts at what must succeed before a leader, or its source,
// begins. Nothing is verified meanwhile, so that the worker is not ready. It belongs to the
// goroutine of the [participant].
type preparation struct {
	verifications *verifications
	logger        *slog.Logger

	logged logDedup
}

// isDone reports whether an attempt has succeeded. A failure is logged with the message, and
// the attempt is retried. Once ctx has ended no attempt counts.
func (p *preparation) isDone(ctx context.Context, attempt *retry.Attempt, message string, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	p.logged.warnRetry(ctx, p.logger, message, err, leadPause)
	if err == nil {
		return true
	}
	p.verifications.Verified(ctx, verify.Request{All: true}, err)
	attempt.Failed()
	return false
}
