package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/sourcegraph/conc/pool"
	"golang.org/x/time/rate"

	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

const (
	// statusInterval is how often the server is told what is handled, at least;
	// it ends a stream that says nothing for wal_sender_timeout, 60 s by default.
	statusInterval = time.Second
	// quietStatusInterval is the same while there is nothing new to tell. The server is
	// then asked for an answer: a stream that says nothing can be one that stands still.
	quietStatusInterval = 3 * time.Second
	// maxAsked is how often in a row the server is asked in vain until the stream is given
	// up. While it decodes a large transaction of other tables it answers after half of
	// wal_sender_timeout, which the session sets.
	maxAsked = 10
	// slotInterval is how often the slot's retained bytes are looked at, and
	// quietSlotInterval while the stream shows no WAL.
	slotInterval      = 5 * time.Second
	quietSlotInterval = time.Minute
	// checkPause is the least time between two verifications, so that
	// notifications, which any role can send, cannot keep the database busy.
	checkPause = 50 * time.Millisecond
	// markerTimeout is how long a marker may take through the stream before the
	// stream is taken for stuck.
	markerTimeout = time.Minute
	// recordsPerSecond bounds how often a flood of changes is recorded, so that it
	// is in a few large transactions. A change in quieter times is at once.
	recordsPerSecond = 20
	recordBurst      = 50
	// maxBatch is how many transactions are recorded in one, and maxBatchSize from
	// which size of their changes on no more are, in bytes. It is less than
	// [maxBacklog], so that the stream is read while a batch is recorded.
	maxBatch     = 5000
	maxBatchSize = 1 << 20
	// While nothing else is recorded, the position is stored after idleInterval, or after
	// idleBytes of WAL if that is earlier. It is not for fewer than leastBytes: what storing
	// it writes is no reason to store it again.
	idleInterval = 10 * time.Second
	idleBytes    = 16 << 20
	leastBytes   = 1 << 20
	// disagreements is how often in a row a look may disagree with the mirror. What
	// is committed while a look waits shows in the WAL before it shows to queries, so
	// that once is no contradiction.
	disagreements = 20
)

// session is one connection's worth of streaming. Its mirror and position are
// what is stored: when anything fails the session is thrown away, and the next
// one starts from there.
type session struct {
	*Reader
	server   Server
	conn     *pgconn.PgConn
	progress func()
	activity *postgres.Activity
	answered func() // ends the wait for an answer of the stream, nil for none; of the goroutine that reads it

	hasher    provider.Hasher
	mirror    *mirror
	system    int64         // the server's identifier, 0 where it is not known
	applied   pglogrepl.LSN // everything up to here is handled
	stored    pglogrepl.LSN // what wal_position says
	storedAt  time.Time
	confirmed atomic.Uint64 // what the server may forget, an LSN: no more than is stored
	// confirmations are what the server may not forget yet. Only the handler touches them.
	confirmations confirmations
	owed          pglogrepl.LSN // the last stored position that is confirmed, or will be
	walEnd        atomic.Uint64 // how far the server has got, an LSN, as of its last message

	limiter   *rate.Limiter
	unchecked []int64 // transactions of the stream that can still be invisible to queries
	held      *held   // the verification that waits for such, nil for none
	check     *check  // the verification under way, nil for none
	disagreed map[string]int
}

// check is a verification that waits for the stream to have passed the moment
// at which it looked.
type check struct {
	request  verify.Request
	names    []string // of the providers that are still to be looked at
	again    bool     // some of them are to be verified again
	observed []verify.Observed
	token    string
	// touched are the providers that the stream has shown a change of since the
	// look: for these the stream knows better.
	touched map[string]bool
}

// session streams until something fails or ctx ends.
// progress is called when something was recorded.
func (s *Reader) session(ctx context.Context, source pubsub.Source, progress func()) error {
	found, server, err := inspect(ctx, s.Pool)
	if err != nil {
		return err
	}
	if err := s.Term.Confirm(ctx, s.Pool); err != nil {
		return err
	}
	// Of a copy, since connecting changes it.
	conn, err := s.connect(ctx)
	if schema.IsDenied(err) {
		return mayNotReplicate(found)
	}
	if err != nil {
		return fmt.Errorf("open a replication connection: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	one := &session{Reader: s, server: server, conn: conn, progress: progress, activity: postgres.ActivityOf(s.Config), disagreed: map[string]int{},
		limiter: rate.NewLimiter(recordsPerSecond, recordBurst)}
	if err := one.begin(ctx); err != nil {
		return err
	}
	s.Logger.InfoContext(ctx, "streaming", "slot", server.Slot, "from", one.applied.String())
	s.Pending.Add(verify.Everything(source))

	waiting := newBacklog()
	group := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	group.Go(func(ctx context.Context) error { return one.receive(ctx, waiting) })
	group.Go(func(ctx context.Context) error { return one.handle(ctx, waiting) })
	group.Go(func(ctx context.Context) error { return one.watchSlot(ctx) })
	group.Go(func(ctx context.Context) error {
		s.Host.Streaming(ctx)
		return nil
	})
	err = group.Wait()
	one.confirm()
	if one.check != nil {
		s.Pending.Retry(one.check.request)
	}
	if one.held != nil {
		s.Pending.Retry(one.held.request)
	}
	return err
}

// connect opens the replication connection.
func (s *Reader) connect(ctx context.Context) (*pgconn.PgConn, error) {
	defer postgres.ActivityOf(s.Config).Begin("the replication connection", 0)()
	limited, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return pgconn.ConnectConfig(limited, s.Config.Config.Copy())
}

// begin finds or makes the slot and the mirror that goes with it, and starts the
// stream.
func (s *session) begin(ctx context.Context) error {
	if err := s.Host.Publish(ctx); err != nil {
		return err
	}
	queries := store.On(s.Pool)
	var err error
	// That of the verifier, whose hashes are compared with those of the mirror.
	if s.hasher, err = s.Verifier.Hasher(ctx); err != nil {
		return err
	}
	// Before anything that can wait: sessions that do not come to stream measure it all the
	// same.
	tooMuch := ""
	switch found, err := queries.InspectSlot(ctx, s.server.Slot); {
	case err == nil:
		tooMuch = s.observeSlot(ctx, found)
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("look at replication slot %s: %w", s.server.Slot, err)
	}
	position, err := queries.ReadWALPosition(ctx)
	known := err == nil
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read provwatch.wal_position: %w", err)
	}
	var slot *store.InspectSlotRow
	switch found, err := queries.InspectSlot(ctx, s.server.Slot); {
	case err == nil:
		slot = &found
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("look at replication slot %s: %w", s.server.Slot, err)
	}
	if s.system, err = queries.SystemIdentifier(ctx); err != nil {
		return fmt.Errorf("read the server's system identifier: %w", err)
	}

	// Where no position is known, it is the first time, or another source was the authority:
	// nothing was promised of what the slot may hold.
	reason := s.gap
	if reason == "" && known {
		reason = cmp.Or(whyGap(s.server, s.system, position, slot), tooMuch)
	}
	if !known || reason != "" {
		// A kill from here on until the new slot counts must not leave the old
		// position with it.
		if err := queries.MarkGap(ctx, store.MarkGapParams{Reason: reason, Term: s.Term.Number}); err != nil {
			return fmt.Errorf("mark the gap: %w", err)
		}
		// Once more: the slot can be another leader's by now.
		if err := s.Term.Confirm(ctx, s.Pool); err != nil {
			return err
		}
		if _, err := dropSlot(ctx, s.evict()); err != nil {
			return err
		}
		if s.mirror, s.applied, err = s.createSlot(ctx, reason); err != nil {
			return err
		}
		s.Logger.InfoContext(ctx, "replication slot created", "slot", s.server.Slot, "at", s.applied.String())
		s.gap = ""
		slot = nil // the one before
	} else {
		s.mirror = newMirror(s.hasher)
		if s.applied, err = pglogrepl.ParseLSN(position.AppliedLsn); err != nil {
			return fmt.Errorf("read provwatch.wal_position: %w", err)
		}
	}
	s.isAt(s.applied)
	if err := s.confirmBegun(ctx, slot); err != nil {
		return err
	}
	return s.startStream(ctx)
}

func (s *session) startStream(ctx context.Context) error {
	options := pglogrepl.StartReplicationOptions{PluginArgs: []string{
		"proto_version '1'", "publication_names '" + publication + "'", "messages 'true'",
	}}
	holder := s.evict()
	defer holder.end()
	for {
		started := s.activity.Begin("the start of replication from slot "+s.server.Slot, s.conn.PID())
		// Position 0 means: from what the slot has confirmed.
		starting, cancel := context.WithTimeout(ctx, slotHolderPatience)
		err := pglogrepl.StartReplication(starting, s.conn, s.server.Slot, 0, options)
		cancel()
		started()
		var pg *pgconn.PgError
		switch {
		case err == nil:
			return s.compare(ctx)
		case !errors.As(err, &pg):
			return fmt.Errorf("start streaming from replication slot %s: %w", s.server.Slot, err)
		case pg.Code == pgerrcode.ObjectInUse:
			if err := holder.step(ctx); err != nil {
				return err
			}
		case pg.Code == pgerrcode.UndefinedObject:
			return &gapError{reason: slotGone}
		case pg.Code == pgerrcode.ObjectNotInPrerequisiteState:
			return &gapError{reason: "the server refuses to stream from the replication slot: " + pg.Message}
		default:
			return fmt.Errorf("start streaming from replication slot %s: %w", s.server.Slot, err)
		}
	}
}

// compare returns a gap when the slot that streams does not go on from the stored position.
// Until the stream begins, a former leader that goes on can drop the slot that was looked
// at and make another of its name. From then on that ends the stream.
func (s *session) compare(ctx context.Context) error {
	slot, err := store.On(s.Pool).InspectSlot(ctx, s.server.Slot)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return &gapError{reason: slotGone}
	case err != nil:
		return fmt.Errorf("look at replication slot %s: %w", s.server.Slot, err)
	}
	if reason := whyGap(s.server, 0, store.ReadWALPositionRow{Slot: s.server.Slot, AppliedLsn: s.stored.String()}, &slot); reason != "" {
		return &gapError{reason: reason}
	}
	return nil
}

// errUnanswered ends a session whose stream stands still. The server does not end that of
// a process that is stopped.
var errUnanswered = fmt.Errorf("the server has not answered for %s", maxAsked*quietStatusInterval)

// receive reads the stream, and tells the server what is handled.
func (s *session) receive(ctx context.Context, waiting *backlog) error {
	d := decoder{keys: s.Keys}
	sent, sentAt := uint64(0), time.Time{}
	asked := 0 // since the server was last heard
	status := func(force bool) error {
		confirmed := s.confirmed.Load()
		if !force && confirmed == sent && time.Since(sentAt) < quietStatusInterval {
			return nil
		}
		ask := !force && confirmed == sent
		switch {
		case ask && asked == maxAsked:
			return errUnanswered
		case ask:
			asked++
		}
		if ask && s.answered == nil {
			s.answered = s.activity.BeginSlow("the replication stream", s.conn.PID())
		}
		sent, sentAt = confirmed, time.Now()
		return pglogrepl.SendStandbyStatusUpdate(ctx, s.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: pglogrepl.LSN(confirmed), ReplyRequested: ask})
	}
	handOn := func(e event) error {
		return waiting.put(ctx, e, func() error { return status(true) })
	}
	// The connection's own deadline, and not a context for each message, which
	// costs as much as decoding it.
	interrupt := context.AfterFunc(ctx, func() { _ = s.conn.Conn().SetReadDeadline(time.Unix(1, 0)) })
	defer interrupt()
	heard := func() {
		asked = 0
		if s.answered != nil {
			s.answered()
			s.answered = nil
		}
	}
	defer heard()
	var deadline time.Time
	for {
		if now := time.Now(); deadline.Sub(now) < statusInterval/2 {
			deadline = now.Add(statusInterval)
			if err := s.conn.Conn().SetReadDeadline(deadline); err != nil {
				return fmt.Errorf("read the replication stream: %w", err)
			}
		}
		// After the deadline is set, so that it does not undo the interruption.
		if ctx.Err() != nil {
			return ctx.Err()
		}
		raw, err := s.conn.ReceiveMessage(context.Background())
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !pgconn.Timeout(err) {
				return fmt.Errorf("read the replication stream: %w", err)
			}
			deadline = time.Time{}
			if err := status(false); err != nil {
				return fmt.Errorf("confirm on the replication stream: %w", err)
			}
			continue
		}
		heard()
		if failed, ok := raw.(*pgproto3.ErrorResponse); ok {
			err := pgconn.ErrorResponseToPgError(failed)
			if err.Code == pgerrcode.UndefinedObject {
				// The publication as it was when the change was made counts.
				return &gapError{reason: "the publication was not there all the time: " + err.Message}
			}
			return fmt.Errorf("read the replication stream: %w", err)
		}
		data, ok := raw.(*pgproto3.CopyData)
		if !ok || len(data.Data) == 0 {
			continue
		}
		switch data.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			keepAlive, err := pglogrepl.ParsePrimaryKeepaliveMessage(data.Data[1:])
			if err != nil {
				return errors.New("a keep-alive of the replication stream cannot be parsed")
			}
			s.walEnd.Store(uint64(keepAlive.ServerWALEnd))
			// Inside a transaction the position is not past anything yet.
			if !d.inTransaction() {
				if err := handOn(event{passed: keepAlive.ServerWALEnd}); err != nil {
					return err
				}
			}
			if err := status(keepAlive.ReplyRequested); err != nil {
				return fmt.Errorf("confirm on the replication stream: %w", err)
			}
		case pglogrepl.XLogDataByteID:
			log, err := pglogrepl.ParseXLogData(data.Data[1:])
			if err != nil {
				return errUnreadable
			}
			s.walEnd.Store(uint64(log.ServerWALEnd))
			done, err := d.decode(log.WALData)
			if err != nil {
				// The same message comes again after every restart.
				return &gapError{reason: err.Error()}
			}
			if done != nil {
				if err := handOn(event{transaction: done}); err != nil {
					return err
				}
			}
			if time.Since(sentAt) > statusInterval {
				if err := status(false); err != nil {
					return fmt.Errorf("confirm on the replication stream: %w", err)
				}
			}
		}
	}
}

// confirm tells the server once more what is handled, when the stream ends.
func (s *session) confirm() {
	if s.conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = pglogrepl.SendStandbyStatusUpdate(ctx, s.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: pglogrepl.LSN(s.confirmed.Load())})
}

// handle records transactions in batches, and verifies what is pending.
func (s *session) handle(ctx context.Context, waiting *backlog) error {
	var pause, stuck <-chan time.Time
	verify := func() error {
		handling, ended := s.activity.Handle(ctx, "a verification")
		defer ended()
		wait, err := s.verify(handling)
		if pause = nil; s.check == nil {
			pause = time.After(wait)
		} else {
			stuck = time.After(markerTimeout)
		}
		return err
	}
	for {
		ready := s.Pending.Ready()
		if s.held != nil || s.check != nil || pause != nil {
			ready = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause:
			pause = nil
			if s.held == nil {
				continue
			}
			if err := verify(); err != nil {
				return err
			}
		case <-stuck:
			return fmt.Errorf("the replication stream has not passed a marker for %s", markerTimeout)
		case e := <-waiting.events:
			before := s.check
			batch := s.gather(ctx, e, waiting.events)
			handling, ended := s.activity.Handle(ctx, "the recording of changes")
			wasLarge, err := s.recordAll(handling, batch, waiting)
			ended()
			if err != nil {
				return err
			}
			switch {
			case s.check == nil && stuck != nil:
				stuck, pause = nil, time.After(checkPause)
			case s.check != before, s.check != nil && wasLarge:
				stuck = time.After(markerTimeout)
			}
		case <-ready:
			request, ok := s.Pending.Get()
			if !ok {
				continue
			}
			s.hold(request)
			if err := verify(); err != nil {
				return err
			}
		}
	}
}

// gather takes what else is there, and waits for more until the next batch is
// due. A verification waits for none, and nothing waits for what needs no record:
// each alert is followed by news of its own transaction, which are none. The first
// part of a large transaction ends a batch.
func (s *session) gather(ctx context.Context, first event, events <-chan event) []event {
	batch, size := []event{first}, first.size()
	if !first.isNews() || first.isPart() {
		return batch
	}
	var due <-chan time.Time
	if s.check == nil {
		if wait := s.limiter.Reserve().Delay(); wait > 0 {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			due = timer.C
		}
	}
	for len(batch) < maxBatch && size < maxBatchSize && !batch[len(batch)-1].isPart() {
		if due == nil {
			select {
			case e := <-events:
				batch, size = append(batch, e), size+e.size()
			default:
				return batch
			}
			continue
		}
		select {
		case e := <-events:
			batch, size = append(batch, e), size+e.size()
		case <-due:
			due = nil
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}

// record handles a batch: it brings the mirror up to date, and writes what the
// mirror now is, the position, and the alerts of every transaction, in one
// transaction.
func (s *session) record(ctx context.Context, batch []event) error {
	seen := newOutcome()
	var observed []verify.Observed
	passed := s.applied
	if err := s.fetch(ctx, batch); err != nil {
		return err
	}
	for _, e := range batch {
		if e.transaction == nil {
			passed = max(passed, e.passed)
			continue
		}
		t := e.transaction
		if s.isStored(t) {
			continue
		}
		seen.handled++
		passed = max(passed, t.end)
		s.apply(t, seen)
		observed = append(observed, s.observeAfter(t, seen.takeTouched(), seen)...)
	}

	if len(observed) > 0 || s.mirror.differs() || seen.unread != uuid.Nil {
		recorded, err := s.write(ctx, observed, pubsub.SourceWAL, passed, seen.unread)
		if err != nil {
			return fmt.Errorf("record changes from the WAL: %w", err)
		}
		s.Verifier.Announce(ctx, recorded)
	}
	return s.recorded(ctx, seen, passed)
}

// write writes observations, the mirror and the position in one transaction, and, with
// a row that is unread, that the slot can no longer be relied upon.
func (s *session) write(ctx context.Context, observed []verify.Observed, source pubsub.Source, position pglogrepl.LSN, unread uuid.UUID) (recorded verify.Recorded, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) (pglogrepl.LSN, error) {
		if recorded, err = s.Verifier.Record(ctx, tx, observed, source); err != nil {
			return 0, err
		}
		if err := s.markUnread(ctx, tx, unread); err != nil {
			return 0, err
		}
		return position, s.mirror.save(ctx, store.On(tx))
	})
	if err == nil {
		s.mirror.saved()
	}
	return recorded, err
}

// transact runs do in a transaction, which writes the position that do returns too.
// The lock on the position, which must be as this session left it, keeps a worker
// that was the leader once from writing over the one that is.
func (s *session) transact(ctx context.Context, do func(pgx.Tx) (pglogrepl.LSN, error)) error {
	var position pglogrepl.LSN
	err := pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		queries := store.On(tx)
		held, err := queries.LockWALPosition(ctx)
		if err != nil {
			return fmt.Errorf("lock provwatch.wal_position: %w", err)
		}
		if held.Slot != s.server.Slot || held.AppliedLsn != s.stored.String() {
			return errors.New("another worker has recorded from the replication slot meanwhile")
		}
		if position, err = do(tx); err != nil {
			return err
		}
		advanced, err := queries.AdvanceWALPosition(ctx, store.AdvanceWALPositionParams{
			AppliedLsn: position.String(), SystemIdentifier: s.system, Term: s.Term.Number,
		})
		if err == nil && advanced == 0 {
			err = leader.ErrLaterTerm
		}
		return err
	})
	if err != nil {
		return err
	}
	s.isAt(position)
	return nil
}

// isAt notes that a position is stored. One that was confirmed before it was stored would
// look like the doing of somebody else.
func (s *session) isAt(position pglogrepl.LSN) {
	s.stored, s.storedAt = position, time.Now()
}

// storeIdle stores the position when it is due though nothing else is recorded, so that
// the server need not keep the WAL of other tables.
func (s *session) storeIdle(ctx context.Context) error {
	ahead := uint64(s.applied - s.stored)
	soon := uint64(idleBytes)
	if s.MaxLag > 0 {
		soon = min(soon, uint64(s.MaxLag)/4)
	}
	if ahead < min(leastBytes, soon) || ahead < soon && time.Since(s.storedAt) < idleInterval {
		return nil
	}
	if err := s.transact(ctx, func(pgx.Tx) (pglogrepl.LSN, error) { return s.applied, nil }); err != nil {
		return fmt.Errorf("store the position in the WAL: %w", err)
	}
	return s.confirmRecorded(ctx)
}

// fetch brings what a batch changes of the mirror into memory.
func (s *session) fetch(ctx context.Context, batch []event) error {
	var transactions []*transaction
	for _, e := range batch {
		if e.transaction != nil {
			transactions = append(transactions, e.transaction)
		}
	}
	ids, names := rowsOf(transactions...)
	if err := s.mirror.fetchAll(ctx, store.On(s.Pool), ids, names); err != nil {
		return fmt.Errorf("read the mirror of the providers: %w", err)
	}
	return nil
}

// observe compares what the mirror holds of a name with the environment. It reports false
// when the environment does not name the provider, which it looks up once: a reload can
// replace it at any time, and the mirror's row is completed for the provider that it is
// compared with.
func (s *session) observe(name string) (drift.Observation, bool) {
	desired, named := s.Verifier.Named(name)
	if !named {
		return drift.Observation{}, false
	}
	return drift.Compare(s.hasher, desired, s.mirror.observed(desired), false), true
}

// verify begins the verification that is held, unless queries do not see yet what it
// waits for. Without one under way it returns the wait until the next attempt, or until
// the next verification.
func (s *session) verify(ctx context.Context) (wait time.Duration, err error) {
	request := s.held.request
	defer func() {
		if err != nil {
			s.Host.Verified(request, err)
		}
	}()
	if wait, err := s.awaitVisible(ctx); err != nil || wait > 0 {
		return wait, err
	}
	names, err := s.Verifier.Suspects(ctx, request)
	if err != nil {
		return 0, err
	}
	if err := s.look(ctx, &check{request: request, names: names}); err != nil {
		return 0, err
	}
	s.held = nil
	return 0, nil
}

// look goes on with a verification: it reads the next providers as they are now,
// and sends a marker after it. Once the stream has passed the marker, the mirror
// holds everything that the look could see.
func (s *session) look(ctx context.Context, c *check) error {
	names := c.names[:min(len(c.names), verify.MaxObserved)]
	next := &check{request: c.request, names: c.names[len(names):], again: c.again, token: uuid.NewString(), touched: map[string]bool{}}
	var err error
	if next.observed, err = s.Verifier.Observe(ctx, names); err != nil {
		return err
	}
	if err := store.On(s.Pool).EmitMarker(ctx, next.token); err != nil {
		return fmt.Errorf("write a marker to the WAL: %w", err)
	}
	s.check = next
	return nil
}

// finishCheck records a look whose marker has come, for the providers of which
// the stream has shown no change since: for these it agrees with the mirror. It
// then looks at the next ones, or ends the verification.
func (s *session) finishCheck(ctx context.Context) error {
	c := s.check
	s.check = nil
	failed := func(what string, err error) error {
		s.Host.Verified(c.request, err)
		s.Pending.Retry(c.request)
		return fmt.Errorf("%s: %w", what, err)
	}
	names := make([]string, len(c.observed))
	for i, o := range c.observed {
		names[i] = o.Provider
	}
	if err := s.mirror.fetchAll(ctx, store.On(s.Pool), nil, names); err != nil {
		return failed("read the mirror of the providers", err)
	}
	var agreed []verify.Observed
	for _, o := range c.observed {
		mirrored, named := s.observe(o.Provider)
		if c.touched[o.Provider] {
			// A reload of the keys can have come between the stream and the look: look again.
			c.again = c.again || s.Verifier.ComparesCredentials() || (mirrored.Unreadable == nil) != (o.Unreadable == nil)
			continue
		}
		seen := o.Observation.WithoutCredentials()
		if named && !mirrored.SameState(seen) {
			s.disagreed[o.Provider]++
			switch {
			case s.disagreed[o.Provider] <= disagreements:
			case s.mirror.redecode(mirrored, seen):
				delete(s.disagreed, o.Provider)
			default:
				s.Pending.Retry(c.request)
				return &gapError{reason: fmt.Sprintf("the mirror of provider %q disagrees with the provider table", o.Provider)}
			}
			c.again = true
			continue
		}
		delete(s.disagreed, o.Provider)
		agreed = append(agreed, o)
	}
	if len(agreed) > 0 {
		recorded, err := s.write(ctx, agreed, c.request.Source, s.applied, uuid.Nil)
		if err != nil {
			return failed("record a verification", err)
		}
		s.Verifier.Announce(ctx, recorded)
		if err := s.confirmRecorded(ctx); err != nil {
			return failed("record a verification", err)
		}
	}
	if len(c.names) > 0 {
		if err := s.look(ctx, c); err != nil {
			return failed("go on with a verification", err)
		}
		return nil
	}
	if c.request.All {
		if err := s.Verifier.CloseUnnamed(ctx, c.request.Source); err != nil {
			return failed("close the drifts of providers that the environment no longer names", err)
		}
	}
	s.progress()
	s.Host.Verified(c.request, nil)
	if c.again {
		s.Pending.Retry(c.request)
	} else {
		s.Pending.Done()
	}
	return nil
}

// reread makes the stream start anew with a slot and a mirror as of now: the
// stream has shown a row without fields that the mirror does not have. It takes a
// row larger than PostgreSQL stores in line, changed around a restart.
func reread(id uuid.UUID) error {
	return &gapError{reason: fmt.Sprintf("the WAL does not hold all of row %s, and neither does the mirror", id)}
}

// markUnread marks the gap that [reread] is, in the transaction that records what came
// with it: a kill before the next session must not leave its changes behind unseen and
// unsaid. For uuid.Nil it does nothing.
func (s *session) markUnread(ctx context.Context, tx pgx.Tx, unread uuid.UUID) error {
	if unread == uuid.Nil {
		return nil
	}
	if err := store.On(tx).MarkGap(ctx, store.MarkGapParams{Reason: reread(unread).Error(), Term: s.Term.Number}); err != nil {
		return fmt.Errorf("mark the gap: %w", err)
	}
	return nil
}

// watchSlot measures the slot, and gives it up rather than fill the server's disk.
//
// While the stream shows no WAL, little is to be measured. It is from time to time: a
// stream can be silent because it stands still, or because a full backlog keeps it from
// being read.
func (s *session) watchSlot(ctx context.Context) error {
	var measuredAt time.Time
	var before [2]uint64
	for again := 0; ; {
		// Once more after the last change: the server follows a confirmation later.
		now := [2]uint64{s.walEnd.Load(), s.confirmed.Load()}
		if now != before {
			before, again = now, 2
		}
		if again > 0 || time.Since(measuredAt) >= quietSlotInterval {
			if err := s.measure(ctx); err != nil {
				return err
			}
			again, measuredAt = max(again-1, 0), time.Now()
		}
		if err := sleep(ctx, slotInterval); err != nil {
			return err
		}
	}
}

// measure measures the slot once, and looks whether the WAL can still be used.
func (s *session) measure(ctx context.Context) error {
	// What made the WAL usable can end, and some of it harms writers; so can leading,
	// before the listener notices.
	if _, _, err := inspect(ctx, s.Pool); err != nil {
		return err
	}
	if err := s.Term.Confirm(ctx, s.Pool); err != nil {
		return err
	}
	slot, err := store.On(s.Pool).InspectSlot(ctx, s.server.Slot)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return &gapError{reason: slotGone}
	case err != nil:
		return fmt.Errorf("look at replication slot %s: %w", s.server.Slot, err)
	case whyLost(slot) != "":
		return &gapError{reason: whyLost(slot)}
	}
	// A table that is dropped and made again drops out of the publication silently, and
	// its owner can have only some rows or columns published.
	published, err := store.On(s.Pool).IsPublished(ctx)
	if err != nil {
		return fmt.Errorf("look at the publication: %w", err)
	}
	if !published {
		const reason = "the provider tables are no longer published as they have to be: one was made again, or somebody changed the publication"
		// It is a gap too if the tables can be published by the next worker alone.
		if err := store.On(s.Pool).MarkGap(ctx, store.MarkGapParams{Reason: reason, Term: s.Term.Number}); err != nil {
			return fmt.Errorf("mark the gap: %w", err)
		}
		return &gapError{reason: reason}
	}
	if reason := s.observeSlot(ctx, slot); reason != "" {
		return &gapError{reason: reason}
	}
	return nil
}

// observeSlot hands on what the slot retains. It returns why the slot is to be given up for
// it, empty where it is not.
func (s *session) observeSlot(ctx context.Context, slot store.InspectSlotRow) (reason string) {
	s.Metrics.SlotObserved(SlotStatus{RetainedBytes: slot.RetainedBytes, WALStatus: slot.WalStatus})
	if s.MaxLag == 0 {
		return ""
	}
	if slot.RetainedBytes > s.MaxLag {
		return fmt.Sprintf("the replication slot retains %d bytes of WAL, more than --slot-max-lag", slot.RetainedBytes)
	}
	if over := slot.RetainedBytes > s.MaxLag/2; over != s.warned {
		s.warned = over
		if over {
			s.Logger.WarnContext(ctx, "the replication slot retains more than half of --slot-max-lag",
				"slot", s.server.Slot, "retained_bytes", slot.RetainedBytes, "wal_status", slot.WalStatus)
		}
	}
	return ""
}
