package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/time/rate"

	"provwatch/internal/history"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

const (
	// window is how many events a queue holds in memory.
	window = 100
	// maxAhead is how far a queue delivers beyond an event that fails: as many
	// events are repeated if the worker is killed then.
	maxAhead = 10_000
	// sendTimeout is how long a sink may take to acknowledge an event.
	sendTimeout = 10 * time.Second
	// firstRetry and maxRetry bound the wait before an event is sent again, and
	// maxBusy the wait that a sink may ask for.
	firstRetry = 500 * time.Millisecond
	maxRetry   = time.Minute
	maxBusy    = time.Hour
	// saveInterval is how long acknowledged events may stay unsaved, and how long
	// leading is taken for granted, while events are being sent.
	saveInterval = time.Second
	// wakesPerSecond bounds what a flood of notifications costs: anyone who connects
	// to the database may send them. What comes in between is one.
	wakesPerSecond = 20
)

// queue feeds one stream to one sink.
//
// Events go out in the order of the stream. When one fails, those of its provider
// wait for it, while those of others go on; when those fail too, everything
// waits, since then it is the sink that fails.
type queue struct {
	*Runner
	sink   Sink
	stream Stream
	logger *slog.Logger

	wake      chan struct{} // there can be new events
	attention chan struct{} // there can be dead letters to be tried again
	wakes     *rate.Limiter

	// Failures, while this worker leads.
	holds  map[string]*hold // by provider
	pause  *backoff.ExponentialBackOff
	paused time.Time                   // until when nothing is sent
	failed int                         // failures in a row since the pause
	again  *backoff.ExponentialBackOff // of what is to be repeated

	pending   []*item   // from the first that is not done
	undone    int       // how many of pending are not
	read      place     // up to which the stream was read
	complete  int64     // seq up to which there is nothing more to read
	last      int64     // of the stream, as far as known
	more      bool      // there can be more to read
	retries   bool      // there can be dead letters to be tried again
	cursor    int64     // seq up to which all is done
	saved     int64     // cursor as it is stored
	movedAt   time.Time // when it was, by the server: saved alone is the same before and after a restore
	lost      gap       // what the cursor has passed since saved that was deleted
	savedAt   time.Time
	term      Term      // in which it runs
	confirmed time.Time // when the term was last seen to be the current one
	repeatAt  time.Time // zero for not
}

type item struct {
	Event // seq alone once it is done
	done  bool
	lost  int64 // how many events up to seq were deleted before they were read
}

// place is a place in a stream: that of an event, or after all events of a seq. A
// seq alone does not identify an event: other programs can insert rows into the
// audit log that have the seq of an entry.
type place struct {
	seq int64
	id  uuid.UUID
}

func after(seq int64) place { return place{seq, uuid.Max} }

// gap is events that were deleted before the sink had them.
type gap struct {
	events int64
	upTo   int64 // the seq of the last
}

// hold keeps back the events of a provider one of which has failed.
type hold struct {
	since    time.Time // the first failure
	until    time.Time
	attempts int
	backoff  *backoff.ExponentialBackOff
}

func newQueue(r *Runner, s Sink, stream Stream) *queue {
	return &queue{
		Runner: r, sink: s, stream: stream, logger: r.logger.With("sink", s.Name(), "stream", string(stream)),
		wake: make(chan struct{}, 1), attention: make(chan struct{}, 1),
		wakes: rate.NewLimiter(wakesPerSecond, wakesPerSecond),
	}
}

func (q *queue) newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = q.firstRetry, maxRetry
	return b
}

// run delivers until ctx ends.
func (q *queue) run(ctx context.Context) {
	q.holds, q.pause, q.again = map[string]*hold{}, q.newBackOff(), q.newBackOff()
	q.paused, q.failed = time.Time{}, 0
	retry := q.newBackOff()
	for {
		began := time.Now()
		err := q.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxRetry {
			retry.Reset()
		}
		wait := retry.NextBackOff()
		q.logger.WarnContext(ctx, "sink waits, trying again", "error", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// follow delivers from the stored cursor on, until ctx ends or the database fails.
func (q *queue) follow(ctx context.Context) (err error) {
	if err := q.start(ctx); err != nil {
		return err
	}
	// What was acknowledged need not be repeated by whoever goes on.
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if saveErr := q.save(closing); err == nil {
			err = saveErr
		}
	}()
	for ctx.Err() == nil {
		if err := q.look(ctx); err != nil {
			return err
		}
		next, wait := q.next(time.Now())
		if q.cursor > q.saved && (next == nil || time.Since(q.savedAt) > saveInterval) {
			if err := q.save(ctx); err != nil {
				return err
			}
		}
		switch {
		case !q.repeatAt.IsZero() && !time.Now().Before(q.repeatAt):
			err = q.repeat(ctx)
		case next == nil && q.retries:
		case next == nil:
			q.await(ctx, wait)
		default:
			err = q.deliver(ctx, next)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// look looks at the database for what it was woken for.
func (q *queue) look(ctx context.Context) error {
	select {
	case <-q.wake:
		if q.wakes.Wait(ctx) != nil {
			return nil // ctx has ended
		}
		q.more = true
	default:
	}
	select {
	case <-q.attention:
		if q.wakes.Wait(ctx) != nil {
			return nil
		}
		q.retries = true
	default:
	}
	if q.retries {
		if err := q.retryNext(ctx); err != nil {
			return err
		}
	}
	return q.fill(ctx)
}

// start reads where to begin.
func (q *queue) start(ctx context.Context) error {
	var firing []Event
	err := q.query(ctx, func(ctx context.Context) (err error) {
		// An operator may have deleted it, to begin anew.
		if err := register(ctx, q.pool, q.options, q.sink, q.stream); err != nil {
			return err
		}
		stored, err := store.On(q.pool).ReadSinkCursor(ctx, store.ReadSinkCursorParams{Sink: q.sink.Name(), Stream: string(q.stream)})
		if err != nil {
			return fmt.Errorf("read the cursor: %w", err)
		}
		q.cursor, q.movedAt = stored.Seq, stored.MovedAt
		if _, ok := q.sink.(repeater); ok {
			firing, err = q.firing(ctx, q.cursor)
		}
		return err
	})
	if err != nil {
		return err
	}
	q.read, q.complete, q.lost = after(q.cursor), q.cursor, gap{}
	q.saved, q.last, q.savedAt, q.confirmed = q.cursor, q.cursor, time.Now(), time.Time{}
	q.pending, q.undone, q.more, q.retries, q.repeatAt = nil, 0, true, false, time.Time{}
	prompt(q.attention)
	if r, ok := q.sink.(repeater); ok {
		r.Restore(firing)
		q.repeatAt = time.Now()
	}
	return nil
}

// errRewound says that the sequence of alerts was rewound, as by a restore. The worker that
// leads next sets the cursor back.
var errRewound = errors.New("the alerts end before what the sink was sent, as after a restore")

// fill reads events while there are more and there is room for them. Seqs that it
// does not find were deleted: a stream has no gaps by itself.
func (q *queue) fill(ctx context.Context) error {
	room := window - q.undone
	if !q.more || room < window/2 || len(q.pending) >= maxAhead {
		return nil
	}
	return q.query(ctx, func(ctx context.Context) error {
		// Before the events: all up to it are committed, and there unless deleted.
		last, err := q.end(ctx)
		if err != nil {
			return err
		}
		if q.stream == Drift && last < q.cursor {
			return errRewound
		}
		events, err := q.list(ctx, q.read, last, room)
		if err != nil {
			return err
		}
		for _, e := range events {
			q.miss(e.Seq - 1)
			q.pending = append(q.pending, &item{Event: e})
			q.read = place{e.Seq, e.ID}
		}
		q.undone += len(events)
		q.last, q.more = max(last, q.cursor), len(events) == room
		if q.more {
			q.complete = max(q.complete, q.read.seq-1) // there can be others of its seq
		} else {
			q.miss(last)
			q.complete = q.read.seq
		}
		q.advance()
		return nil
	})
}

// miss takes the events up to seq that were not read for deleted.
func (q *queue) miss(seq int64) {
	if lost := seq - q.read.seq; lost > 0 {
		q.pending = append(q.pending, &item{Event: Event{Seq: seq}, done: true, lost: lost})
		q.read = after(seq)
	}
}

// next returns the first event that may be sent now; nil if there is none, with
// the time until there can be one, zero for not before there are new events.
func (q *queue) next(now time.Time) (*item, time.Duration) {
	if now.Before(q.paused) {
		if q.undone == 0 {
			return nil, 0
		}
		return nil, q.paused.Sub(now)
	}
	var wait time.Duration
	passed := map[string]bool{}
	for _, i := range q.pending {
		if i.done || passed[i.Provider] {
			continue
		}
		h := q.holds[i.Provider]
		if h == nil || !now.Before(h.until) {
			return i, 0
		}
		passed[i.Provider] = true
		if until := h.until.Sub(now); wait == 0 || until < wait {
			wait = until
		}
	}
	return nil, wait
}

// await waits for new events, or for as long as wait says unless it is zero, or
// until something is to be repeated.
func (q *queue) await(ctx context.Context, wait time.Duration) {
	if !q.repeatAt.IsZero() {
		if until := max(time.Until(q.repeatAt), time.Millisecond); wait == 0 || until < wait {
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
	case <-q.wake:
		prompt(q.wake) // to be looked at in its turn
	case <-q.attention:
		prompt(q.attention)
	}
}

// lead makes sure, at most once in saveInterval, that this worker is the leader.
func (q *queue) lead(ctx context.Context) error {
	if time.Since(q.confirmed) < saveInterval {
		return nil
	}
	if err := q.query(ctx, func(ctx context.Context) error { return q.term.Confirm(ctx, q.pool) }); err != nil {
		return err
	}
	q.confirmed = time.Now()
	return nil
}

func (q *queue) send(ctx context.Context, e Event) error {
	if e.unusable != nil {
		return &RefusedError{Reason: e.unusable.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, q.sendTimeout)
	defer cancel()
	return q.sink.Send(ctx, e)
}

// deliver sends an event. The error is one of the database.
func (q *queue) deliver(ctx context.Context, i *item) error {
	if err := q.lead(ctx); err != nil {
		return err
	}
	err := q.send(ctx, i.Event)
	if err != nil && ctx.Err() != nil {
		return nil // it is not the sink's failure
	}
	if err != nil {
		return q.fail(ctx, i, err)
	}
	q.metrics.SinkDelivered(q.sink.Name(), string(q.stream))
	if h := q.holds[i.Provider]; h != nil {
		q.logger.InfoContext(ctx, "sink has taken the event", "seq", i.Seq, "provider", i.Provider, "attempts", h.attempts+1)
	}
	q.failed = 0
	q.pause.Reset()
	q.finish(i)
	q.minded()
	return nil
}

// minded makes sure that a sink that repeats is called again.
func (q *queue) minded() {
	if r, ok := q.sink.(repeater); ok && q.repeatAt.IsZero() {
		q.repeatAt = time.Now().Add(r.Interval())
	}
}

// finish marks an event as done, and moves the cursor over those that are.
func (q *queue) finish(i *item) {
	delete(q.holds, i.Provider)
	*i = item{Event: Event{Seq: i.Seq}, done: true}
	q.undone--
	q.advance()
}

// advance moves the cursor over what is done, up to the first event that is not.
func (q *queue) advance() {
	n := 0
	for n < len(q.pending) && q.pending[n].done {
		if i := q.pending[n]; i.lost > 0 {
			q.lost = gap{q.lost.events + i.lost, i.Seq}
		}
		n++
	}
	q.pending = q.pending[n:]
	reached := q.complete
	if len(q.pending) > 0 {
		reached = q.pending[0].Seq - 1
	}
	q.cursor = max(q.cursor, reached)
	q.metrics.SinkLag(q.sink.Name(), string(q.stream), q.last-q.cursor)
}

// fail decides what becomes of an event that a sink did not take.
func (q *queue) fail(ctx context.Context, i *item, failure error) error {
	q.metrics.SinkFailed(q.sink.Name(), string(q.stream))
	now := time.Now()
	h := q.holds[i.Provider]
	if h == nil {
		h = &hold{since: now, backoff: q.newBackOff()}
		q.holds[i.Provider] = h
	}
	h.attempts++
	var refused *RefusedError
	if errors.As(failure, &refused) || now.Sub(h.since) >= q.options.GiveUp {
		if err := q.bury(ctx, i, failure, h.attempts); err != nil {
			return err
		}
		q.finish(i)
		q.minded()
		return nil
	}
	wait := h.backoff.NextBackOff()
	var busy *BusyError
	if errors.As(failure, &busy) {
		wait = max(wait, min(busy.After, maxBusy))
		q.paused = now.Add(min(busy.After, maxBusy))
	}
	h.until = now.Add(wait)
	// One provider's event can be at fault; when another's fails as well, it is the
	// sink.
	if q.failed++; q.failed > 1 {
		q.failed = 0
		if until := now.Add(q.pause.NextBackOff()); until.After(q.paused) {
			q.paused = until
		}
	}
	q.logger.WarnContext(ctx, "sink has not taken the event, trying again",
		"seq", i.Seq, "provider", i.Provider, "error", failure, "attempts", h.attempts, "retry_in", wait, "give_up_in", q.options.GiveUp-now.Sub(h.since))
	return nil
}

// bury makes a dead letter of an event.
func (q *queue) bury(ctx context.Context, i *item, failure error, attempts int) error {
	err := q.query(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
			kept, err := store.On(tx).BuryEvent(ctx, store.BuryEventParams{
				Sink: q.sink.Name(), Stream: string(q.stream), Seq: i.Seq, EventID: i.ID, Provider: i.Provider,
				Reason: failure.Error(), Attempts: int32(attempts), FormerSeq: q.saved, FormerMovedAt: q.movedAt,
			})
			if err != nil {
				return err
			}
			if kept == 0 {
				// It is a dead letter already, or must not become one.
				if err := q.ownsCursor(ctx, tx); err != nil {
					return err
				}
			}
			return q.announce(ctx, tx, pubsub.EventDeadLetter, fmt.Sprintf("sink %s, %s %d: %v", q.sink.Name(), q.stream, i.Seq, failure))
		})
	})
	if err != nil {
		return fmt.Errorf("keep a dead letter: %w", err)
	}
	q.metrics.SinkDeadLetter(q.sink.Name(), string(q.stream))
	q.metrics.SinkStored(q.sink.Name(), string(q.stream))
	q.logger.ErrorContext(ctx, "sink does not get the event, which is a dead letter now",
		"seq", i.Seq, "provider", i.Provider, "error", failure, "attempts", attempts, "remedy", fmt.Sprintf("worker sinks retry %s %d%s", q.sink.Name(), i.Seq, q.options.CommandFlags))
	return nil
}

// save stores the cursor, and announces what it has passed that was deleted.
func (q *queue) save(ctx context.Context) error {
	if q.cursor == q.saved {
		return nil
	}
	err := q.query(ctx, func(ctx context.Context) error {
		if q.lost.events == 0 {
			return q.move(ctx, q.pool)
		}
		// Both, or neither.
		return pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
			if err := q.move(ctx, tx); err != nil {
				return err
			}
			return q.announce(ctx, tx, pubsub.EventSinkGap,
				fmt.Sprintf("sink %s: %d of %s up to seq %d were deleted before it had them", q.sink.Name(), q.lost.events, q.stream, q.lost.upTo))
		})
	})
	if err != nil {
		return fmt.Errorf("move the cursor: %w", err)
	}
	if q.lost.events > 0 {
		q.metrics.SinkGap(q.sink.Name(), string(q.stream))
		q.logger.ErrorContext(ctx, "events were deleted before the sink had them", "lost", q.lost.events, "up_to", q.lost.upTo)
		q.lost = gap{}
	}
	q.saved, q.savedAt = q.cursor, time.Now()
	q.metrics.SinkStored(q.sink.Name(), string(q.stream))
	return nil
}

// move moves the stored cursor to where this queue is. It fails when another worker has
// moved the cursor since this queue read or moved it.
func (q *queue) move(ctx context.Context, db store.DBTX) error {
	moved, err := store.On(db).MoveSinkCursor(ctx, store.MoveSinkCursorParams{
		Sink: q.sink.Name(), Stream: string(q.stream), Seq: q.cursor, FormerSeq: q.saved, FormerMovedAt: q.movedAt,
	})
	if err != nil {
		return err
	}
	if len(moved) == 0 {
		if err := q.ownsCursor(ctx, db); err != nil {
			return err
		}
		return errCursorMoved
	}
	q.movedAt = moved[0]
	return nil
}

// errCursorMoved says that the stored cursor was moved by another worker, or that the
// sequence of alerts was rewound. The sink goes on from the stored one.
var errCursorMoved = errors.New("the cursor was moved meanwhile: the sink goes on from there")

// ownsCursor returns an error when the stored cursor was moved since this queue read or
// moved it.
func (q *queue) ownsCursor(ctx context.Context, db store.DBTX) error {
	stored, err := store.On(db).ReadSinkCursor(ctx, store.ReadSinkCursorParams{Sink: q.sink.Name(), Stream: string(q.stream)})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errors.New("the row of the cursor was deleted: the sink begins anew")
	case err != nil:
		return err
	case stored.Seq != q.saved || !stored.MovedAt.Equal(q.movedAt):
		return errCursorMoved
	}
	return nil
}

// repeat lets a sink that repeats do so.
func (q *queue) repeat(ctx context.Context) error {
	if err := q.lead(ctx); err != nil {
		return err
	}
	sending, cancel := context.WithTimeout(ctx, q.sendTimeout)
	defer cancel()
	r := q.sink.(repeater)
	more, err := r.Repeat(sending)
	wait := r.Interval()
	switch {
	case err == nil:
		q.again.Reset()
	case ctx.Err() == nil:
		// It may have lost all that it knew, so it is told soon after it is back.
		wait = min(wait, q.again.NextBackOff())
		q.metrics.SinkFailed(q.sink.Name(), string(q.stream))
		q.logger.WarnContext(ctx, "sink was not told again of what drifts, trying again", "error", err, "retry_in", wait)
	}
	q.repeatAt = time.Time{}
	if more {
		q.repeatAt = time.Now().Add(wait)
	}
	return nil
}

// retryNext tries one of the dead letters again that an operator asks for: events
// that come meanwhile have their turn in between.
func (q *queue) retryNext(ctx context.Context) error {
	var letters []store.NextSinkRetryRow
	err := q.query(ctx, func(ctx context.Context) (err error) {
		letters, err = store.On(q.pool).NextSinkRetry(ctx, store.NextSinkRetryParams{Sink: q.sink.Name(), Stream: string(q.stream)})
		return err
	})
	if err != nil {
		return fmt.Errorf("look for dead letters to be tried again: %w", err)
	}
	q.retries = len(letters) > 0
	for _, letter := range letters {
		if err := q.retry(ctx, letter.Seq, letter.EventID); err != nil {
			return err
		}
	}
	return nil
}

// retry sends a dead letter, once.
func (q *queue) retry(ctx context.Context, seq int64, id uuid.UUID) error {
	if err := q.lead(ctx); err != nil {
		return err
	}
	var event *Event
	err := q.query(ctx, func(ctx context.Context) error {
		events, err := q.list(ctx, after(seq-1), seq, window)
		at := slices.IndexFunc(events, func(e Event) bool { return e.ID == id })
		if err != nil || at < 0 {
			return err
		}
		event = &events[at]
		if _, ok := q.sink.(repeater); !ok || !event.hasProvider() {
			return nil
		}
		// A sink that keeps what is the case is told that, and not what was.
		firing, err := q.firing(ctx, seq)
		for i := range firing { // the last one of the provider
			if firing[i].Provider == event.Provider {
				event = &firing[i]
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	failure := errors.New("its row was deleted")
	if event != nil {
		failure = q.send(ctx, *event)
	}
	if failure != nil && ctx.Err() != nil {
		return nil // it stays asked for
	}
	if failure == nil {
		q.metrics.SinkDelivered(q.sink.Name(), string(q.stream))
		q.logger.InfoContext(ctx, "sink has taken a dead letter", "seq", seq)
	} else {
		q.metrics.SinkFailed(q.sink.Name(), string(q.stream))
		q.logger.WarnContext(ctx, "sink has not taken a dead letter, which stays", "seq", seq, "error", failure)
	}
	err = q.query(ctx, func(ctx context.Context) error {
		if failure == nil {
			return store.On(q.pool).DropDeadLetter(ctx, store.DropDeadLetterParams{Sink: q.sink.Name(), Stream: string(q.stream), Seq: seq, EventID: id})
		}
		return store.On(q.pool).EndSinkRetry(ctx, store.EndSinkRetryParams{
			Sink: q.sink.Name(), Stream: string(q.stream), Seq: seq, EventID: id, Reason: failure.Error(),
		})
	})
	if err != nil {
		return fmt.Errorf("keep what became of a dead letter: %w", err)
	}
	q.metrics.SinkStored(q.sink.Name(), string(q.stream))
	return nil
}

// list reads events of the stream after a place and up to the seq that was its last.
// What has a higher one was not written by a worker.
func (q *queue) list(ctx context.Context, from place, last int64, limit int) ([]Event, error) {
	queries := store.On(q.pool)
	if q.stream == Audit {
		rows, err := queries.ListAuditEntriesSince(ctx, store.ListAuditEntriesSinceParams{
			Seq: from.seq, ID: from.id, LastSeq: last, MaxEntries: int32(limit),
		})
		if err != nil {
			return nil, fmt.Errorf("read provwatch.audit_log: %w", err)
		}
		events := make([]Event, len(rows))
		for i, row := range rows {
			entry := pubsub.AuditEntry{
				ID: row.ID, Actor: row.Actor, Action: row.Action, Provider: row.Provider, ProviderID: row.ProviderID,
				Details: row.Details, OccurredAt: row.OccurredAt,
			}
			events[i] = Event{
				Stream: Audit, Seq: row.Seq, ID: row.ID, Provider: row.Provider, Time: row.OccurredAt.UTC(), Cluster: q.options.Cluster,
				Data: json.RawMessage(entry.Whole()),
			}
		}
		return events, nil
	}
	rows, err := queries.ListAlertsSince(ctx, store.ListAlertsSinceParams{Seq: from.seq, MaxAlerts: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("read provwatch.drift_alerts: %w", err)
	}
	var events []Event
	for _, row := range rows {
		if row.Seq <= last {
			events = append(events, q.alerted(row))
		}
	}
	return events, nil
}

func (q *queue) alerted(row store.ListAlertsSinceRow) Event {
	alert, err := history.Alert(row)
	return Event{
		Stream: Drift, Seq: row.Seq, ID: row.ID, Provider: row.Provider, Time: row.DetectedAt.UTC(), Cluster: q.options.Cluster,
		Data: json.RawMessage(alert.Whole()), alert: &alert, unusable: err,
	}
}

// firing reads the last alert of each provider whose drift was alerted and is not
// over, or is over by an alert above seq. Where that is above seq, the provider's last
// one up to seq comes before it. Recent gaps are among them.
func (q *queue) firing(ctx context.Context, seq int64) ([]Event, error) {
	rows, err := store.On(q.pool).ListFiring(ctx, store.ListFiringParams{Seq: seq, NotBefore: time.Now().Add(-gapFiresFor)})
	if err != nil {
		return nil, fmt.Errorf("read what drifts: %w", err)
	}
	events := make([]Event, len(rows))
	for i, row := range rows {
		events[i] = q.alerted(store.ListAlertsSinceRow(row))
	}
	return events, nil
}

// end reads the seq of the stream's last event, whether or not that is left.
func (q *queue) end(ctx context.Context) (last int64, err error) {
	if q.stream == Audit {
		last, err = store.On(q.pool).ReadAuditCounter(ctx)
	} else {
		last, err = store.On(q.pool).ReadAlertCounter(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("read the last seq of %s: %w", q.stream, err)
	}
	return last, nil
}
