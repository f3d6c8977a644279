package daemon

import (
	"context"
	"log/slog"

	"provwatch/internal/pubsub"
)

// sourceSwitch records and publishes which source alerts come from.
type sourceSwitch struct {
	leadership *leadership
	publisher  *publisher
	metrics    *instruments
	report     *report
	logger     *slog.Logger
}

// use switches to the source, for a reason where it is not the first choice. The reason is
// logged with the attributes given.
func (s *sourceSwitch) use(ctx context.Context, source SourceMode, reason string, attributes ...any) {
	if !s.leadership.setSource(source) {
		return
	}
	s.metrics.SourceUsed(string(source))
	s.report.describe()
	if reason == "" {
		s.logger.InfoContext(ctx, "alerts come from this source now", "source", string(source))
	} else {
		s.logger.WarnContext(ctx, "alerts come from this source instead", append([]any{"source", string(source), "reason", reason}, attributes...)...)
	}
	s.publisher.publish(ctx, pubsub.EventSource, reason)
}
