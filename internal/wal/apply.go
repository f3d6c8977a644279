package wal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// A transaction that changes more rows than are to be in memory comes in parts. They
// are applied one after the other in one transaction of ours, in which the stored
// mirror takes what the memory need not hold. What the whole has changed is compared
// and recorded at its end, as of any other transaction, and all of it or nothing is
// there after a kill.

// outcome is what transactions of the stream come to.
type outcome struct {
	handled     int
	keysTouched bool // credentials may have changed
	marked      bool // the marker of the check was among them

	// touched are the desired providers that the current transaction has changed
	// something of.
	touched map[string]bool
	// unread is a row of which not enough is known, uuid.Nil for none; unknown are the
	// desired providers that have such a row.
	unread  uuid.UUID
	unknown map[string]bool
}

func newOutcome() *outcome {
	return &outcome{touched: map[string]bool{}, unknown: map[string]bool{}}
}

// takeTouched returns the providers that the current transaction has touched, sorted,
// and begins with the next.
func (o *outcome) takeTouched() []string {
	names := slices.Sorted(maps.Keys(o.touched))
	clear(o.touched)
	return names
}

// isStored reports whether the transaction was handled before a restart, and
// recorded.
func (s *session) isStored(t *transaction) bool { return t.commit < s.stored }

// apply applies the changes of a transaction, or of a part of one, to the mirror.
func (s *session) apply(t *transaction, seen *outcome) {
	// Of the credentials of a Bedrock provider the stream shows nothing.
	seen.keysTouched = seen.keysTouched || t.keysTouched || len(t.changes) > 0
	s.noteApplied(t)
	for _, c := range t.changes {
		names, unread := s.mirror.apply(c)
		if c.truncate {
			names = s.Verifier.Names()
		}
		for _, name := range names {
			if _, named := s.Verifier.Named(name); !named {
				continue
			}
			seen.touched[name] = true
			if unread != uuid.Nil {
				seen.unknown[name] = true
			}
		}
		if seen.unread == uuid.Nil {
			seen.unread = unread
		}
	}
	seen.marked = seen.marked || s.check != nil && slices.Contains(t.markers, s.check.token)
}

// observeAfter compares providers that a transaction has touched with the environment,
// as the mirror has them after it.
func (s *session) observeAfter(t *transaction, names []string, seen *outcome) (observed []verify.Observed) {
	commit := &pubsub.Commit{LSN: t.end.String(), XID: int64(t.xid), CommittedAt: t.committedAt}
	for _, name := range names {
		if s.check != nil {
			s.check.touched[name] = true
		}
		// What is not known whole is no observation: it is read again afterwards.
		if o, named := s.observe(name); named && !seen.unknown[name] {
			observed = append(observed, verify.Observed{Observation: o, Commit: commit})
		}
	}
	return observed
}

// recorded goes on after everything up to a position is recorded.
func (s *session) recorded(ctx context.Context, seen *outcome, position pglogrepl.LSN) error {
	s.applied = position
	if err := s.confirmRecorded(ctx); err != nil {
		return err
	}
	s.confirmPassed(position)
	s.Metrics.TransactionsHandled(seen.handled)
	if seen.handled > 0 {
		s.progress()
	}
	if seen.unread != uuid.Nil {
		return reread(seen.unread)
	}
	if err := s.storeIdle(ctx); err != nil {
		return err
	}
	if err := s.forgetVisible(ctx); err != nil {
		return err
	}
	if seen.keysTouched && s.Verifier.ComparesCredentials() {
		s.Pending.Add(verify.Everything(pubsub.SourceWAL))
	}
	if seen.marked {
		return s.finishCheck(ctx)
	}
	return nil
}

// recordAll records a batch. When it ends with the first part of a large transaction,
// recordAll takes the other parts from the backlog, and reports that it did.
func (s *session) recordAll(ctx context.Context, batch []event, waiting *backlog) (wasLarge bool, err error) {
	last := batch[len(batch)-1]
	if !last.isPart() {
		err := s.record(ctx, batch)
		waiting.done(batch...)
		return false, err
	}
	if whole := batch[:len(batch)-1]; len(whole) > 0 {
		if err := s.record(ctx, whole); err != nil {
			return false, err
		}
		waiting.done(whole...)
	}
	return true, s.recordParts(ctx, last, waiting)
}

// plansOfTheMoment makes the server plan each statement of a transaction anew. The
// stored mirror can grow from nothing in it, and a plan for few rows takes a time for
// many that grows with their square.
const plansOfTheMoment = "SET LOCAL plan_cache_mode = force_custom_plan"

// recordParts records a transaction that begins with the part first.
func (s *session) recordParts(ctx context.Context, first event, waiting *backlog) error {
	if s.isStored(first.transaction) {
		_, err := eachPart(ctx, first, waiting, func() error { return nil }, func(*transaction) error { return nil })
		return err
	}
	seen := newOutcome()
	var recorded []verify.Recorded
	err := s.transact(ctx, func(tx pgx.Tx) (pglogrepl.LSN, error) {
		if _, err := tx.Exec(ctx, plansOfTheMoment); err != nil {
			return 0, err
		}
		// The server would end a transaction that is idle while it passes over changes of
		// other tables, and the same one would be received again for ever.
		idle := func() error {
			_, err := tx.Exec(ctx, "SELECT 1")
			return err
		}
		last, err := eachPart(ctx, first, waiting, idle, func(part *transaction) error { return s.applyPart(ctx, tx, part, seen) })
		if err != nil {
			return 0, err
		}
		if recorded, err = s.recordTouched(ctx, tx, last, seen); err != nil {
			return 0, err
		}
		return last.end, s.markUnread(ctx, tx, seen.unread)
	})
	if err != nil {
		return fmt.Errorf("record a large transaction from the WAL: %w", err)
	}
	for _, r := range recorded {
		s.Verifier.Announce(ctx, r)
	}
	seen.handled = 1
	return s.recorded(ctx, seen, s.stored)
}

// partPause is well below the time after which the server ends an idle transaction.
const partPause = 5 * time.Second

// eachPart calls do for each part of a transaction that begins with first, and
// returns the last of them. Between its parts the receiver hands on nothing else. While
// none comes, it calls idle each [partPause].
func eachPart(ctx context.Context, first event, waiting *backlog, idle func() error, do func(*transaction) error) (last *transaction, err error) {
	pause := time.NewTicker(partPause)
	defer pause.Stop()
	for e := first; ; {
		if err := do(e.transaction); err != nil {
			return nil, err
		}
		waiting.done(e)
		if !e.isPart() {
			return e.transaction, nil
		}
		for received := false; !received; {
			select {
			case e = <-waiting.events:
				received = true
			case <-pause.C:
				if err := idle(); err != nil {
					return nil, err
				}
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// applyPart applies a part of a transaction to the mirror, stores what it changes and
// forgets it.
func (s *session) applyPart(ctx context.Context, tx pgx.Tx, part *transaction, seen *outcome) error {
	queries := store.On(tx)
	ids, _ := rowsOf(part)
	if err := s.mirror.fetchByID(ctx, queries, ids); err != nil {
		return fmt.Errorf("read the mirror of the providers: %w", err)
	}
	s.apply(part, seen)
	if err := s.mirror.save(ctx, queries); err != nil {
		return err
	}
	s.mirror.reset()
	return nil
}

// recordTouched records what a transaction has changed whose parts are all applied,
// some providers at a time.
func (s *session) recordTouched(ctx context.Context, tx pgx.Tx, last *transaction, seen *outcome) (all []verify.Recorded, err error) {
	for names := range slices.Chunk(seen.takeTouched(), verify.MaxObserved) {
		if err := s.mirror.fetch(ctx, store.On(tx), nil, slices.Clone(names)); err != nil {
			return nil, fmt.Errorf("read the mirror of the providers: %w", err)
		}
		recorded, err := s.Verifier.Record(ctx, tx, s.observeAfter(last, names, seen), pubsub.SourceWAL)
		if err != nil {
			return nil, err
		}
		all = append(all, recorded)
		s.mirror.reset()
	}
	return all, nil
}
