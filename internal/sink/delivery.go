package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"provwatch/internal/pubsub"
	"provwatch/internal/retry"
)

const (
	// sendTimeout is how long a sink may take to acknowledge an event.
	sendTimeout = 10 * time.Second
	// saveInterval is how long acknowledged events may stay unsaved, and how long the
	// term is taken for confirmed, while events are being sent.
	saveInterval = time.Second
	// wakesPerSecond bounds what a flood of notifications costs: any role that can
	// connect to the database can send them.
	wakesPerSecond = 20
)

// errRewound is returned when the sequence of alerts was rewound, as by a restore. The
// worker that leads next sets the cursor back.
var errRewound = errors.New("the alerts end before what the sink was sent, as after a restore")

// A delivery sends the events of one stream to one sink, in the order of the stream for
// each provider.
//
// Any goroutine can send to wake and attention. The other fields are set before run, or
// belong to the goroutine of run.
type delivery struct {
	shared *shared
	sink   Sink
	stream Stream
	logger *slog.Logger

	wake      chan struct{} // there can be new events
	attention chan struct{} // there can be dead letters to retry
	wakes     *rate.Limiter

	reader      reader
	cursor      cursor
	deadLetters deadLetters
	failures    *failures
	pending     *pending

	last     int64     // seq of the stream's last event, as far as known
	more     bool      // there can be more to read
	retries  bool      // there can be dead letters to retry
	storedAt time.Time // when the cursor was stored or read

	term      Term
	confirmed time.Time // when the term was last confirmed

	repeatAt    time.Time // when a sink that repeats does so next, zero for not
	repeatAgain *retry.Backoff
}

func newDelivery(shared *shared, s Sink, stream Stream) *delivery {
	logger := shared.logger.With("sink", s.Name(), "stream", string(stream))
	return &delivery{
		shared: shared, sink: s, stream: stream, logger: logger,
		wake: make(chan struct{}, 1), attention: make(chan struct{}, 1),
		wakes:       rate.NewLimiter(wakesPerSecond, wakesPerSecond),
		reader:      reader{pool: shared.pool, stream: stream, cluster: shared.options.Cluster},
		cursor:      cursor{sink: s.Name(), stream: stream},
		deadLetters: deadLetters{shared: shared, logger: logger, sink: s.Name(), stream: stream},
	}
}

// run delivers until ctx ends.
func (d *delivery) run(ctx context.Context) {
	first := d.shared.firstRetry
	d.failures, d.repeatAgain = newFailures(first, d.shared.options.GiveUp), newBackOff(first)
	for attempt := range (retry.Policy{First: first, Max: maxRetry, Steady: maxRetry}).Attempts(ctx) {
		err := d.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		wait, _ := attempt.Failed()
		d.logger.WarnContext(ctx, "delivery stopped, retrying", "error", err, "retry_in", wait)
	}
}

// follow delivers from the stored cursor on, until ctx ends or the database fails.
func (d *delivery) follow(ctx context.Context) (err error) {
	if err := d.start(ctx); err != nil {
		return err
	}
	// The next leader need not repeat what was acknowledged.
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if saveErr := d.save(closing); err == nil {
			err = saveErr
		}
	}()
	for ctx.Err() == nil {
		if err := d.refresh(ctx); err != nil {
			return err
		}
		next, wait := d.failures.next(d.pending, time.Now())
		if d.cursor.seq > d.cursor.stored && (next == nil || time.Since(d.storedAt) > saveInterval) {
			if err := d.save(ctx); err != nil {
				return err
			}
		}
		switch {
		case !d.repeatAt.IsZero() && !time.Now().Before(d.repeatAt):
			err = d.repeat(ctx)
		case next == nil && d.retries:
		case next == nil:
			d.await(ctx, wait)
		default:
			err = d.deliver(ctx, next)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// start reads where to begin.
func (d *delivery) start(ctx context.Context) error {
	var firing []Event
	r, repeats := d.sink.(repeater)
	err := d.shared.query(ctx, func(ctx context.Context) error {
		// An operator can have deleted the cursor, so that the sink begins again.
		if err := register(ctx, d.shared.pool, d.shared.options, d.sink, d.stream); err != nil {
			return err
		}
		if err := d.cursor.load(ctx, d.shared.pool); err != nil || !repeats {
			return err
		}
		var err error
		firing, err = d.reader.firing(ctx, d.cursor.seq)
		return err
	})
	if err != nil {
		return err
	}
	d.pending, d.last, d.more = newPending(d.cursor.seq), d.cursor.seq, true
	d.storedAt, d.confirmed, d.retries, d.repeatAt = time.Now(), time.Time{}, false, time.Time{}
	prompt(d.attention)
	if repeats {
		r.Restore(firing)
		d.repeatAt = time.Now()
	}
	return nil
}

// refresh reads from the database what a notification announced.
func (d *delivery) refresh(ctx context.Context) error {
	select {
	case <-d.wake:
		if d.wakes.Wait(ctx) != nil {
			return nil // ctx has ended
		}
		d.more = true
	default:
	}
	select {
	case <-d.attention:
		if d.wakes.Wait(ctx) != nil {
			return nil
		}
		d.retries = true
	default:
	}
	if d.retries {
		if err := d.retryDeadLetter(ctx); err != nil {
			return err
		}
	}
	return d.fill(ctx)
}

// fill reads events while there are more and there is room for them, until there is another
// one to send: the sink is not sent silenced ones.
func (d *delivery) fill(ctx context.Context) error {
	for waiting := d.pending.undone; d.more && d.pending.undone == waiting; {
		room := d.pending.room()
		if room == 0 {
			return nil
		}
		if err := d.read(ctx, room); err != nil {
			return err
		}
	}
	return nil
}

// read reads at most room more events.
func (d *delivery) read(ctx context.Context, room int) error {
	return d.shared.query(ctx, func(ctx context.Context) error {
		// The end first: the rows up to it are there unless they were deleted.
		last, err := d.reader.end(ctx)
		if err != nil {
			return err
		}
		if d.stream == Drift && last < d.cursor.seq {
			return errRewound
		}
		events, err := d.reader.list(ctx, d.pending.read, last, room)
		if err != nil {
			return err
		}
		d.shared.seen(events)
		more := len(events) == room
		end := last
		if more {
			end = events[len(events)-1].Seq
		}
		if d.pending.hasHole(events, end) {
			// After the rows: what was pruned before they were read is known by now.
			if d.pending.pruned, err = d.reader.pruned(ctx); err != nil {
				return err
			}
		}
		d.pending.add(events)
		if d.last, d.more = max(last, d.cursor.seq), more; !more {
			d.pending.end(last)
		}
		d.advance()
		return nil
	})
}

func prompt(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// await waits for new events, for the time wait unless it is zero, or until the sink
// repeats.
func (d *delivery) await(ctx context.Context, wait time.Duration) {
	if !d.repeatAt.IsZero() {
		if until := max(time.Until(d.repeatAt), time.Millisecond); wait == 0 || until < wait {
			wait = until
		}
	}
	var timer <-chan time.Time
	if wait > 0 {
		timer = time.After(wait)
	}
	select {
	case <-ctx.Done():
	case <-timer:
	case <-d.wake:
		prompt(d.wake) // for refresh
	case <-d.attention:
		prompt(d.attention)
	}
}

// confirm ensures, at most once in saveInterval, that this worker leads.
func (d *delivery) confirm(ctx context.Context) error {
	if time.Since(d.confirmed) < saveInterval {
		return nil
	}
	if err := d.shared.query(ctx, func(ctx context.Context) error { return d.term.Confirm(ctx, d.shared.pool) }); err != nil {
		return err
	}
	d.confirmed = time.Now()
	return nil
}

func (d *delivery) send(ctx context.Context, e Event) error {
	if e.unusable != nil {
		return &RefusedError{Reason: e.unusable.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, d.shared.sendTimeout)
	defer cancel()
	return d.sink.Send(ctx, e)
}

// deliver sends an event. The error is one of the database.
func (d *delivery) deliver(ctx context.Context, i *item) error {
	if err := d.confirm(ctx); err != nil {
		return err
	}
	err := d.send(ctx, i.Event)
	if err != nil && ctx.Err() != nil {
		return nil // it is not the sink's failure
	}
	if err != nil {
		return d.fail(ctx, i, err)
	}
	d.shared.metrics.SinkDelivered(d.sink.Name(), string(d.stream))
	if n := d.failures.attempts(i.Provider); n > 0 {
		d.logger.InfoContext(ctx, "event delivered after failures", "seq", i.Seq, "provider", i.Provider, "attempts", n+1)
	}
	d.failures.succeed()
	d.finish(i)
	return nil
}

// finish marks an event as done, and moves the cursor.
func (d *delivery) finish(i *item) {
	d.failures.end(i.Provider)
	d.pending.finish(i)
	d.advance()
	if r, ok := d.sink.(repeater); ok && d.repeatAt.IsZero() {
		d.repeatAt = time.Now().Add(r.Interval())
	}
}

// advance moves the cursor over the events that are done.
func (d *delivery) advance() {
	d.cursor.advance(d.pending.pass())
	d.shared.metrics.SinkLag(d.sink.Name(), string(d.stream), d.last-d.cursor.seq)
}

// fail retries an event later, or makes it a dead letter.
func (d *delivery) fail(ctx context.Context, i *item, failure error) error {
	d.shared.metrics.SinkFailed(d.sink.Name(), string(d.stream))
	giveUp, wait, left := d.failures.fail(i.Provider, failure, time.Now())
	attempts := d.failures.attempts(i.Provider)
	if !giveUp {
		d.logger.WarnContext(ctx, "delivery failed, retrying",
			"seq", i.Seq, "provider", i.Provider, "error", failure, "attempts", attempts, "retry_in", wait, "give_up_in", left)
		return nil
	}
	if err := d.deadLetters.bury(ctx, &d.cursor, i.Event, failure, attempts); err != nil {
		return err
	}
	d.finish(i)
	return nil
}

// save stores the cursor, and announces the events that it passes and that were deleted. Events
// that were pruned are no gap: they are logged.
func (d *delivery) save(ctx context.Context) error {
	c := &d.cursor
	if c.seq == c.stored {
		return nil
	}
	err := d.shared.query(ctx, func(ctx context.Context) error {
		if c.lost.events == 0 {
			return c.store(ctx, d.shared.pool)
		}
		return pgx.BeginFunc(ctx, d.shared.pool, func(tx pgx.Tx) error {
			if err := c.store(ctx, tx); err != nil {
				return err
			}
			return d.shared.publisher.PublishIn(ctx, tx, pubsub.EventSinkGap,
				fmt.Sprintf("sink %s: %d of %s up to seq %d were deleted before it had them", d.sink.Name(), c.lost.events, d.stream, c.lost.upTo))
		})
	})
	if err != nil {
		return fmt.Errorf("move the cursor: %w", err)
	}
	if c.lost.events > 0 {
		d.shared.metrics.SinkGap(d.sink.Name(), string(d.stream))
		d.logger.ErrorContext(ctx, "events deleted before delivery", "lost", c.lost.events, "up_to", c.lost.upTo)
	}
	if c.lost.pruned > 0 {
		d.logger.InfoContext(ctx, "events pruned before delivery", "pruned_up_to", c.lost.pruned)
	}
	c.committed()
	d.storedAt = time.Now()
	d.shared.metrics.SinkStored(d.sink.Name(), string(d.stream))
	return nil
}

// repeat lets a sink that repeats do so.
func (d *delivery) repeat(ctx context.Context) error {
	if err := d.confirm(ctx); err != nil {
		return err
	}
	sending, cancel := context.WithTimeout(ctx, d.shared.sendTimeout)
	defer cancel()
	r := d.sink.(repeater)
	more, err := r.Repeat(sending)
	wait := r.Interval()
	switch {
	case err == nil:
		d.repeatAgain.Reset()
	case ctx.Err() == nil:
		// The sink can have lost all that it knew, so it gets the alerts soon after it is back.
		wait = min(wait, d.repeatAgain.Next())
		d.shared.metrics.SinkFailed(d.sink.Name(), string(d.stream))
		d.logger.WarnContext(ctx, "alerts not repeated, retrying", "error", err, "retry_in", wait)
	}
	d.repeatAt = time.Time{}
	if more {
		d.repeatAt = time.Now().Add(wait)
	}
	return nil
}

// retryDeadLetter sends the first dead letter again whose retry was requested. New events have
// their turn between two of them.
func (d *delivery) retryDeadLetter(ctx context.Context) error {
	key, err := d.deadLetters.requested(ctx)
	if err != nil {
		return err
	}
	d.retries = key != nil
	if key == nil {
		return nil
	}
	if err := d.confirm(ctx); err != nil {
		return err
	}
	failure, err := d.resend(ctx, key)
	if err != nil {
		return err
	}
	if failure != nil && ctx.Err() != nil {
		return nil // its retry stays requested
	}
	return d.deadLetters.settle(ctx, key, failure)
}

// resend sends a dead letter once and returns why the sink did not take it. err is an error
// of the database.
func (d *delivery) resend(ctx context.Context, key *deadLetterKey) (failure, err error) {
	var event *Event
	err = d.shared.query(ctx, func(ctx context.Context) (err error) {
		event, err = d.reader.find(ctx, key.seq, key.id)
		if _, repeats := d.sink.(repeater); err != nil || event == nil || !repeats || !event.hasProvider() {
			return err
		}
		// A sink that repeats gets the present state of the subject, and not a former one.
		firing, err := d.reader.firing(ctx, key.seq)
		for i := range firing { // the last one of the subject
			if firing[i].subject() == event.subject() {
				event = &firing[i]
			}
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case event == nil:
		return errors.New("its row was deleted"), nil
	}
	return d.send(ctx, *event), nil
}
