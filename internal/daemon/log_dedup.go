package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// logDedup suppresses a log line that repeats the previous one on its topic. Its zero value
// has logged nothing. Its methods may be called by several goroutines.
type logDedup struct {
	mu   sync.Mutex
	last map[string]string // by topic; the empty text is that nothing is wrong
}

// isNewError is [logDedup.isNew] of an error, nil for none.
func (l *logDedup) isNewError(topic string, err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	return l.isNew(topic, text)
}

// isNew reports whether text differs from the previous one on the topic, and records it.
func (l *logDedup) isNew(topic, text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last[topic] == text {
		return false
	}
	if l.last == nil {
		l.last = map[string]string{}
	}
	l.last[topic] = text
	return true
}

// warnRetry logs the error of what is retried soon, unless it is the previous one of the
// same message; nil for none. Many databases of one server fail together.
func (l *logDedup) warnRetry(ctx context.Context, logger *slog.Logger, message string, err error, retryIn time.Duration) {
	if l.isNewError(message, err) && err != nil {
		logger.WarnContext(ctx, message, "error", err, "retry_in", retryIn)
	}
}
