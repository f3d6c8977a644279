package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/leader"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/store"
	"provwatch/internal/verify"
	"provwatch/internal/wal"
)

// SourceMode says where changes come from.
type SourceMode string

// The modes of --source.
const (
	AutoSource   SourceMode = "auto"   // the WAL where it can be read, else notifications
	NotifySource SourceMode = "notify" // notifications
	WALSource    SourceMode = "wal"    // the WAL
)

const (
	// firstReturn and maxReturn bound the wait before --source=auto tries the WAL
	// again that it fell back from.
	firstReturn = 5 * time.Second
	maxReturn   = 5 * time.Minute
	// leadPause is the wait before taking over, or retiring the WAL source, is
	// tried again, triggerPause that before removing triggers is.
	leadPause    = time.Second
	triggerPause = 30 * time.Second
	// triggerInterval is how often the triggers on the provider tables are looked for.
	triggerInterval = 5 * time.Second
	// blindInterval is how often everything is verified at least, while the triggers are
	// missing and cannot be made.
	blindInterval = 45 * time.Second
	// standbyPause is the least time between two verifications of a standby.
	standbyPause = time.Second
)

// Needs tells what the source needs of the schema: triggers to be notified, or a
// publication to read the WAL. The error is a [*schema.UnusableError] when the
// WAL is asked for and cannot be read.
func (m SourceMode) Needs(ctx context.Context, pool *pgxpool.Pool) (schema.Needs, error) {
	if m == NotifySource {
		return schema.Needs{Triggers: true, Use: schema.Notifications}, nil
	}
	_, err := wal.Inspect(ctx, pool)
	var unusable *wal.UnusableError
	switch {
	case err == nil:
		return schema.Needs{Publication: true, Use: schema.WAL}, nil
	case errors.As(err, &unusable) && m == AutoSource:
		return schema.Needs{Triggers: true, Use: schema.Notifications}, nil
	case errors.As(err, &unusable):
		return schema.Needs{}, &schema.UnusableError{Reason: "--source=wal is not possible", Err: err}
	default:
		return schema.Needs{}, err
	}
}

// Prepares tells what is to be made for workers of the source by a role that is
// not theirs, as [SourceMode.Needs] does for one that is: whether it may
// replicate itself makes no difference, and theirs may not, either.
func (m SourceMode) Prepares(ctx context.Context, pool *pgxpool.Pool) (schema.Needs, error) {
	_, err := wal.Inspect(ctx, pool)
	var unusable *wal.UnusableError
	if m != NotifySource && errors.As(err, &unusable) && unusable.RoleOnly {
		return schema.Needs{Publication: true, Triggers: m == AutoSource}, nil
	}
	needs, err := m.Needs(ctx, pool)
	needs.Use = 0
	return needs, err
}

// follow stands by until this worker is the leader, then leads until it no
// longer is, for as long as ctx lasts.
func (d *daemon) follow(ctx context.Context) {
	first := pubsub.SourceBoot
	for {
		d.term.Store(nil)
		d.metrics.Leading(false)
		term, ok := d.standBy(ctx)
		if !ok {
			return
		}
		// Listening asks for the leader's first verification, and no second follows when the
		// worker is ready.
		select {
		case <-term.Listening():
		case <-term.Context().Done(): // the session was lost before
		case <-ctx.Done():
			return
		}
		if term.Context().Err() != nil {
			continue
		}
		d.term.Store(term)
		d.metrics.Leading(true)
		d.Logger.InfoContext(ctx, "leading", "worker", d.worker.String(), "term", term.Number)
		d.publishStatus(ctx, pubsub.EventLeading, "")
		unable := d.leadFor(ctx, term, first)
		if ctx.Err() != nil {
			return
		}
		if unable != nil && !d.resign(ctx, term, unable) {
			return
		}
		d.Logger.WarnContext(ctx, "no longer leading", "reason", context.Cause(term.Context()))
		d.metrics.NotComparableObserved(nil) // the next leader lists them
		d.source.Store("")
		d.describe()
		first = pubsub.SourceResync
	}
}

// leadFor leads until the term ends, or ctx. It returns why this worker must resign, nil
// where it need not.
func (d *daemon) leadFor(ctx context.Context, term *leader.Term, first pubsub.Source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // also where a part of the leader panics
	ended := context.AfterFunc(term.Context(), cancel)
	defer ended()
	var unable error // of the goroutine that watches until it has ended
	var watch conc.WaitGroup
	watch.Go(func() {
		if unable = d.watchAbility(ctx, term); unable != nil {
			cancel()
		}
	})
	d.takeOver(ctx, term, first)
	cancel()
	watch.Wait()
	return unable
}

// takeOver takes over from another leader, and leads until ctx ends.
func (d *daemon) takeOver(ctx context.Context, term *leader.Term, first pubsub.Source) {
	// First of all: sinks begin where the alerts end, also after a restore.
	takeOver := func(ctx context.Context) error { return d.verifier.TakeOver(ctx, term.Number, first) }
	if !d.untilDone(ctx, "not leading yet, trying again", takeOver) {
		return
	}
	// A sink that is stuck ends as soon as it notices the end of its context.
	var sinks conc.WaitGroup
	defer sinks.Wait()
	sinks.Go(func() { d.sinks.Run(postgres.Aside(ctx), term) })
	d.lead(ctx, term, first)
}

// resign gives the term up, once what was done in it has ended: the sinks, and the stream
// with its slot. It reports false when ctx has ended.
func (d *daemon) resign(ctx context.Context, term *leader.Term, unable error) bool {
	yield := d.yield.NextBackOff()
	d.Logger.WarnContext(ctx, "resigning: this worker cannot alert, and another one waits to lead", "error", unable, "term", term.Number, "yield", yield.Round(time.Second))
	d.elector.Resign(term, yield)
	select {
	case <-term.Context().Done():
		return true
	case <-ctx.Done():
		return false
	}
}

// standBy verifies without publishing, so that its connections, caches and
// errors are those of a worker that is ready to lead, and sees whether the leader records
// what it finds. It returns the term when it begins, and false when ctx ends.
func (d *daemon) standBy(ctx context.Context) (*leader.Term, bool) {
	defer d.life.take()()
	defer d.leaves()
	watch := unrecorded{limit: d.TakeOverAfter * 3 / 2}
	var pause, again <-chan time.Time
	said := false
	for {
		// Leading comes first: what is pending is then for the leader to verify.
		select {
		case term := <-d.elector.Terms():
			return term, true
		default:
		}
		ready := d.pending.Ready()
		if pause != nil {
			ready = nil
		}
		if again == nil && len(watch.since) > 0 {
			again = time.After(watch.limit / 3)
		}
		select {
		case <-ctx.Done():
			return nil, false
		case term := <-d.elector.Terms():
			return term, true
		case <-pause:
			pause = nil
		case <-again:
			again = nil
			names := watch.names()
			term, found, err := d.lookUntilElected(ctx, func(ctx context.Context) ([]verify.Transition, error) { return d.verifier.StillUnrecorded(ctx, names) })
			if term != nil || ctx.Err() != nil {
				return term, term != nil
			}
			if err == nil {
				watch.see(found, names, time.Now())
				d.reportUnrecorded(ctx, &watch)
			}
		case <-ready:
			// A session tries to lead before it counts as listening: one that listens
			// here, and was not elected, stands by.
			listens := d.health.worker().Listening
			select {
			case term := <-d.elector.Terms():
				return term, true
			default:
			}
			if listens && !said {
				d.sayStandingBy(ctx)
				said = true
			}
			request, ok := d.pending.Get()
			if !ok {
				continue
			}
			term, found, err := d.lookUntilElected(ctx, func(ctx context.Context) ([]verify.Transition, error) { return d.verifier.Unrecorded(ctx, request) })
			if term != nil {
				d.pending.Retry(request)
				return term, true
			}
			if ctx.Err() != nil {
				d.pending.Retry(request)
				return nil, false
			}
			d.verified(ctx, request, err)
			d.sayAgain(ctx, "verification failed, trying again", err, standbyPause)
			if err != nil {
				d.pending.Retry(request)
			} else {
				d.pending.Done()
			}
			watch.see(found, nil, time.Now())
			pause = time.After(standbyPause)
		}
	}
}

// lookUntilElected verifies without publishing, and breaks that off when this worker is
// elected meanwhile: it then returns the term. A verification can wait for minutes, in which
// no other worker leads.
func (d *daemon) lookUntilElected(ctx context.Context, look func(context.Context) ([]verify.Transition, error)) (*leader.Term, []verify.Transition, error) {
	type result struct {
		found []verify.Transition
		err   error
	}
	looked := make(chan result, 1)
	var looker conc.WaitGroup
	defer looker.Wait()
	looking, cancel := context.WithCancel(ctx)
	defer cancel() // before it is waited for
	looker.Go(func() {
		found, err := look(looking)
		looked <- result{found, err}
	})
	select {
	case term := <-d.elector.Terms():
		return term, nil, nil
	case r := <-looked:
		return nil, r.found, r.err
	}
}

// NoLeader implements [leader.Observer].
func (d *daemon) NoLeader(err error) {
	d.health.setLeader(err)
	matter := ""
	if err != nil {
		matter = reason{"leader", err}.matter() // the text has for how long
	}
	if d.told.isNews("leader silent", matter) && err != nil {
		d.Logger.Warn("no live leader is seen", "error", err)
	}
}

// AlertsSeen implements [leader.Observer].
func (d *daemon) AlertsSeen(epoch uuid.UUID, lastSeq int64) { d.verifier.AlertsSeen(epoch, lastSeq) }

// sayStandingBy logs that this worker stands by, and for which session, where that
// can be told.
func (d *daemon) sayStandingBy(ctx context.Context) {
	logger := d.Logger
	workers, err := store.On(d.pool).ListWorkers(ctx, 1)
	// The one that leads comes first.
	if err == nil && len(workers) > 0 && workers[0].Leads {
		leader := workers[0]
		logger = logger.With("leader_session", leader.Pid, "leader_role", leader.Role)
		if leader.Address != "" {
			logger = logger.With("leader_address", leader.Address)
		}
		if leader.BackendStart != nil {
			logger = logger.With("leader_since", leader.BackendStart.UTC().Format(time.RFC3339))
		}
	}
	logger.InfoContext(ctx, "standing by until the leader ends", "worker", d.worker.String())
}

// lead publishes alerts from the source, one at a time, until ctx ends with the
// leadership. first is the source of the verification that it begins with.
func (d *daemon) lead(ctx context.Context, term *leader.Term, first pubsub.Source) {
	back := backoff.NewExponentialBackOff()
	back.InitialInterval, back.MaxInterval = firstReturn, maxReturn
	if d.Source == WALSource {
		// There is no other source meanwhile: the worker is not ready.
		back.InitialInterval, back.MaxInterval = min(firstReturn, d.MaxBackOff), d.MaxBackOff
	}
	for ctx.Err() == nil {
		reason := ""
		if d.Source != NotifySource {
			began := time.Now()
			err := d.readWAL(ctx, term, first)
			if err == nil {
				return
			}
			if time.Since(began) > maxReturn {
				back.Reset()
			}
			var unusable *wal.UnusableError
			if errors.As(err, &unusable) && unusable.Unpublish {
				d.unpublish(ctx)
			}
			reason = err.Error()
			// Where notifications are the source already, it was tried whether the WAL can
			// take over: what they have verified stands.
			if d.source.Load() != string(NotifySource) {
				d.verified(ctx, verify.Request{All: true}, err)
			}
			if d.Source == WALSource {
				wait := back.NextBackOff()
				d.Logger.ErrorContext(ctx, "the WAL cannot be read, trying again", "error", err, "retry_in", wait)
				select {
				case <-ctx.Done():
				case <-time.After(wait):
				}
				continue
			}
			first = pubsub.SourceResync
		}
		limit := time.Duration(0)
		if d.Source == AutoSource {
			limit = back.NextBackOff()
		}
		d.readNotifications(ctx, term, first, reason, limit)
		first = pubsub.SourceResync
	}
}

// untilDone tries until do succeeds, which it reports, or ctx ends. Nothing is
// verified meanwhile, so that the worker is not ready. message is logged of failures.
func (d *daemon) untilDone(ctx context.Context, message string, do func(context.Context) error) bool {
	for {
		err := do(ctx)
		if ctx.Err() != nil {
			return false
		}
		d.sayAgain(ctx, message, err, leadPause)
		if err == nil {
			return true
		}
		d.verified(ctx, verify.Request{All: true}, err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(leadPause):
		}
	}
}

// sayAgain logs the error of what is tried again soon, unless it is what was logged
// before of the same; nil for none. Many databases of one server fail together.
func (d *daemon) sayAgain(ctx context.Context, message string, err error, retryIn time.Duration) {
	if d.told.isNewError(message, err) && err != nil {
		d.Logger.WarnContext(ctx, message, "error", err, "retry_in", retryIn)
	}
}

// use records and announces the source that alerts come from now.
func (d *daemon) use(ctx context.Context, source SourceMode, reason string) {
	if before, _ := d.source.Swap(string(source)).(string); before == string(source) {
		return
	}
	d.metrics.SourceUsed(string(source))
	d.describe()
	if reason == "" {
		d.Logger.InfoContext(ctx, "alerts come from this source now", "source", string(source))
	} else {
		d.Logger.WarnContext(ctx, "alerts come from this source instead", "source", string(source), "reason", reason)
	}
	d.publishStatus(ctx, pubsub.EventSource, reason)
}

// readWAL leads by the WAL. It returns nil when ctx ends, and otherwise why the
// WAL cannot be read.
func (d *daemon) readWAL(ctx context.Context, term *leader.Term, first pubsub.Source) error {
	if d.Source == AutoSource && !d.published.Load() {
		if err := lacksForWAL(ctx, d.pool); err != nil {
			return err
		}
	}
	reader := wal.Reader{
		Pool:       d.pool,
		Config:     postgres.ReplicationConfig(d.Database),
		Verifier:   d.verifier,
		Keys:       d.Keys,
		Pending:    d.pending,
		MaxLag:     d.SlotMaxLag,
		MaxBackOff: d.MaxBackOff,
		Logger:     d.Logger,
		Metrics:    d.metrics,
		Host:       walHost{d, ctx},
		Fallback:   d.Source == AutoSource,
		Term:       term,
	}
	return reader.Run(ctx, first)
}

// walHost implements [wal.Host] for one call of [daemon.readWAL].
type walHost struct {
	d   *daemon
	ctx context.Context // of that call, which outlives each stream
}

// Publish implements [wal.Host]: nothing is left to do where the boot has just done it.
func (h walHost) Publish(ctx context.Context) error {
	if h.d.published.Swap(false) {
		return nil
	}
	return schema.Ensure(ctx, h.d.pool, h.d.Migrate, schema.Needs{Publication: true, CommandFlags: h.d.CommandFlags}, h.d.Logger)
}

// Streaming implements [wal.Host].
func (h walHost) Streaming(ctx context.Context) {
	context.AfterFunc(ctx, h.d.life.take())
	h.d.use(ctx, WALSource, "")
	h.d.removeTriggers(postgres.Aside(ctx))
}

// Verified implements [wal.Host].
func (h walHost) Verified(request verify.Request, err error) { h.d.verified(h.ctx, request, err) }

// lacksForWAL returns what the role lacks for the WAL and not for notifications: a
// reason to fall back. One that could not be asked about is none, such as a
// connection that was lost. The slot would be given up for it, and with the slot
// what was changed meanwhile; a session meets it again, and waits for it to pass.
func lacksForWAL(ctx context.Context, pool *pgxpool.Pool) error {
	var lacking *schema.UnusableError
	err := schema.CheckPrivileges(ctx, pool, schema.WAL)
	if !errors.As(err, &lacking) || schema.CheckPrivileges(ctx, pool, schema.Notifications) != nil {
		return nil
	}
	return err
}

// removeTriggers removes the triggers that notifications needed, and tries again
// for as long as a provider table is in use.
func (d *daemon) removeTriggers(ctx context.Context) {
	if d.Migrate != schema.Auto {
		return
	}
	for {
		err := schema.RemoveTriggers(ctx, d.pool)
		if err == nil || ctx.Err() != nil {
			return
		}
		if schema.IsDenied(err) {
			if d.told.isNews("triggers stay", err.Error()) {
				d.Logger.InfoContext(ctx, "triggers that the WAL source does not need stay, since the role does not own the provider tables", "error", err)
			}
			return
		}
		d.Logger.InfoContext(ctx, "triggers that the WAL source does not need are still there", "error", err, "retry_in", triggerPause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(triggerPause):
		}
	}
}

// unpublish drops the publication, which makes writing to the provider tables
// fail as they are.
func (d *daemon) unpublish(ctx context.Context) {
	err := schema.DropPublication(ctx, d.Database.ConnConfig)
	if err != nil && ctx.Err() == nil && d.told.isNews("unpublish", err.Error()) {
		d.Logger.ErrorContext(ctx, "the publication makes writing to the provider tables fail and cannot be dropped", "error", err,
			"remedy", "DROP PUBLICATION provwatch, as its owner")
	}
}

// readNotifications leads by notifications until ctx ends, or for as long as limit says, 0
// for no limit. What the WAL source has kept is forgotten first, which takes none of that
// time: it does not know of what is alerted from here on, and a slot that nobody reads keeps
// the server's disk filling.
func (d *daemon) readNotifications(ctx context.Context, term *leader.Term, first pubsub.Source, reason string, limit time.Duration) {
	retire := func(ctx context.Context) error { return d.retireSlot(ctx, term, reason) }
	if !d.untilDone(ctx, "the WAL source is not retired, trying again", retire) {
		return
	}
	if limit > 0 {
		limited, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		ctx = limited
	}
	d.use(ctx, NotifySource, reason)
	d.warnOfPrepared(ctx)
	d.pending.Add(verify.Everything(first))
	var group conc.WaitGroup
	defer group.Wait()
	keeping, stop := context.WithCancel(ctx)
	defer stop() // also where the verifier panics
	// Without triggers everything is verified now and then.
	group.Go(func() { d.keepTriggers(postgres.Aside(keeping)) })
	defer d.life.take()()
	d.verifier.Run(ctx, d.pending, d.MaxBackOff, func(r verify.Request, err error) { d.verified(ctx, r, err) })
}

// warnOfPrepared warns where a transaction that changes a provider cannot be prepared: the
// triggers notify, and PostgreSQL prepares no transaction that does.
func (d *daemon) warnOfPrepared(ctx context.Context) {
	prepared, err := store.On(d.pool).MaxPrepared(ctx)
	if err == nil && prepared > 0 && d.told.isNews("prepared", "warned") {
		d.Logger.WarnContext(ctx, "PREPARE TRANSACTION fails for transactions that change a provider while notifications are the source",
			"max_prepared_transactions", prepared, "remedy", "--source=wal, where a writer prepares its transactions")
	}
}

// keepTriggers ensures the triggers on the provider tables until ctx ends. Tables that
// are dropped and created again, as by an upgrade of the gateway, have none: they get
// them, and everything is verified. While triggers are missing, from the start or later,
// or do not fire in every session, everything is verified at least each [blindInterval].
func (d *daemon) keepTriggers(ctx context.Context) {
	// Making triggers waits for writers, and makes others wait behind it: after a
	// failure it is tried less and less often.
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = triggerInterval, maxReturn
	var failed error    // of the last attempt to make them
	var tryAt time.Time // when the next one is due
	for first := true; ; first = false {
		state, err := schema.FindTriggers(ctx, d.pool)
		known := err == nil
		blind := known && state != schema.TriggersAlways
		tries := blind && d.Migrate == schema.Auto && !time.Now().Before(tryAt)
		switch {
		case !known:
		case first, tries:
			err = d.makeTriggers(ctx, &state)
			if blind && err == nil {
				// What was changed before has not been notified of.
				d.pending.Add(verify.Everything(pubsub.SourceResync))
			}
			failed = err
		case blind && d.Migrate == schema.Auto:
			err = failed
		case blind:
			err = d.lackTriggers(state)
		}
		if ctx.Err() == nil && d.told.isNewError("no triggers", err) && err != nil {
			d.Logger.WarnContext(ctx, "triggers not made sure of: changes are seen late", "error", err)
		}
		pause := triggerInterval
		switch {
		case err == nil:
			wait.Reset()
		case blind:
			// No notification comes of what is changed, nor of a table that the role may not read.
			d.pending.Add(verify.Everything(pubsub.SourceResync))
			pause = blindInterval
			if d.Migrate != schema.Auto || tries {
				pause = wait.NextBackOff()
			}
			if tries && !schema.IsDenied(err) { // writers wait for it
				tryAt = time.Now().Add(pause)
			}
			pause = min(pause, blindInterval)
		default:
			pause = wait.NextBackOff()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// makeTriggers makes the triggers where they are missing and that is asked for, and takes
// over their state. It fails unless they fire in every session then.
func (d *daemon) makeTriggers(ctx context.Context, state *schema.TriggerState) error {
	err := schema.Ensure(ctx, d.pool, d.Migrate, schema.Needs{Triggers: true, CommandFlags: d.CommandFlags}, d.Logger)
	if err != nil || *state == schema.TriggersAlways {
		return err
	}
	if *state, err = schema.FindTriggers(ctx, d.pool); err != nil {
		return err
	}
	return d.lackTriggers(*state)
}

// lackTriggers says what the triggers lack, nil for nothing.
func (d *daemon) lackTriggers(state schema.TriggerState) error {
	what := "they are missing"
	switch state {
	case schema.TriggersAlways:
		return nil
	case schema.TriggersPartial:
		what = "they do not fire in sessions with session_replication_role = replica"
	}
	return fmt.Errorf("%s; run \"worker migrate%s --source=notify\" as the owner of the tables", what, d.CommandFlags)
}

// retireSlot forgets the position in the WAL, which is a gap if there was one, and drops
// the slot if it can.
func (d *daemon) retireSlot(ctx context.Context, term *leader.Term, reason string) error {
	if err := term.Confirm(ctx, d.pool); err != nil {
		return err
	}
	if reason == "" {
		reason = "notifications are the source"
	}
	var forgotten int64
	var gap verify.Recorded
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) (err error) {
		if err := store.On(tx).LimitIdle(ctx); err != nil {
			return err
		}
		if forgotten, err = store.On(tx).ForgetWALPosition(ctx, term.Number); err != nil || forgotten == 0 {
			return err
		}
		gap, err = d.verifier.Gap(ctx, tx, reason, pubsub.SourceNotify)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget the position in the WAL: %w", err)
	}
	if forgotten > 0 {
		d.verifier.Announce(ctx, gap)
	}
	server, err := wal.Inspect(ctx, d.pool)
	if server.Slot == "" {
		return err
	}
	if _, err := wal.DropSlot(ctx, d.pool, server.Slot); err != nil && ctx.Err() == nil {
		d.Logger.WarnContext(ctx, "the replication slot is not dropped", "error", err, "remedy", "worker slot drop"+d.CommandFlags)
	}
	return nil
}
