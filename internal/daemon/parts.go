package daemon

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/listener"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/retention"
	"provwatch/internal/rollout"
	"provwatch/internal/sink"
	"provwatch/internal/systemd"
	"provwatch/internal/verify"
)

// errEnded is why a run ends that was not asked to.
var errEnded = errors.New("a part of the worker has ended by itself")

// exposure is what shows a run from outside.
type exposure struct {
	supervisor Supervisor // nil where the process ends with the run
	member     *systemd.Member
	page       *statusPage
	metrics    *instruments
	health     *health
	liveness   *liveness
}

// parts are the parts of a run, once its boot is done. Each belongs to a goroutine or
// names the goroutines that share it.
type parts struct {
	options    Options
	worker     uuid.UUID
	pool       *pgxpool.Pool
	supervisor Supervisor // nil where the process ends with the run
	member     *systemd.Member
	liveness   *liveness

	verifier    *verify.Verifier
	unsupported *atomic.Pointer[[]string] // of the page
	deliverer   *audit.Deliverer
	sinks       *sink.Runner
	leadership  *leadership
	publisher   *publisher
	faults      *faults
	hints       *hints
	elector     *leader.Elector
	participant *participant
	membership  *membership
	files       *files
	resync      *resync
	reloader    *reloader
}

// newParts connects the parts of a run.
func newParts(o Options, done booted, member *rollout.Member, shown exposure) *parts {
	pool, logger := done.pool, o.Logger
	metrics, health, liveness := shown.metrics, shown.health, shown.liveness
	worker, pending := member.ID(), verify.NewQueue()
	deliverer := audit.NewDeliverer(pool, logger, metrics)
	verifier := verify.New(pool, done.plan.Supported(), o.CredentialDrift, logger, metrics)
	verifier.Decrypt(o.Keys)
	verifier.JoinAs(member)
	if done.older == nil {
		verifier.SetNotComparable(done.plan.NotComparable(o.CredentialDrift == drift.AlertCredentials))
	}
	verifier.AnswerWithin(o.AnswerTimeout)
	verifier.AlertAfter(o.AlertAfter)
	verifier.LookForUnmanaged(o.Unmanaged)

	unsupported, names := &atomic.Pointer[[]string]{}, done.plan.Unsupported()
	unsupported.Store(&names)
	verifier.SetDesired(done.plan.Supported(), slices.Concat(names, o.Environment.Skipped)...)

	leadership := &leadership{}
	report := &report{observe: o.Observe, supervisor: shown.supervisor, member: shown.member, health: health, verifier: verifier, leadership: leadership}
	publisher := &publisher{pool: pool, worker: worker, version: o.Version, verifier: verifier, leadership: leadership, logger: logger}
	privileges := &privileges{pool: pool, mode: o.Source, uses: o.uses(), leadership: leadership, health: health, logger: logger}
	queue := &notifyQueue{pool: pool, metrics: metrics, logger: logger}
	faults := &faults{pool: pool, privileges: privileges, queue: queue}
	encryption := &encryption{pool: pool, keys: o.Keys, migrate: o.Migrate, observe: o.Observe, privileges: privileges, health: health, logger: logger}
	verifications := &verifications{
		worker: worker, pool: pool, database: o.Database, verifier: verifier, deliverer: deliverer, leadership: leadership,
		faults: faults, encryption: encryption, publisher: publisher, health: health, liveness: liveness, page: shown.page, report: report, member: shown.member, logger: logger,
	}
	triggers := &triggers{pool: pool, migrate: o.Migrate, pending: pending, logger: logger}
	sinks := sink.NewRunner(pool, o.Sinks, logger, metrics, publisher, verifier)
	pruner := retention.NewRunner(o.Database, o.Keep, logger, metrics, faults)

	check := &leaderCheck{pool: pool, verifier: verifier, health: health, logger: logger, monitor: verificationMonitor{limit: unverifiedAfter(o.Resync)}}
	elector := leader.NewElector(leader.NewLimits(o.TakeOverAfter, o.ProbeInterval, o.AnswerTimeout), logger, check)
	membership := &membership{
		member: member, pool: pool, verifier: verifier, health: health, metrics: metrics, report: report, logger: logger, forgets: forgetInterval, woken: make(chan struct{}, 1),
	}
	elector.Ask(membership)
	files := newFiles(member, pool, health, logger, o.StopBy)
	current := &sourceSwitch{leadership: leadership, publisher: publisher, metrics: metrics, report: report, logger: logger}
	preparation := &preparation{verifications: verifications, logger: logger}
	fromWAL := &walSource{
		options: o, pool: pool, pending: pending, verifier: verifier, verifications: verifications, triggers: triggers, current: current, liveness: liveness, metrics: metrics,
	}
	fromWAL.published.Store(done.published)
	fromNotifications := &notifySource{
		maxBackOff: o.MaxBackOff, observe: o.Observe, pool: pool, pending: pending, verifier: verifier, verifications: verifications,
		triggers: triggers, current: current, preparation: preparation, liveness: liveness, logger: logger,
	}
	yield := newYield(o.TakeOverAfter)
	return &parts{
		options: o, worker: worker, pool: pool, unsupported: unsupported, supervisor: shown.supervisor, member: shown.member, liveness: liveness,
		verifier: verifier, deliverer: deliverer, sinks: sinks, leadership: leadership, publisher: publisher, faults: faults, elector: elector,
		hints: &hints{database: o.Database, pending: pending, queue: queue, health: health, liveness: liveness, metrics: metrics, report: report},
		participant: &participant{
			worker: worker, elector: elector, leadership: leadership, publisher: publisher, metrics: metrics, report: report, logger: logger, yield: yield,
			standby: &standby{
				worker: worker, takeOverAfter: o.TakeOverAfter, pool: pool, elector: elector, pending: pending, verifier: verifier, verifications: verifications,
				check: check, health: health, liveness: liveness, logger: logger,
			},
			leading: &leading{
				pending: pending, verifier: verifier, member: member, sinks: sinks, pruner: pruner, preparation: preparation,
				ability: &abilityCheck{pool: pool, health: health, takeOverAfter: o.TakeOverAfter, answerTimeout: o.AnswerTimeout, yield: yield},
				sources: &sources{
					mode: o.Source, maxBackOff: o.MaxBackOff, wal: fromWAL, notifications: fromNotifications, leadership: leadership, verifications: verifications, logger: logger,
				},
			},
		},
		membership: membership,
		files:      files,
		resync: &resync{
			interval: o.Resync, pending: pending, leadership: leadership, privileges: privileges, encryption: encryption, health: health, liveness: liveness,
		},
		reloader: &reloader{
			options: o, pool: pool, pending: pending, verifier: verifier, membership: membership, files: files, privileges: privileges, metrics: metrics, member: shown.member,
			fileVariables: done.fileVariables, unsupported: unsupported,
		},
	}
}

// run runs the goroutines of a run until ctx ends and all of them have, and then returns
// nil. Its error is why the run has ended before.
func (p *parts) run(parent context.Context, reload <-chan struct{}) error {
	ctx, end := context.WithCancelCause(postgres.Bounded(parent, statementLimits*p.options.AnswerTimeout))
	defer end(nil)
	supervised := p.supervisor != nil
	if supervised {
		p.faults.restart = end
	}
	listen := p.newListener()
	start := func(group *conc.WaitGroup, name string, work func()) {
		group.Go(func() {
			if supervised {
				// The group keeps a panic until all others have ended.
				defer end(errEnded)
			}
			defer p.liveness.recordEnd(ctx, name)
			work()
		})
	}
	// The session that leads outlives what is done by it, so that the next leader finds
	// the slot released.
	listening, stopListening := context.WithCancel(context.WithoutCancel(ctx))
	var session, group conc.WaitGroup
	defer session.Wait()
	defer stopListening()
	start(&session, "listener", func() { listen.Run(listening) })
	start(&group, "source", func() { p.participant.run(ctx) })
	start(&group, "deliverer", func() { p.deliverer.Run(ctx, p.faults) })
	start(&group, "membership", func() { p.membership.run(ctx) })
	start(&group, "files", func() { p.files.run(ctx) })
	start(&group, "resync", func() { p.resync.run(ctx) })
	start(&group, "reload", func() { p.reloader.run(ctx, reload) })
	group.Wait()
	if parent.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// newListener returns the listener of the run, with what its session is for.
func (p *parts) newListener() *listener.Listener {
	o := p.options
	config := postgres.ListenConfig(o.Database)
	if o.Observe {
		config = postgres.ObserverConfig(o.Database)
	}
	listen := listener.New(config, p.hints, o.Logger)
	listen.Handle(pubsub.ProvidersChanged, p.hints)
	// Triggers are silent in a seed, and a worker that only stands by alerts nothing of what
	// its own seed has ended: the leader verifies it.
	listen.Handle(pubsub.Seeds, p.hints)
	listen.Handle(pubsub.Environments, listener.HandlerFunc(func(string) { p.membership.wake() }))
	listen.Handle(pubsub.StagedEntries, listener.HandlerFunc(func(string) {
		p.deliverer.Wake()
		p.verifier.AcceptancesChanged() // each has an audit entry
	}))
	listen.Handle(pubsub.Silences, listener.HandlerFunc(func(string) { p.verifier.SilencesChanged() }))
	if len(o.Sinks.Sinks) > 0 {
		// Sinks run while this session leads, so that no event is missed, whichever worker or
		// command publishes it.
		listen.Handle(pubsub.DriftAlerts, listener.HandlerFunc(func(string) { p.sinks.Wake(sink.Drift) }))
		listen.Handle(pubsub.AuditEntries, listener.HandlerFunc(func(string) { p.sinks.Wake(sink.Audit) }))
		listen.Handle(pubsub.SinkRequests, listener.HandlerFunc(func(string) { p.sinks.Attend() }))
	}
	listen.Attended(p.elector)
	listen.Guard(&serverGuard{pool: p.pool})
	listen.RetryWithin(o.MaxBackOff)
	listen.Probe(o.ProbeInterval, o.AnswerTimeout)
	return listen
}

// stop delivers what is queued. Entries that cannot be delivered in time stay in the outbox,
// and the next start delivers them.
func (p *parts) stop(ctx context.Context) {
	limited, cancel := context.WithDeadline(context.WithoutCancel(ctx), p.options.StopBy())
	defer cancel()
	logger := p.options.Logger
	logger.InfoContext(limited, "stopping")
	p.member.Stopping()
	p.publisher.publish(limited, pubsub.EventStopping, "")
	if err := p.deliverer.Deliver(limited); err != nil {
		logger.WarnContext(limited, "audit entries stay in the outbox until the next start", "error", err)
	}
	logger.InfoContext(limited, "stopped")
}
