package daemon

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
)

// hints observes the listening session and handles its hints: what it hears becomes requests
// for a verification. The listener's goroutine alone calls its methods.
type hints struct {
	database *pgxpool.Config
	pending  *verify.Queue
	queue    *notifyQueue
	health   *health
	liveness *liveness
	metrics  *instruments
	report   *report
}

// Listening implements [listener.Observer]. Everything is verified after LISTEN is in
// effect, so that no change falls between the two.
func (h *hints) Listening(reconnected bool) {
	h.metrics.ListenerConnected(reconnected)
	h.health.setListening(nil)
	if reconnected {
		h.pending.Add(verify.Everything(pubsub.SourceResync).After(verify.Reconnected))
	} else {
		h.pending.Add(verify.Everything(pubsub.SourceBoot))
	}
}

// Notified implements [listener.Handler].
func (h *hints) Notified(payload string) {
	h.metrics.NotificationReceived(h.pending.Hint(payload))
}

// Gather implements [listener.Observer].
func (h *hints) Gather(on bool) {
	if h.pending.Gather(on) {
		h.metrics.NotificationCoalesced()
	}
}

// QueueUsage implements [listener.Observer].
func (h *hints) QueueUsage(usage float64) { h.queue.used(usage) }

// CameRound implements [listener.Observer].
func (h *hints) CameRound() { h.liveness.cameRound() }

// Lost implements [listener.Observer].
func (h *hints) Lost(err error) {
	h.metrics.ListenerLost()
	// First of all, since a worker that listens and does not lead stands by.
	h.health.setListening(fmt.Errorf("not listening: %w", postgres.Explain(h.database, err)))
	h.report.describe()
}
