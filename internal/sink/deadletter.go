package sink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

// DeadLetter is an event that a sink did not take.
type DeadLetter struct {
	Sink     string    `json:"sink"`
	Stream   Stream    `json:"stream"`
	Seq      int64     `json:"seq"`
	EventID  uuid.UUID `json:"event_id"`
	Provider string    `json:"provider"`
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"`
	Retry    bool      `json:"retry"` // whether a retry is requested
}

// Retry requests that the leader sends dead letters once more: all, or the ones of the
// seqs. An empty sink or stream selects all sinks or streams. Retry returns how many dead
// letters there are.
func Retry(ctx context.Context, pool *pgxpool.Pool, sink string, stream Stream, all bool, seqs []int64) (asked int64, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		asked, err = store.On(tx).RequestSinkRetries(ctx, store.RequestSinkRetriesParams{
			Sink: sink, Stream: string(stream), Every: all, Seqs: seqs,
		})
		if err != nil {
			return err
		}
		return pubsub.Publish(ctx, tx, pubsub.SinkRequests, "")
	})
	return asked, readError(err)
}

// deadLetters stores the dead letters of one sink and stream for its delivery.
type deadLetters struct {
	pool   *pgxpool.Pool
	sink   string
	stream Stream
}

// deadLetterKey identifies a dead letter.
type deadLetterKey struct {
	seq int64
	id  uuid.UUID
}

// add stores an event as a dead letter, unless it is one already. It fails when another
// worker has moved the cursor.
func (l *deadLetters) add(ctx context.Context, db store.DBTX, c *cursor, e Event, failure error, attempts int) error {
	kept, err := store.On(db).BuryEvent(ctx, store.BuryEventParams{
		Sink: l.sink, Stream: string(l.stream), Seq: e.Seq, EventID: e.ID, Provider: e.Provider,
		Reason: failure.Error(), Attempts: int32(attempts), FormerSeq: c.stored, FormerMovedAt: c.movedAt,
	})
	if err != nil || kept > 0 {
		return err
	}
	return c.checkOwned(ctx, db)
}

// requested returns the first dead letter whose retry was requested, nil for none.
func (l *deadLetters) requested(ctx context.Context) (*deadLetterKey, error) {
	rows, err := store.On(l.pool).NextSinkRetry(ctx, store.NextSinkRetryParams{Sink: l.sink, Stream: string(l.stream)})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &deadLetterKey{rows[0].Seq, rows[0].EventID}, nil
}

// settle removes a dead letter that was delivered, and else stores why it was not.
func (l *deadLetters) settle(ctx context.Context, key *deadLetterKey, failure error) error {
	if failure == nil {
		return store.On(l.pool).DropDeadLetter(ctx, store.DropDeadLetterParams{Sink: l.sink, Stream: string(l.stream), Seq: key.seq, EventID: key.id})
	}
	return store.On(l.pool).EndSinkRetry(ctx, store.EndSinkRetryParams{
		Sink: l.sink, Stream: string(l.stream), Seq: key.seq, EventID: key.id, Reason: failure.Error(),
	})
}

// bury makes a dead letter of an event.
func (d *delivery) bury(ctx context.Context, i *item, failure error, attempts int) error {
	err := d.runner.query(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, d.runner.pool, func(tx pgx.Tx) error {
			if err := d.deadLetters.add(ctx, tx, &d.cursor, i.Event, failure, attempts); err != nil {
				return err
			}
			return d.runner.publisher.PublishIn(ctx, tx, pubsub.EventDeadLetter, fmt.Sprintf("sink %s, %s %d: %v", d.sink.Name(), d.stream, i.Seq, failure))
		})
	})
	if err != nil {
		return fmt.Errorf("keep a dead letter: %w", err)
	}
	d.runner.metrics.SinkDeadLetter(d.sink.Name(), string(d.stream))
	d.runner.metrics.SinkStored(d.sink.Name(), string(d.stream))
	d.logger.ErrorContext(ctx, "delivery abandoned, event dead-lettered",
		"seq", i.Seq, "provider", i.Provider, "error", failure, "attempts", attempts,
		"remedy", remedy.Run("sinks retry", d.sink.Name(), strconv.FormatInt(i.Seq, 10)))
	return nil
}

// retryDeadLetter sends the first dead letter again whose retry was requested. New events have
// their turn between two of them.
func (d *delivery) retryDeadLetter(ctx context.Context) error {
	var key *deadLetterKey
	err := d.runner.query(ctx, func(ctx context.Context) (err error) {
		key, err = d.deadLetters.requested(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("look for dead letters to retry: %w", err)
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
	if failure == nil {
		d.runner.metrics.SinkDelivered(d.sink.Name(), string(d.stream))
		d.logger.InfoContext(ctx, "dead letter delivered", "seq", key.seq)
	} else {
		d.runner.metrics.SinkFailed(d.sink.Name(), string(d.stream))
		d.logger.WarnContext(ctx, "dead letter not delivered", "seq", key.seq, "error", failure)
	}
	err = d.runner.query(ctx, func(ctx context.Context) error { return d.deadLetters.settle(ctx, key, failure) })
	if err != nil {
		return fmt.Errorf("store the result of a dead letter: %w", err)
	}
	d.runner.metrics.SinkStored(d.sink.Name(), string(d.stream))
	return nil
}

// resend sends a dead letter once and returns why the sink did not take it. err is an error
// of the database.
func (d *delivery) resend(ctx context.Context, key *deadLetterKey) (failure, err error) {
	var event *Event
	err = d.runner.query(ctx, func(ctx context.Context) (err error) {
		event, err = d.reader.find(ctx, key.seq, key.id)
		if _, repeats := d.sink.(repeater); err != nil || event == nil || !repeats || !event.hasProvider() {
			return err
		}
		// A sink that repeats gets the state of the provider, and not a former one.
		firing, err := d.reader.firing(ctx, key.seq)
		for i := range firing { // the last one of the provider
			if firing[i].Provider == event.Provider {
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
