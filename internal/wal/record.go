package wal

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// recorder records observations, the mirror and the position in one transaction. Only the
// handler's goroutine touches it.
type recorder struct {
	verifier *verify.Verifier
	mirror   *mirror
	position *position
}

// record records observations with the mirror and its position, and announces them. With a
// row that is unread, it marks that gap as well.
func (r *recorder) record(ctx context.Context, observed []verify.Observed, source pubsub.Source, to pglogrepl.LSN, unread uuid.UUID) error {
	var recorded verify.Recorded
	err := r.position.transact(ctx, to, func(tx pgx.Tx) (err error) {
		if recorded, err = r.verifier.Record(ctx, tx, observed, source); err != nil {
			return err
		}
		if err := r.markUnread(ctx, tx, unread); err != nil {
			return err
		}
		return r.mirror.save(ctx, store.On(tx))
	})
	if err != nil {
		r.verifier.Unannounced()
		return err
	}
	r.mirror.saved()
	r.verifier.Announce(ctx, recorded)
	return nil
}

// unreadRow makes the stream start anew with a slot and a mirror as of now: the stream has
// shown a row without fields that the mirror does not have. It takes a row larger than
// PostgreSQL stores in line, changed around a restart.
func unreadRow(id uuid.UUID) *gapError {
	return &gapError{reason: fmt.Sprintf("the WAL does not hold all of row %s, and neither does the mirror", id)}
}

// markUnread marks the gap that [unreadRow] is, in the transaction that records what came
// with it: a kill before the next stream must not hide its changes. For uuid.Nil it does
// nothing.
func (r *recorder) markUnread(ctx context.Context, tx pgx.Tx, unread uuid.UUID) error {
	if unread == uuid.Nil {
		return nil
	}
	return markGap(ctx, tx, r.position.term, unreadRow(unread).Error())
}
