package sink

import (
	"errors"
	"time"

	"provwatch/internal/retry"
)

const (
	// firstRetry and maxRetry bound the wait before an event is sent again, and
	// maxBusy the wait that a sink may ask for.
	firstRetry = 500 * time.Millisecond
	maxRetry   = time.Minute
	maxBusy    = time.Hour
)

// failures decides when the events of a stream may be sent.
//
// After a failure the events of its provider wait, while those of other providers are
// sent. When an event of another provider fails too, the sink is at fault and all events
// wait.
type failures struct {
	first  time.Duration // the first wait
	giveUp time.Duration // how long an event is retried

	providers map[string]*deferral
	pause     *retry.Backoff
	paused    time.Time // until when nothing is sent
	inARow    int       // failures since the pause or the last success
}

// deferral delays the events of one provider after one of them has failed.
type deferral struct {
	since    time.Time // the first failure
	until    time.Time
	attempts int
	backoff  *retry.Backoff
}

func newFailures(first, giveUp time.Duration) *failures {
	return &failures{first: first, giveUp: giveUp, providers: map[string]*deferral{}, pause: newBackOff(first)}
}

func newBackOff(first time.Duration) *retry.Backoff {
	return retry.Policy{First: first, Max: maxRetry}.Backoff()
}

// next returns the first event that may be sent now. Without such an event it returns
// how long to wait for one, and zero to wait for new events.
func (f *failures) next(p *pending, now time.Time) (*item, time.Duration) {
	if now.Before(f.paused) {
		if p.undone == 0 {
			return nil, 0
		}
		return nil, f.paused.Sub(now)
	}
	var wait time.Duration
	passed := map[string]bool{}
	for _, i := range p.items {
		if i.done || passed[i.Provider] {
			continue
		}
		d := f.providers[i.Provider]
		if d == nil || !now.Before(d.until) {
			return i, 0
		}
		passed[i.Provider] = true
		if until := d.until.Sub(now); wait == 0 || until < wait {
			wait = until
		}
	}
	return nil, wait
}

// attempts returns how often the provider's first event has failed.
func (f *failures) attempts(provider string) int {
	if d := f.providers[provider]; d != nil {
		return d.attempts
	}
	return 0
}

// succeed records that the sink has acknowledged an event.
func (f *failures) succeed() {
	f.inARow = 0
	f.pause.Reset()
}

// end forgets the failures of the provider's first event, which is done.
func (f *failures) end(provider string) { delete(f.providers, provider) }

// fail records the failure of a provider's event. It reports whether to give the event up,
// and else how long to wait before the next attempt and for how long there are attempts.
func (f *failures) fail(provider string, failure error, now time.Time) (giveUp bool, wait, left time.Duration) {
	d := f.providers[provider]
	if d == nil {
		d = &deferral{since: now, backoff: newBackOff(f.first)}
		f.providers[provider] = d
	}
	d.attempts++
	if _, refused := errors.AsType[*RefusedError](failure); refused || now.Sub(d.since) >= f.giveUp {
		return true, 0, 0
	}
	wait = d.backoff.Next()
	if busy, ok := errors.AsType[*BusyError](failure); ok {
		wait = max(wait, min(busy.After, maxBusy))
		f.paused = now.Add(min(busy.After, maxBusy))
	}
	d.until = now.Add(wait)
	if f.inARow++; f.inARow > 1 {
		f.inARow = 0
		if until := now.Add(f.pause.Next()); until.After(f.paused) {
			f.paused = until
		}
	}
	return false, wait, f.giveUp - now.Sub(d.since)
}
