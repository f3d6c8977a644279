package wal

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// A transaction that changes more rows than memory should hold comes in parts. They are
// applied one after the other in one transaction of ours, in which the stored mirror takes
// what memory need not hold. At the end, what the whole has changed is compared and
// recorded as of any other transaction. After a kill either all of it is there or nothing.

// largeTransaction applies the parts of a transaction of the stream. Only the handler's
// goroutine touches it, which calls one of commit and rollback at last.
type largeTransaction struct {
	applier  *applier
	tx       pgx.Tx
	queries  *store.Queries // in tx
	seen     *outcome
	recorded []verify.Recorded
}

// beginLarge begins with a transaction that is handled in parts.
func (a *applier) beginLarge(ctx context.Context) (*largeTransaction, error) {
	tx, err := a.position.begin(ctx)
	if err != nil {
		return nil, largeFailed(err)
	}
	// The stored mirror can grow from nothing in it, and a plan for few rows takes a time
	// for many that grows with their square.
	if err := store.On(tx).PlanEachTime(ctx); err != nil {
		_ = tx.Rollback(ctx)
		return nil, largeFailed(err)
	}
	seen := newOutcome(a.position.applied)
	seen.large, seen.allTouched = true, true
	return &largeTransaction{applier: a, tx: tx, queries: store.On(tx), seen: seen}, nil
}

func largeFailed(err error) error {
	return fmt.Errorf("record a large transaction from the WAL: %w", err)
}

// take applies a part to the mirror, stores what it changes and forgets it.
func (l *largeTransaction) take(ctx context.Context, part *transaction) error {
	m := l.applier.mirror
	ids, _ := rowsOf(part)
	if err := m.fetchByID(ctx, l.queries, ids); err != nil {
		return largeFailed(fmt.Errorf("read the mirror of the providers: %w", err))
	}
	l.applier.change(part, l.seen)
	if err := m.save(ctx, l.queries); err != nil {
		return largeFailed(err)
	}
	m.reset()
	return nil
}

// idle keeps our transaction from being idle while the stream passes over changes of other
// tables. The server would end an idle transaction, and send the same changes for ever.
func (l *largeTransaction) idle(ctx context.Context) error {
	if err := l.queries.StayActive(ctx); err != nil {
		return largeFailed(err)
	}
	return nil
}

// commit records what the whole has changed. last is its last part, which was taken.
func (l *largeTransaction) commit(ctx context.Context, last *transaction) (*outcome, error) {
	a := l.applier
	whole := &transaction{xid: last.xid, markers: l.seen.markers}
	if err := a.environments.follow(ctx, whole); err != nil {
		return nil, largeFailed(err)
	}
	if err := a.verifier.TakeGeneration(ctx); err != nil {
		return nil, largeFailed(err)
	}
	// The rows first: until a provider is recorded with another row, the former one is known to
	// have been its own.
	if err := l.recordRows(ctx, last); err != nil {
		return nil, largeFailed(err)
	}
	if err := l.recordTouched(ctx, last); err != nil {
		return nil, largeFailed(err)
	}
	if err := a.recorder.markUnread(ctx, l.tx, l.seen.unread); err != nil {
		return nil, largeFailed(err)
	}
	if err := a.position.commit(ctx, l.tx, last.end); err != nil {
		a.verifier.Unannounced()
		return nil, largeFailed(err)
	}
	for _, r := range l.recorded {
		a.verifier.Announce(ctx, r)
	}
	l.seen.handled, l.seen.position = 1, last.end
	return l.seen, a.moveTo(ctx, last.end)
}

// rollback does nothing after the commit.
func (l *largeTransaction) rollback(ctx context.Context) { _ = l.tx.Rollback(ctx) }

// recordTouched records what the parts have changed of providers, some at a time.
func (l *largeTransaction) recordTouched(ctx context.Context, last *transaction) error {
	for subjects := range slices.Chunk(l.seen.takeCurrent(), verify.MaxObserved) {
		var names []string
		var renamed []uuid.UUID
		for _, s := range subjects {
			names = append(names, s.Provider)
			if id, is := l.seen.renamed[s.Provider]; is {
				renamed = append(renamed, id)
			}
		}
		if err := l.record(ctx, last, subjects, renamed, names); err != nil {
			return err
		}
	}
	return nil
}

// record records what the parts have done to some subjects, with the rows of the ids and of
// the names.
func (l *largeTransaction) record(ctx context.Context, last *transaction, subjects []drift.Subject, ids []uuid.UUID, names []string) error {
	a := l.applier
	if err := a.mirror.fetch(ctx, l.queries, ids, names); err != nil {
		return fmt.Errorf("read the mirror of the providers: %w", err)
	}
	record := a.verifier.Record
	if len(l.recorded) > 0 {
		record = a.verifier.RecordMore
	}
	recorded, err := record(ctx, l.tx, a.observeAfter(last, subjects, l.seen), pubsub.SourceWAL)
	if err != nil {
		return err
	}
	l.recorded = append(l.recorded, recorded)
	a.mirror.reset()
	return nil
}

// recordRows records which rows are no longer unmanaged and then which are, some at a time. The
// stored mirror has all that the parts have done. Of the unmanaged rows it reads only what the
// parts have written.
func (l *largeTransaction) recordRows(ctx context.Context, last *transaction) error {
	if !l.applier.verifier.LooksForUnmanaged() {
		return nil
	}
	for _, list := range []func(context.Context, uuid.UUID, int) ([]uuid.UUID, error){l.queries.ListLeftFromMirror, l.queries.ListMirrorSuspects} {
		for after := uuid.Nil; ; {
			ids, err := list(ctx, after, verify.MaxObserved)
			if err != nil {
				return fmt.Errorf("look for unmanaged rows in the mirror: %w", err)
			}
			if len(ids) == 0 {
				break
			}
			after = ids[len(ids)-1]
			subjects := make([]drift.Subject, len(ids))
			for i, id := range ids {
				subjects[i].Row = id
			}
			if err := l.record(ctx, last, subjects, ids, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
