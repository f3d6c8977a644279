package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/store"
)

// A cursor is how far one sink is with one stream, as this worker counts it and as the row
// of provwatch.sink_cursors has it. The row moves after the events it passes were
// acknowledged, and only while it is as this worker read or wrote it.
type cursor struct {
	sink   string
	stream Stream

	seq     int64     // all events up to it are acknowledged, dead letters, or deleted
	stored  int64     // seq of the row
	movedAt time.Time // of the row, by the server: the seq alone is the same before and after a restore
	lost    gap       // events between stored and seq that were deleted or pruned before they were read
}

// gap is events that were deleted before they were read, and events that were pruned: a sink
// that begins at the start, or again, does not get those (docs/retention.md).
type gap struct {
	events int64 // how many were deleted
	upTo   int64 // the seq of the last of them
	pruned int64 // the seq up to which events were pruned, 0 for none
}

// and returns both gaps, of which more comes later.
func (g gap) and(more gap) gap {
	return gap{g.events + more.events, max(g.upTo, more.upTo), max(g.pruned, more.pruned)}
}

// errCursorMoved is returned when another worker moved the row, or a rewind of the
// sequence of alerts did. Delivery continues from the row.
var errCursorMoved = errors.New("the cursor was moved meanwhile: the sink goes on from there")

// load reads the row.
func (c *cursor) load(ctx context.Context, db store.DBTX) error {
	row, err := c.read(ctx, db)
	if err != nil {
		return fmt.Errorf("read the cursor: %w", err)
	}
	c.seq, c.stored, c.movedAt, c.lost = row.Seq, row.Seq, row.MovedAt, gap{}
	return nil
}

func (c *cursor) read(ctx context.Context, db store.DBTX) (store.ReadSinkCursorRow, error) {
	return store.On(db).ReadSinkCursor(ctx, store.ReadSinkCursorParams{Sink: c.sink, Stream: string(c.stream)})
}

// advance moves the cursor to seq, if that is ahead, past events that were deleted or pruned.
func (c *cursor) advance(seq int64, lost gap) {
	c.seq = max(c.seq, seq)
	c.lost = c.lost.and(lost)
}

// store moves the row to seq.
func (c *cursor) store(ctx context.Context, db store.DBTX) error {
	moved, err := store.On(db).MoveSinkCursor(ctx, store.MoveSinkCursorParams{
		Sink: c.sink, Stream: string(c.stream), Seq: c.seq, FormerSeq: c.stored, FormerMovedAt: c.movedAt,
	})
	if err != nil {
		return err
	}
	if len(moved) == 0 {
		if err := c.checkOwned(ctx, db); err != nil {
			return err
		}
		return errCursorMoved
	}
	c.movedAt = moved[0]
	return nil
}

// committed records that the transaction of store is committed.
func (c *cursor) committed() { c.stored, c.lost = c.seq, gap{} }

// checkOwned returns an error when the row is not as this worker read or wrote it.
func (c *cursor) checkOwned(ctx context.Context, db store.DBTX) error {
	row, err := c.read(ctx, db)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errors.New("the row of the cursor was deleted: the sink begins again")
	case err != nil:
		return err
	case row.Seq != c.stored || !row.MovedAt.Equal(c.movedAt):
		return errCursorMoved
	}
	return nil
}

// Register makes the cursors of sinks that are new: at the end of the streams,
// unless they are to begin at the start. It is called before the seed, so that
// what the seed writes is delivered.
func Register(ctx context.Context, db store.DBTX, o Options) error {
	for _, s := range o.Sinks {
		for _, stream := range s.Streams() {
			if err := register(ctx, db, o, s, stream); err != nil {
				return err
			}
		}
	}
	return nil
}

// register makes the cursor of one sink and stream, unless there is one.
func register(ctx context.Context, db store.DBTX, o Options, s Sink, stream Stream) error {
	err := store.On(db).RegisterSink(ctx, store.RegisterSinkParams{Sink: s.Name(), Stream: string(stream), FromStart: o.FromStart})
	if err != nil {
		return fmt.Errorf("register sink %s: %w", s.Name(), err)
	}
	return nil
}
