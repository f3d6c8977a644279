package wal

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// applier applies transactions of the stream to the mirror, compares the providers that
// each of them touches with the environment, and has that recorded. Only the handler's
// goroutine touches it.
type applier struct {
	pool         *pgxpool.Pool
	verifier     *verify.Verifier
	mirror       *mirror
	position     *position
	recorder     *recorder
	confirmer    *confirmer
	visibility   *visibilityTracker
	environments environmentFollower
}

// apply applies a batch of whole transactions. It records what the mirror is after them,
// the position, and the alerts of every transaction, in one transaction of ours.
func (a *applier) apply(ctx context.Context, batch []event) (*outcome, error) {
	if err := a.fetch(ctx, batch); err != nil {
		return nil, err
	}
	if err := a.environments.follow(ctx, a.unhandled(batch)...); err != nil {
		return nil, err
	}
	seen := newOutcome(a.position.applied)
	var observed []verify.Observed
	for _, e := range batch {
		t := e.transaction
		if t == nil {
			seen.position = max(seen.position, e.passed)
			continue
		}
		if a.position.has(t) {
			continue
		}
		seen.handled++
		seen.position = max(seen.position, t.end)
		a.change(t, seen)
		observed = append(observed, a.observeAfter(t, seen.takeCurrent(), seen)...)
		clear(seen.renamed)
		seen.truncated = false
	}
	if len(observed) > 0 || a.mirror.differs() || seen.unread != uuid.Nil {
		if err := a.recorder.record(ctx, observed, pubsub.SourceWAL, seen.position, seen.unread); err != nil {
			return nil, fmt.Errorf("record changes from the WAL: %w", err)
		}
	}
	return seen, a.moveTo(ctx, seen.position)
}

// unhandled returns the transactions of a batch that are not recorded yet.
func (a *applier) unhandled(batch []event) (transactions []*transaction) {
	for _, e := range batch {
		if e.transaction != nil && !a.position.has(e.transaction) {
			transactions = append(transactions, e.transaction)
		}
	}
	return transactions
}

// fetch brings what a batch changes of the mirror into memory.
func (a *applier) fetch(ctx context.Context, batch []event) error {
	var transactions []*transaction
	for _, e := range batch {
		if e.transaction != nil {
			transactions = append(transactions, e.transaction)
		}
	}
	ids, names := rowsOf(transactions...)
	if err := a.mirror.fetchAll(ctx, store.On(a.pool), ids, names); err != nil {
		return fmt.Errorf("read the mirror of the providers: %w", err)
	}
	return nil
}

// rowsOf returns the ids and names of the rows that transactions change.
func rowsOf(transactions ...*transaction) (ids []uuid.UUID, names []string) {
	for _, t := range transactions {
		for _, c := range t.changes {
			if c.removed != uuid.Nil {
				ids = append(ids, c.removed)
			}
			if c.put != nil {
				ids, names = append(ids, c.put.id), append(names, c.put.name)
			}
		}
	}
	return ids, names
}

// change applies the changes of a transaction, or of a part of one, to the mirror.
func (a *applier) change(t *transaction, seen *outcome) {
	// Of the credentials of a Bedrock provider the stream shows nothing.
	seen.keysTouched = seen.keysTouched || t.keysTouched || len(t.changes) > 0
	seen.markers = append(seen.markers, t.markers...)
	a.visibility.add(t)
	for _, c := range t.changes {
		former := a.mirror.nameBefore(c)
		names, unread := a.mirror.apply(c)
		if _, named := a.verifier.Named(former); named && a.mirror.rows[c.put.id].name != former {
			seen.renamed[former] = c.put.id
		}
		if c.truncate {
			names = a.verifier.Names()
			seen.truncated, seen.allTouched = true, true
		}
		if len(names) > 0 {
			seen.touchChanged(c)
		}
		for _, name := range names {
			if _, named := a.verifier.Named(name); !named {
				continue
			}
			seen.touch(drift.Subject{Provider: name})
			if unread != uuid.Nil {
				seen.unknown[drift.Subject{Provider: name}] = true
			}
		}
		if unread != uuid.Nil {
			seen.unknown[drift.Subject{Row: unread}] = true
		}
		if seen.unread == uuid.Nil {
			seen.unread = unread
		}
	}
}

// observeAfter compares what a transaction has touched with the environment, as the mirror
// has it after it. The rows come first.
func (a *applier) observeAfter(t *transaction, subjects []drift.Subject, seen *outcome) (observed []verify.Observed) {
	commit := &pubsub.Commit{LSN: t.end.String(), XID: int64(t.xid), CommittedAt: t.committedAt}
	// What is not known whole is no observation: it is read again afterwards.
	subjects = slices.DeleteFunc(subjects, func(s drift.Subject) bool { return seen.unknown[s] })
	if a.verifier.LooksForUnmanaged() {
		if seen.truncated && !seen.large {
			observed = append(observed, verify.Observed{Commit: commit, AllGone: true})
		}
		observed = append(observed, a.observeRows(commit, subjects)...)
	}
	for _, s := range subjects {
		if s.Row != uuid.Nil {
			continue
		}
		if o, named := observe(a.verifier, a.mirror, s.Provider); named {
			if o.Kind == drift.Missing {
				o.RenamedTo = a.mirror.liveName(seen.renamed[s.Provider])
			}
			observed = append(observed, verify.Observed{Observation: o, Commit: commit})
		}
	}
	return observed
}

// observeRows observes the rows among the subjects. A row that is not unmanaged comes first: another
// one can have its name.
func (a *applier) observeRows(commit *pubsub.Commit, subjects []drift.Subject) []verify.Observed {
	var ended, begun []verify.Observed
	for _, s := range subjects {
		if s.Row == uuid.Nil {
			continue
		}
		o := verify.Observed{Observation: observeRow(a.verifier, a.mirror, s.Row), Commit: commit}
		if o.Kind == drift.Unmanaged {
			begun = append(begun, o)
		} else {
			ended = append(ended, o)
		}
	}
	return append(ended, begun...)
}

// moveTo goes on after everything up to a position is handled, and recorded where it
// needed a record.
func (a *applier) moveTo(ctx context.Context, handled pglogrepl.LSN) error {
	a.position.applied = handled
	if err := a.confirmer.recorded(ctx, a.position.stored); err != nil {
		return err
	}
	a.confirmer.passed(handled)
	return nil
}

// tidy stores the position where that is due, and keeps the list of transactions small.
func (a *applier) tidy(ctx context.Context) error {
	if a.position.isDue() {
		if err := a.position.store(ctx); err != nil {
			return fmt.Errorf("store the position in the WAL: %w", err)
		}
		if err := a.confirmer.recorded(ctx, a.position.stored); err != nil {
			return err
		}
	}
	return a.visibility.trim(ctx)
}
