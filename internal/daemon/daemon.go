// Package daemon is "worker run" for one database, from boot to stop.
//
//	        Run            seeded             ctx ended
//	absent ─────▶ booting ────────▶ running ────────────▶ stopping ─▶ absent
//	   ▲             │                 │
//	   │  the boot has failed,         │ a part has ended by itself,
//	   └─────────────┴─────────────────┘ where a supervisor runs it again
//
// A [Daemon] is what outlives a run: metrics, status page, and the health of the latest run.
// A run consists of parts, each a type in a file of its own with the goroutine that it
// belongs to; parts.go connects them. While a run lasts, its [participant] stands by and leads
// by turns.
package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/sourcegraph/conc"

	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/lockwait"
	"provwatch/internal/observe"
	"provwatch/internal/postgres"
	"provwatch/internal/remedy"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/seed"
	"provwatch/internal/status"
	"provwatch/internal/systemd"
	"provwatch/internal/web"
)

// Daemon watches one database, in one run after the other. Apart from [Daemon.Run],
// [Daemon.Ended] and [Daemon.Failed], which one goroutine calls, its methods may be called by
// several goroutines.
type Daemon struct {
	version string
	started time.Time
	metrics *observe.Metrics
	member  *systemd.Member
	page    *statusPage
	logger  *slog.Logger
	// supervisor is nil where the process ends with the run.
	supervisor Supervisor

	mu       sync.Mutex // of what follows; the goroutine of Run writes it
	health   *health    // of the latest run
	liveness *liveness  // of the latest run
	failed   error      // why the latest run has ended, until the boot of the next is done
}

// New returns a daemon that joins the service. supervisor is nil where the process ends with
// the run; else a run ends when one of its goroutines does.
func New(version string, metrics *observe.Metrics, service *systemd.Service, logger *slog.Logger, supervisor Supervisor) *Daemon {
	d := &Daemon{
		version: version, started: time.Now(), metrics: metrics, page: &statusPage{}, logger: logger, supervisor: supervisor,
		liveness: &liveness{},
	}
	d.health = &health{logger: logger, display: d.page}
	d.member = service.Join(d)
	return d
}

// Run runs a daemon until ctx ends, as the only one of its process, and serves HTTP beside
// it. It then stops in order: it takes no more work, delivers what is queued and closes its
// connections, by the time that StopBy returns. For each value received from reload it reads
// the environment again and verifies everything.
//
// The error is a [*seed.DriftError], [*postgres.UnreachableError], [*schema.UnusableError],
// or another failure of the boot; once the boot is done Run never fails.
func Run(ctx context.Context, o Options, reload <-chan struct{}) error {
	metrics := observe.NewMetrics(o.Version)
	d := New(o.Version, metrics, o.Serving.Systemd, o.Logger, nil)
	server, err := o.Serving.Listen(ctx, metrics, d, o.Logger)
	if err != nil {
		return err
	}
	if server != nil {
		shown := d.Page()
		shown.Access = server.Access
		page := web.New(shown)
		d.ShowOn(page)
		d.page.boot(o)
		server.Mount(web.Paths, page)
		defer func() { d.ClosePage(o.StopBy()) }()
	}
	defer server.Start(ctx)()
	return d.Run(ctx, o, reload)
}

// Run boots, runs until ctx ends, and stops. Its error is that of the boot, or why the run
// has ended by itself, where a supervisor runs it again.
func (d *Daemon) Run(ctx context.Context, o Options, reload <-chan struct{}) error {
	o.Logger = d.logger
	if o.Observe && o.Migrate == schema.Auto {
		o.Migrate = schema.Check
	}
	d.page.boot(o)
	return o.Site.Error(d.run(ctx, o, d.next(o.Site), reload))
}

// next returns what shows the next run.
func (d *Daemon) next(site remedy.Site) exposure {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health, d.liveness = d.health.next(site), &liveness{}
	return exposure{
		supervisor: d.supervisor, member: d.member, page: d.page, health: d.health, liveness: d.liveness,
		metrics: &instruments{Metrics: d.metrics, page: d.page, health: d.health},
	}
}

// run is [Daemon.Run] with what shows this run.
func (d *Daemon) run(ctx context.Context, o Options, shown exposure, reload <-chan struct{}) error {
	shown.metrics.loaded(o.Environment.Files)
	shown.metrics.Observing(o.Observe)
	checking, stopChecking := context.WithCancel(ctx)
	var check conc.WaitGroup
	defer check.Wait()
	defer stopChecking()
	late := newLateCheck(o, shown.health, lockwait.NewMonitor(o.Database, o.patience()))
	check.Go(func() { late.run(checking) })
	member := rollout.NewMember(uuid.New(), o.RollbackAfter, o.rolloutRole())
	boot := boot{options: &o, member: member, health: shown.health}
	pool, err := boot.connect(ctx)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	defer func() {
		if !postgres.Close(pool, time.Until(o.StopBy())) {
			o.Logger.WarnContext(ctx, "connections not closed: the server does not answer")
		}
	}()
	done, err := boot.run(ctx, pool)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	// From here on nothing needs the credentials of the environment in plain text.
	o.Environment = environment.Environment{}
	switch {
	case done.older != nil:
		seed.LogOlder(ctx, o.Logger, done.plan, done.older)
	case o.Observe:
		seed.LogObserved(ctx, o.Logger, done.plan)
	default:
		shown.metrics.Seeded(done.plan)
		seed.LogPlan(ctx, o.Logger, done.plan)
	}

	p := newParts(o, done, member, shown)
	d.page.run(&displayedRun{worker: p.worker, verifier: p.verifier, leadership: p.leadership, unsupported: p.unsupported})
	shown.metrics.Watching(p.verifier.Providers())
	d.booted()
	if err := p.run(ctx, reload); err != nil {
		return err
	}
	p.stop(ctx)
	return nil
}

// booted records that the boot is done.
func (d *Daemon) booted() {
	d.mu.Lock()
	d.failed = nil
	d.mu.Unlock()
	if d.supervisor != nil {
		d.supervisor.Booted()
	}
	d.page.Changed(web.Health)
}

// Ended has metrics and page show no run, once [Daemon.Run] has returned or panicked.
func (d *Daemon) Ended() {
	d.page.end()
	d.metrics.Leading(false)
	d.metrics.Older(false)
	d.metrics.ListenerLost()
}

// Failed records why the run has ended, until the boot of the next is done.
func (d *Daemon) Failed(err error) {
	d.mu.Lock()
	d.failed, d.liveness, d.health = err, &liveness{}, d.health.next(d.health.site)
	d.mu.Unlock()
	d.page.Changed(web.Health | web.Leader)
	d.member.Tried()
}

// current returns the health of the latest run, and why that has failed.
func (d *Daemon) current() (*health, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.health, d.failed
}

// Alive implements [observe.Health] and [systemd.Daemon].
func (d *Daemon) Alive() error {
	d.mu.Lock()
	liveness := d.liveness
	d.mu.Unlock()
	return liveness.check(time.Now())
}

// Ready implements [observe.Health].
func (d *Daemon) Ready() (remarks []string, err error) {
	health, failed := d.current()
	if failed != nil {
		return health.remarks(), failed
	}
	return health.remarks(), health.ready()
}

// Starting reports whether nothing has failed, and no verification has ended.
func (d *Daemon) Starting() bool {
	health, failed := d.current()
	return failed == nil && health.starting()
}

// Collect implements [web.Source].
func (d *Daemon) Collect(ctx context.Context, query status.Query) (status.Status, error) {
	return d.page.collect(ctx, query)
}

// Worker implements [web.Source]: it returns what this worker knows of itself.
func (d *Daemon) Worker() status.Worker {
	health, failed := d.current()
	w := health.worker()
	if failed != nil {
		w.NotReady = failed.Error()
	}
	w.Version, w.Started = d.version, d.started
	d.page.addRun(&w)
	return w
}

// Drifts returns how many providers drift by kind, nil where this worker does not know.
func (d *Daemon) Drifts() map[drift.Kind]int {
	if drifts := d.page.drifts.Load(); drifts != nil {
		return *drifts
	}
	return nil
}

// Page returns what the status page of the daemon shows.
func (d *Daemon) Page() web.Options {
	return web.Options{Source: d, Logger: d.logger}
}

// ShowOn has the displays show each change. The caller calls it before the first run.
func (d *Daemon) ShowOn(displays ...Display) { d.page.displays = displays }

// ClosePage closes the connection of the status page by the time given. No client asks for
// the page any more.
func (d *Daemon) ClosePage(by time.Time) { d.page.close(by) }
