package sink

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

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

// deadLetters stores the dead letters of one sink and stream for its delivery. Only the
// delivery's goroutine uses it.
type deadLetters struct {
	shared *shared
	logger *slog.Logger
	sink   string
	stream Stream
}

// deadLetterKey identifies a dead letter, as it was when its retry was found requested.
type deadLetterKey struct {
	seq    int64
	id     uuid.UUID
	writer int64 // the transaction that had written its row last
}

// bury makes a dead letter of an event, unless it is one already, and announces it. It fails
// when another worker has moved the cursor.
func (l *deadLetters) bury(ctx context.Context, c *cursor, e Event, failure error, attempts int) error {
	err := l.shared.query(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, l.shared.pool, func(tx pgx.Tx) error {
			if err := l.add(ctx, tx, c, e, failure, attempts); err != nil {
				return err
			}
			return l.shared.publisher.PublishIn(ctx, tx, pubsub.EventDeadLetter, fmt.Sprintf("sink %s, %s %d: %v", l.sink, l.stream, e.Seq, failure))
		})
	})
	if err != nil {
		return fmt.Errorf("keep a dead letter: %w", err)
	}
	l.shared.metrics.SinkDeadLetter(l.sink, string(l.stream))
	l.shared.metrics.SinkStored(l.sink, string(l.stream))
	l.logger.ErrorContext(ctx, "delivery abandoned, event dead-lettered",
		"seq", e.Seq, "provider", e.Provider, "error", failure, "attempts", attempts,
		"remedy", remedy.Run("sinks retry", l.sink, strconv.FormatInt(e.Seq, 10)))
	return nil
}

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
func (l *deadLetters) requested(ctx context.Context) (key *deadLetterKey, err error) {
	err = l.shared.query(ctx, func(ctx context.Context) error {
		rows, err := store.On(l.shared.pool).NextSinkRetry(ctx, store.NextSinkRetryParams{Sink: l.sink, Stream: string(l.stream)})
		if err == nil && len(rows) > 0 {
			key = &deadLetterKey{rows[0].Seq, rows[0].EventID, rows[0].Writer}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for dead letters to retry: %w", err)
	}
	return key, nil
}

// settle ends a retry: it removes a dead letter that was delivered, and else stores why it
// was not. Another retry that was requested meanwhile stays requested.
func (l *deadLetters) settle(ctx context.Context, key *deadLetterKey, failure error) error {
	if failure == nil {
		l.shared.metrics.SinkDelivered(l.sink, string(l.stream))
		l.logger.InfoContext(ctx, "dead letter delivered", "seq", key.seq)
	} else {
		l.shared.metrics.SinkFailed(l.sink, string(l.stream))
		l.logger.WarnContext(ctx, "dead letter not delivered", "seq", key.seq, "error", failure)
	}
	err := l.shared.query(ctx, func(ctx context.Context) error { return l.storeResult(ctx, key, failure) })
	if err != nil {
		return fmt.Errorf("store the result of a dead letter: %w", err)
	}
	l.shared.metrics.SinkStored(l.sink, string(l.stream))
	return nil
}

func (l *deadLetters) storeResult(ctx context.Context, key *deadLetterKey, failure error) error {
	queries := store.On(l.shared.pool)
	if failure == nil {
		return queries.DropDeadLetter(ctx, store.DropDeadLetterParams{Sink: l.sink, Stream: string(l.stream), Seq: key.seq, EventID: key.id})
	}
	return queries.EndSinkRetry(ctx, store.EndSinkRetryParams{
		Sink: l.sink, Stream: string(l.stream), Seq: key.seq, EventID: key.id, Writer: key.writer, Reason: failure.Error(),
	})
}
