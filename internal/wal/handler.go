package wal

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
)

const (
	// checkPause is the least time between two verifications, so that notifications, which
	// any role can send, cannot keep the database busy.
	checkPause = 50 * time.Millisecond
	// markerTimeout is how long a marker may take through the stream before the stream is
	// taken for stuck.
	markerTimeout = time.Minute
	// partPause is well below the time after which the server ends an idle transaction.
	partPause = 5 * time.Second
)

// handler takes what the stream hands on, has it applied, and has verified what is pending.
// Its own goroutine alone touches it from the start of the stream to its end, and with it
// the applier, the checker, and all that they share.
type handler struct {
	backlog  *backlog      // shared with the stream
	pending  *verify.Queue // safe for concurrent use
	host     Host
	metrics  Metrics
	activity *postgres.Activity
	failures *failures // the reader's, which waits meanwhile

	batcher batcher
	applier *applier
	checker *checker

	pause <-chan time.Time // until the next verification, or attempt at one; nil for none
	stuck <-chan time.Time // until the marker is taken for lost; nil without one
}

// handle handles until something fails or ctx ends.
func (h *handler) handle(ctx context.Context) error {
	for {
		ready := h.pending.Ready()
		if !h.checker.isFree() || h.pause != nil {
			ready = nil
		}
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.pause:
			h.pause = nil
			if h.checker.waiting != nil {
				err = h.verify(ctx)
			}
		case <-h.stuck:
			err = fmt.Errorf("the replication stream has not passed a marker for %s", markerTimeout)
		case e := <-h.backlog.events:
			err = h.take(ctx, e)
		case <-ready:
			if request, ok := h.pending.Get(); ok {
				h.checker.take(request)
				err = h.verify(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
}

// verify begins the verification that waits, or sets the time of the next attempt.
func (h *handler) verify(ctx context.Context) error {
	handling, ended := h.activity.Handle(ctx, "a verification")
	defer ended()
	request := h.checker.waiting.request
	wait, err := h.checker.begin(handling)
	if err != nil {
		h.host.Verified(request, err)
		return err
	}
	if h.checker.current == nil {
		h.pause = time.After(wait)
	} else {
		h.pause, h.stuck = nil, time.After(markerTimeout)
	}
	return nil
}

// take handles an event, and others that are recorded with it.
func (h *handler) take(ctx context.Context, first event) error {
	before := h.checker.current
	batch := h.batcher.gather(ctx, first, before != nil)
	handling, ended := h.activity.Handle(ctx, "the recording of changes")
	large, err := h.applyAll(handling, batch)
	ended()
	if err != nil {
		return err
	}
	switch now := h.checker.current; {
	case now == nil && h.stuck != nil:
		h.stuck, h.pause = nil, time.After(checkPause)
	case now != before, now != nil && large:
		h.stuck = time.After(markerTimeout)
	}
	return nil
}

// applyAll has a batch applied. It reports whether the batch ended with the first part of a
// large transaction.
func (h *handler) applyAll(ctx context.Context, batch []event) (large bool, err error) {
	last := batch[len(batch)-1]
	if !last.isPart() {
		err := h.apply(ctx, batch)
		h.backlog.done(batch...)
		return false, err
	}
	if whole := batch[:len(batch)-1]; len(whole) > 0 {
		if err := h.apply(ctx, whole); err != nil {
			return false, err
		}
		h.backlog.done(whole...)
	}
	return true, h.applyLarge(ctx, last)
}

func (h *handler) apply(ctx context.Context, batch []event) error {
	seen, err := h.applier.apply(ctx, batch)
	if err != nil {
		return err
	}
	return h.applied(ctx, seen)
}

// applyLarge passes on the parts of a transaction that begins with the part first.
func (h *handler) applyLarge(ctx context.Context, first event) error {
	if h.applier.position.has(first.transaction) {
		_, err := h.eachPart(ctx, first, discarder{})
		return err
	}
	large, err := h.applier.beginLarge(ctx)
	if err != nil {
		return err
	}
	defer large.rollback(ctx) // also where something panics
	last, err := h.eachPart(ctx, first, large)
	if err != nil {
		return err
	}
	seen, err := large.commit(ctx, last)
	if err != nil {
		return err
	}
	return h.applied(ctx, seen)
}

// taker takes the parts of a large transaction.
type taker interface {
	take(ctx context.Context, part *transaction) error
	// idle is called while no part comes, each [partPause].
	idle(ctx context.Context) error
}

// discarder is the [taker] of a transaction that is recorded already.
type discarder struct{}

func (discarder) take(context.Context, *transaction) error { return nil }
func (discarder) idle(context.Context) error               { return nil }

// eachPart passes on each part of a transaction that begins with first, and returns the
// last of them. Between its parts the stream hands on nothing else.
func (h *handler) eachPart(ctx context.Context, first event, to taker) (last *transaction, err error) {
	pause := time.NewTicker(partPause)
	defer pause.Stop()
	for e := first; ; {
		if err := to.take(ctx, e.transaction); err != nil {
			return nil, err
		}
		h.backlog.done(e)
		if !e.isPart() {
			return e.transaction, nil
		}
		for received := false; !received; {
			select {
			case e = <-h.backlog.events:
				received = true
			case <-pause.C:
				if err := to.idle(ctx); err != nil {
					return nil, err
				}
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// applied goes on after transactions are applied.
func (h *handler) applied(ctx context.Context, seen *outcome) error {
	h.metrics.TransactionsHandled(seen.handled)
	if seen.handled > 0 {
		h.failures.progress()
	}
	if seen.unread != uuid.Nil {
		return unreadRow(seen.unread)
	}
	if err := h.applier.tidy(ctx); err != nil {
		return err
	}
	if seen.keysTouched && h.applier.verifier.ComparesCredentials() {
		h.pending.Add(verify.Everything(pubsub.SourceWAL))
	}
	if h.checker.see(seen) {
		return h.finish(ctx)
	}
	return nil
}

// finish finishes the verification under way, or a part of it, whose marker has come.
func (h *handler) finish(ctx context.Context) error {
	request := h.checker.current.request
	ended, err := h.checker.finish(ctx)
	if err != nil {
		if asGap(err) == nil {
			h.host.Verified(request, err)
		}
		return err
	}
	if ended == nil {
		return nil
	}
	h.failures.progress()
	h.host.Verified(request, nil)
	if ended.again {
		request.Events = 0 // which were reported
		h.pending.Retry(request)
	} else {
		h.pending.Done()
	}
	return nil
}
