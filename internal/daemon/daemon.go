// Package daemon is the story of "worker run": seed, listen, verify, deliver,
// until told to stop.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/leader"
	"provwatch/internal/listener"
	"provwatch/internal/observe"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/sink"
	"provwatch/internal/store"
	"provwatch/internal/systemd"
	"provwatch/internal/verify"
	"provwatch/internal/wal"
	"provwatch/internal/web"
)

// reloadPause is the wait before a reload is tried again.
const reloadPause = time.Second

const (
	// notePause is the least time between two notes that everything was verified,
	// so that a flood of verifications is none of writes.
	notePause = time.Second
	// noteTimeout is how long a verification waits for its note.
	noteTimeout = 5 * time.Second
)

// Options configure a daemon.
type Options struct {
	// Environment is the provider configuration at the start; ReadEnvironment
	// reads it again at each reload.
	Environment     environment.Environment
	ReadEnvironment func() (environment.Environment, error)
	// Keys encrypts and decrypts secrets. They are those of the environment, and replaced
	// at each reload.
	Keys *dbcrypt.Ring

	Database       *pgxpool.Config
	ConnectTimeout time.Duration
	Migrate        schema.Mode

	// TolerateBootDrift makes a drift found by the seed an alert instead of an
	// error (--on-boot-drift=alert).
	TolerateBootDrift bool
	// RequireCredentials makes other credentials than the environment's a drift for
	// the seed, not for the watch (--compat=upstream-credentials).
	RequireCredentials bool
	CredentialDrift    drift.CredentialMode
	Resync             time.Duration
	// MaxBackOff bounds, before jitter, the wait until a lost connection or a failed
	// verification is tried again (--max-backoff). A worker can stay not ready for
	// that time after the cause has gone.
	MaxBackOff time.Duration
	// ProbeInterval is after how long a quiet listening connection is probed
	// (--probe-interval). AnswerTimeout is how long a probe, a connection of the
	// listener or a hinted verification may take (--answer-timeout). A server that has
	// stopped answering makes the worker not ready within the two together.
	ProbeInterval, AnswerTimeout time.Duration
	// TakeOverAfter is how long a leader may show no sign of life until a worker that
	// stands by takes over (--takeover-after).
	TakeOverAfter time.Duration

	// Source is where changes come from (--source).
	Source SourceMode
	// SlotMaxLag is how many bytes of WAL the slot may retain (--slot-max-lag).
	SlotMaxLag int64

	// Sinks are what alerts and audit entries are delivered to beside NOTIFY.
	Sinks sink.Options

	// CommandFlags follow each command of the program in messages: those that select
	// a target of --config, each after a space.
	CommandFlags string
	// AnnounceSeed notifies a running gateway of the rows that the seed inserts
	// (--announce-seed).
	AnnounceSeed bool
	// Remedies are the ways out of a drift at the boot, for messages.
	Remedies seed.Remedies

	Serving
	// StopBy tells, once ctx has ended, until when stopping may take.
	StopBy  func() time.Time
	Version string
	Logger  *slog.Logger
}

// Serving is what a process has once, however many databases it watches.
type Serving struct {
	HTTPAddress string // empty: no HTTP
	// HTTPToken is what the status page and the profiler ask for (--http-token-file);
	// absent, they are served on loopback addresses alone.
	HTTPToken secret.Text
	Debug     bool
	// Systemd is told how the daemon does; nil for nobody.
	Systemd *systemd.Service
}

// Run runs until ctx ends, and then stops in order: it takes no more work,
// delivers what is queued and closes its connections, by the time that StopBy
// tells. Each value received from reload reads the environment again
// and verifies everything.
//
// The error is a [*seed.DriftError], [*postgres.UnreachableError],
// [*schema.UnusableError], or another failure of the boot; once the boot is
// done Run never fails.
func Run(ctx context.Context, o Options, reload <-chan os.Signal) error {
	health := health{logger: o.Logger}
	metrics := telling{Metrics: observe.NewMetrics(o.Version), health: &health}
	var life life
	alive := func() error { return life.check(time.Now()) }
	member := o.Systemd.Join(alive)
	stopServing, err := o.Serving.serve(ctx, metrics.Metrics, alive, health.readiness, o.Logger, func(server *observe.Server, access web.Access) {
		metrics.page = mountPage(o, &health, server, access)
	})
	if err != nil {
		return err
	}
	if metrics.page != nil {
		defer func() { metrics.page.close(o.StopBy()) }()
		health.changed = func() { metrics.tell(web.Health) }
	}
	defer stopServing()
	return o.watch(ctx, &course{metrics: metrics, health: &health, life: &life, member: member, say: member.Status, up: func() {}}, reload)
}

// serve serves HTTP, if that is asked for, until the function that it returns is
// called: beside the boot, the watch and the end. mount adds the pages, which are for
// those who have access.
func (s Serving) serve(ctx context.Context, metrics observe.Exposed, alive observe.Liveness, ready observe.Readiness, logger *slog.Logger, mount func(*observe.Server, web.Access)) (stop func(), err error) {
	if s.HTTPAddress == "" {
		return func() {}, nil
	}
	server, err := observe.Listen(ctx, s.HTTPAddress, metrics, alive, ready, logger)
	if err != nil {
		return nil, err
	}
	access := s.access(ctx, server, logger)
	mount(server, access)
	if s.Debug {
		server.Handle(observe.ProfilerPath, access.Guard(observe.Profiler()))
	}
	logger.InfoContext(ctx, "serving HTTP", "address", server.Address())
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	var servers conc.WaitGroup
	servers.Go(func() {
		if err := server.Serve(serving); err != nil {
			logger.ErrorContext(serving, "HTTP server failed", "error", err)
		}
	})
	return func() {
		stopServing()
		servers.Wait()
	}, nil
}

// course is what outlives or shows one run of a daemon.
type course struct {
	metrics telling
	health  *health
	life    *life
	member  *systemd.Member
	say     func(status string) // tells the service manager in words
	up      func()              // is called when the boot is done
	// restarts ends the run when one of its goroutines does, for somebody who runs
	// it again.
	restarts bool
}

// loaded tells that the environment was read, with the error for which it is not
// used.
func (c *course) loaded(err error) {
	c.metrics.Loaded(err == nil)
	c.health.setLoaded(err)
	c.metrics.tell(web.Health)
}

// errEnded says that the watch has ended though nobody asked for it.
var errEnded = errors.New("a part of the worker has ended by itself")

// watch is [Run] of one database.
func (o Options) watch(ctx context.Context, c *course, reload <-chan os.Signal) error {
	c.loaded(nil)
	watching, stopWatching := context.WithCancel(ctx)
	var watch conc.WaitGroup
	defer watch.Wait()
	defer stopWatching()
	waits := o.newWaits(c.health)
	watch.Go(func() { waits.run(watching) })
	pool, err := postgres.Connect(ctx, o.Database, o.ConnectTimeout, o.Logger, c.health.setConnecting)
	if err != nil {
		return stopped(ctx, err)
	}
	c.health.setConnecting(nil)
	defer func() {
		if !postgres.Close(pool, time.Until(o.StopBy())) {
			o.Logger.WarnContext(ctx, "connections not closed: the server does not answer")
		}
	}()
	var published bool
	var plan seed.Plan
	options := []seed.Option{seed.WithKeys(o.Keys), seed.ForTarget(o.CommandFlags), seed.WithRemedies(o.Remedies)}
	if o.RequireCredentials {
		options = append(options, seed.RequireCredentials())
	}
	if o.AnnounceSeed {
		options = append(options, seed.Announce())
	}
	err = postgres.Persist(ctx, o.Database, o.ConnectTimeout, o.Logger, func() error {
		if published, err = o.prepare(ctx, pool); err != nil {
			return err
		}
		if err := o.registerKey(ctx, pool); err != nil {
			return err
		}
		c.health.setConnecting(nil) // it can now wait for a lock, or take its time
		if err := o.prepareSinks(ctx, pool); err != nil {
			return err
		}
		plan, err = seed.Seed(ctx, pool, o.Environment.Providers, o.TolerateBootDrift, o.Logger, options...)
		return err
	}, c.health.setConnecting)
	if err != nil {
		return stopped(ctx, err)
	}
	// From here on nothing needs the credentials of the environment as they are.
	fileVariables := o.Environment.FileVariables
	o.Environment = environment.Environment{}
	c.metrics.Seeded(plan)
	seed.LogPlan(ctx, o.Logger, plan)

	d := &daemon{
		Options:   o,
		course:    c,
		worker:    uuid.New(),
		pool:      pool,
		pending:   verify.NewQueue(),
		deliverer: audit.NewDeliverer(pool, o.Logger, c.metrics),
		verifier:  verify.New(pool, plan.Supported(), o.CredentialDrift, o.Logger, c.metrics),

		fileVariables: fileVariables,
		yield:         o.newYield(),
		unverified:    unverified{limit: unverifiedAfter(o.Resync)},
	}
	d.elector = leader.NewElector(leader.NewLimits(o.TakeOverAfter, o.ProbeInterval, o.AnswerTimeout), o.Logger, d)
	d.sinks = sink.NewRunner(pool, o.Sinks, o.Logger, c.metrics, d.publishFor)
	c.metrics.page.run(d)
	d.published.Store(published)
	d.verifier.Decrypt(o.Keys)
	d.verifier.SetNotComparable(plan.NotComparable(o.CredentialDrift == drift.AlertCredentials))
	d.verifier.AnswerWithin(o.AnswerTimeout)
	c.metrics.Watching(d.verifier.Providers())
	c.up()
	if err := d.watch(ctx, reload); err != nil {
		return err
	}
	d.stop(ctx)
	return nil
}

// prepare makes sure of what the source needs of the schema, and reports whether
// that is the publication.
func (o Options) prepare(ctx context.Context, pool *pgxpool.Pool) (published bool, err error) {
	if _, err := schema.Locate(ctx, pool); err != nil {
		return false, err
	}
	needs, err := o.Source.Needs(ctx, pool)
	needs.Use |= o.sinkUse()
	needs.CommandFlags = o.CommandFlags
	var unusable *wal.UnusableError
	if errors.As(err, &unusable) && unusable.Unpublish {
		err = errors.Join(err, schema.DropPublication(ctx, o.Database.ConnConfig))
	}
	if err != nil {
		return false, err
	}
	err = schema.Ensure(ctx, pool, o.Migrate, needs, o.Logger)
	if err == nil || !needs.Publication || o.Source != AutoSource || ctx.Err() != nil || postgres.IsConnectionLoss(err) {
		return err == nil && needs.Publication, err
	}
	notified := schema.Needs{Triggers: true, Use: schema.Notifications | o.sinkUse(), CommandFlags: o.CommandFlags}
	if schema.Ensure(ctx, pool, o.Migrate, notified, o.Logger) != nil {
		return false, err
	}
	o.Logger.WarnContext(ctx, "the WAL cannot be the source yet", "error", err)
	return false, nil
}

// registerKey registers the first configured key where provwatch made the provider
// tables and the role may.
func (o Options) registerKey(ctx context.Context, pool *pgxpool.Pool) error {
	if o.Migrate != schema.Auto {
		return nil
	}
	digest, err := store.On(pool).RegisterKey(ctx, o.Keys)
	if err == nil && digest != "" {
		o.Logger.InfoContext(ctx, "encryption key registered in dbcrypt_keys", "key", digest)
	}
	return err
}

// stopped turns an error of the boot into none when the reason is that the
// worker was asked to stop.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

type daemon struct {
	Options
	*course
	worker    uuid.UUID
	pool      *pgxpool.Pool
	pending   *verify.Queue
	deliverer *audit.Deliverer
	verifier  *verify.Verifier
	sinks     *sink.Runner

	// fileVariables is that of the environment in use. Of the goroutine that reloads.
	fileVariables int

	elector *leader.Elector
	// unverified is what is seen of the leader's verifications, of the listener's goroutine.
	// leaderPID is the process of the session that leads, while standing by.
	unverified unverified
	leaderPID  atomic.Int32
	term       atomic.Pointer[leader.Term] // nil while standing by

	// yield is how long other standbys come first when this leader resigns. Of the
	// goroutines of the term.
	yield *backoff.ExponentialBackOff

	// The boot has just made sure of the publication, and of the privileges that go
	// with it.
	published atomic.Bool

	// Ends the watch, with the reason.
	end context.CancelCauseFunc

	source atomic.Value // the source of alerts while leading, a string
	told   told
	noted  time.Time // when it was last noted that everything was verified; of the source's goroutine

	// Events to be told of when the next full verification has succeeded.
	booted, reconnected, reloaded atomic.Bool
}

// watch runs until ctx ends and all its goroutines have, and then returns nil.
// Its error is why it has ended before.
func (d *daemon) watch(parent context.Context, reload <-chan os.Signal) error {
	ctx, end := context.WithCancelCause(postgres.Bounded(parent, statementLimits*d.AnswerTimeout))
	defer end(nil)
	d.end = end
	listen := listener.New(postgres.ListenConfig(d.Database), pubsub.ProvidersChanged, d, d.Logger)
	// Triggers are silent in a seed, and a worker that only stands by alerts
	// nothing of what its own seed has ended: the leader looks.
	listen.Also(pubsub.Seeds)
	listen.Wake(pubsub.StagedEntries, d.deliverer.Wake)
	d.listenForSinks(listen)
	listen.Attended(d.elector)
	activity := postgres.ActivityOf(d.Database.ConnConfig)
	listen.Check(func(ctx context.Context, conn *pgx.Conn) error { return activity.CheckServer(ctx, conn, d.pool) })
	listen.Progress(d.life.cameRound)
	listen.RetryWithin(d.MaxBackOff)
	listen.Probe(d.ProbeInterval, d.AnswerTimeout)
	stopping := func() bool { return ctx.Err() != nil }
	start := func(group *conc.WaitGroup, name string, work func()) {
		guarded := d.life.guard(name, stopping, work)
		group.Go(func() {
			if d.restarts {
				// The group keeps a panic until all others have ended.
				defer end(errEnded)
			}
			guarded()
		})
	}
	// The session that leads outlives what is done by it, so that the next leader finds
	// the slot released.
	listening, stopListening := context.WithCancel(context.WithoutCancel(ctx))
	var session, group conc.WaitGroup
	defer session.Wait()
	defer stopListening()
	start(&session, "listener", func() { listen.Run(listening) })
	start(&group, "source", func() { d.follow(ctx) })
	start(&group, "deliverer", func() { d.deliverer.Run(postgres.Aside(ctx), func(err error) { d.mind(ctx, err) }) })
	start(&group, "resync", func() { d.resync(ctx) })
	start(&group, "reload", func() { d.reloadAt(ctx, reload) })
	group.Wait()
	if parent.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// Listening implements [listener.Handler]. Everything is verified after LISTEN
// is in effect, so that no change falls between the two.
func (d *daemon) Listening(reconnected bool) {
	d.metrics.ListenerConnected(reconnected)
	d.health.setListening(nil)
	if reconnected {
		d.reconnected.Store(true)
		d.pending.Add(verify.Everything(pubsub.SourceResync))
	} else {
		d.pending.Add(verify.Everything(pubsub.SourceBoot))
	}
}

// Notified implements [listener.Handler].
func (d *daemon) Notified(payload string) {
	d.metrics.NotificationReceived(d.pending.Hint(payload))
}

// Gather implements [listener.Handler].
func (d *daemon) Gather(on bool) {
	if d.pending.Gather(on) {
		d.metrics.NotificationCoalesced()
	}
}

// QueueUsage implements [listener.Handler].
func (d *daemon) QueueUsage(usage float64) {
	d.metrics.NotifyQueue(usage)
	text := ""
	if usage >= 0.5 {
		text = "filling"
	} else {
		d.told.isNews("queue full", "")
	}
	if d.told.isNews("queue", text) && text != "" {
		d.Logger.Warn("the server's queue of notifications is filling: once it is full, transactions that notify fail",
			"usage", usage, "remedy", queueRemedy)
	}
}

// Lost implements [listener.Handler].
func (d *daemon) Lost(err error) {
	d.metrics.ListenerLost()
	// First of all, since who listens and does not lead stands by.
	d.health.setListening(fmt.Errorf("not listening: %w", postgres.Explain(d.Database, err)))
	d.describe()
}

func (d *daemon) verified(ctx context.Context, request verify.Request, err error) {
	d.life.verified()
	if err != nil && ctx.Err() != nil {
		return // it was broken off, by a stop or with the term
	}
	d.mind(ctx, err)
	defer d.describe()
	if err != nil {
		d.health.setVerified(request.All, fmt.Errorf("the last verification failed: %w", postgres.Explain(d.Database, err)))
		return
	}
	d.health.setVerified(request.All, nil)
	// A standby leaves to the leader what no alert depends on, and what notifications ask
	// for anyway.
	idle := d.term.Load() == nil && d.booted.Load() && !d.reconnected.Load() && request.Source == pubsub.SourceResync
	// Whoever changed a provider may have staged an audit entry as well. The
	// verifier's limit on what a flood of notifications costs holds for this too.
	if !idle {
		d.deliverer.Wake()
	}
	if request.All && !idle || d.health.cannotEncrypt() {
		d.checkEncryption(ctx)
	}
	if !request.All {
		return
	}
	d.noteVerified(ctx)
	d.metrics.tell(web.Resync)
	// A resync can come before the listening connection does.
	if d.health.listens() && !d.booted.Swap(true) {
		d.Logger.InfoContext(ctx, "ready", "providers", d.verifier.Providers(), "worker", d.worker.String())
		d.publishStatus(ctx, pubsub.EventReady, "")
		d.member.Ready()
		if postgres.IsShared(d.Database) {
			// Those of the boot are not kept until they have been idle for long: many
			// databases boot together.
			d.pool.Reset()
		}
	}
	if d.reconnected.Swap(false) {
		d.publishStatus(ctx, pubsub.EventReconnected, "")
	}
	if d.reloaded.Swap(false) {
		d.publishStatus(ctx, pubsub.EventReloaded, "")
	}
}

// noteVerified notes, while leading, that everything has been verified, for
// "worker status" and the pages of others. Nothing depends on it: a failure is
// told, and the next verification notes it again.
func (d *daemon) noteVerified(ctx context.Context) {
	term := d.term.Load()
	if term == nil || time.Since(d.noted) < notePause {
		return
	}
	limited, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	err := store.On(d.pool).NoteVerified(limited, term.Number)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		d.mind(ctx, err)
	} else {
		d.noted = time.Now()
	}
	if d.told.isNewError("verified not noted", err) && err != nil {
		d.Logger.WarnContext(ctx, "that everything was verified is not noted", "error", err)
	}
}

// resync asks for a full verification at each interval, jittered by a tenth so
// that workers started together do not stay together. With it the privileges are checked,
// those of a standby at another time, since that sends few statements in each minute.
// While no key can encrypt, it looks for one that can.
func (d *daemon) resync(ctx context.Context) {
	interval := func() <-chan time.Time {
		return time.After(time.Duration(float64(d.Resync) * (0.9 + 0.2*rand.Float64())))
	}
	// Nobody is notified of a key that the gateway registers.
	keys := time.NewTicker(encryptionPause)
	defer keys.Stop()
	next := interval()
	var between <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-between:
			between = nil
			d.checkPrivileges(ctx)
		case <-keys.C:
			if d.health.cannotEncrypt() {
				d.checkEncryption(ctx)
			}
		case <-next:
			next = interval()
			// One that is missing must be known before a drift needs it.
			if d.term.Load() == nil {
				between = time.After(d.Resync / 2)
			} else {
				d.checkPrivileges(ctx)
			}
			d.life.ask()
			d.pending.Add(verify.Everything(pubsub.SourceResync))
		}
	}
}

// reloadAt reloads at each signal, and again while the database is away, since
// nobody sends a second signal for that.
func (d *daemon) reloadAt(ctx context.Context, reload <-chan os.Signal) {
	// Here, so that the start does not wait for it.
	d.warnOfServed(ctx)
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
		case <-again:
		}
		again = nil
		d.member.Reloading()
		if !d.reload(ctx) {
			again = time.After(reloadPause)
			continue
		}
		d.member.Reloaded()
	}
}

// reload reads the environment again, and with it the keys that encrypt secrets. One
// that cannot be used is reported and changes nothing. It returns false when it is to be
// tried again.
func (d *daemon) reload(ctx context.Context) (done bool) {
	environment, err := d.ReadEnvironment()
	if err != nil {
		d.refuse(ctx, "the environment cannot be used, keeping the one in use", err)
		return true
	}
	// A file that was emptied, or is being written, must not end the watch of all, nor of
	// what the process's own variables do not name.
	var empty error
	switch {
	case len(environment.Providers) == 0 && d.verifier.Providers() > 0:
		empty = seed.ErrNoProviders
	case environment.FileVariables == 0 && d.fileVariables > 0:
		empty = errors.New("its file sets no provider variable any more")
	}
	if empty != nil {
		d.refuse(ctx, "the environment cannot be used, keeping the one in use", empty,
			"remedy", seed.NoProvidersRemedy(d.CommandFlags)+"; to watch nothing, restart the worker")
		return true
	}
	supported, unsupported, err := seed.Supported(ctx, d.pool, environment.Providers)
	if ctx.Err() != nil {
		return true
	}
	if postgres.IsConnectionLoss(err) {
		d.Logger.WarnContext(ctx, "the environment cannot be reloaded while the database is away, trying again",
			"error", err, "retry_in", reloadPause)
		return false
	}
	if err != nil {
		err = schema.Explain(ctx, d.pool, d.roleUse(), err)
		d.refuse(ctx, "the environment cannot be compared with the database, keeping the one in use", err)
		return true
	}
	d.Keys.Replace(environment.Keys)
	for _, warning := range environment.Warnings {
		d.Logger.WarnContext(ctx, warning.Message, "variable", warning.Variable)
	}
	seed.LogUnsupported(ctx, d.Logger, unsupported)
	seed.WarnOfNoProviders(ctx, d.Logger, len(environment.Providers), d.CommandFlags)
	d.verifier.SetDesired(supported)
	d.fileVariables = environment.FileVariables
	d.loaded(nil)
	d.metrics.Watching(len(supported))
	d.Logger.InfoContext(ctx, "environment reloaded", "providers", len(supported))
	d.reloaded.Store(true)
	d.pending.Add(verify.Everything(pubsub.SourceReload))
	d.warnOfServed(ctx)
	return true
}

// refuse reports a reload that changes nothing.
func (d *daemon) refuse(ctx context.Context, message string, err error, more ...any) {
	d.Logger.ErrorContext(ctx, message, append([]any{"error", err}, more...)...)
	d.loaded(err)
}

// publishStatus publishes an event. It is news, not state: after a connection that
// is lost it is tried once more, and can be there twice; a failure is logged and
// nothing more. A publish that a stop interrupts is no failure: the stop is news of
// its own.
func (d *daemon) publishStatus(ctx context.Context, event pubsub.Event, reason string) {
	status := pubsub.Status{
		Event: event, Worker: d.worker, Version: d.Version, Providers: d.verifier.Providers(), At: time.Now(), Reason: reason,
	}
	status.Source, _ = d.source.Load().(string)
	err := pubsub.Publish(ctx, d.pool, pubsub.Statuses, status.Payload())
	if postgres.IsConnectionLoss(err) {
		// The others can be lost as well, and are not noticed to be while they are new.
		d.pool.Reset()
		err = pubsub.Publish(ctx, d.pool, pubsub.Statuses, status.Payload())
	}
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		d.Logger.WarnContext(ctx, "status not published", "event", string(event), "error", err)
	}
}

// stop delivers what is queued. Entries that cannot be delivered in time stay in
// the outbox, and the next start delivers them.
func (d *daemon) stop(ctx context.Context) {
	limited, cancel := context.WithDeadline(context.WithoutCancel(ctx), d.StopBy())
	defer cancel()
	d.Logger.InfoContext(limited, "stopping")
	d.member.Stopping()
	d.publishStatus(limited, pubsub.EventStopping, "")
	if err := d.deliverer.Deliver(limited); err != nil {
		d.Logger.WarnContext(limited, "audit entries stay in the outbox until the next start", "error", err)
	}
	d.Logger.InfoContext(limited, "stopped")
}
