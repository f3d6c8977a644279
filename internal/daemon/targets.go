package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/dustin/go-humanize/english"
	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/panics"

	"provwatch/internal/observe"
	"provwatch/internal/status"
	"provwatch/internal/systemd"
	"provwatch/internal/web"
)

const (
	// firstTargetRetry and maxTargetRetry bound the wait before a target is tried
	// again that has failed.
	firstTargetRetry = time.Second
	maxTargetRetry   = time.Minute
	// bootsAtOnce is how many targets of one server boot at a time, each of which
	// may open three connections, and bootTurn how long one can keep others waiting.
	bootsAtOnce = 8
	bootTurn    = 5 * time.Second
	// namesInStatus bounds what the service manager is told: a message of more than
	// 4 KiB is dropped.
	namesInStatus = 10
	// closePagesWithin is how long closing the connections of status pages may take.
	closePagesWithin = time.Second
)

// Target is one of several databases that a process watches.
type Target struct {
	Name string // unique
	// Server tells which targets share a server; they boot a few at a time.
	Server string
	// Open returns what to run, before each try: it reads what can have changed. The
	// Serving and Logger of its options do not count.
	Open func(ctx context.Context, logger *slog.Logger) (Options, error)
}

// RunTargets runs a daemon for each target until ctx ends, and then stops all of
// them at once. A target that fails, in its boot or by a panic, is tried again with
// backoff and harms no other. Each value received from reload is one for every
// target, and ends the wait of those that are to be tried again.
//
// The error is that of serving HTTP; no target makes one.
func RunTargets(ctx context.Context, targets []Target, s Serving, version string, logger *slog.Logger, reload <-chan os.Signal) error {
	f := &fleet{metrics: observe.NewTargets(version), logger: logger, turns: map[string]chan struct{}{}, turnTime: bootTurn}
	for _, t := range targets {
		one := &target{Target: t, fleet: f, metrics: f.metrics.Add(t.Name), logger: logger.With("target", t.Name),
			health: &health{logger: logger.With("target", t.Name)}, life: &life{}, reload: make(chan os.Signal, 1)}
		one.member = s.Systemd.Join(one.alive)
		f.targets = append(f.targets, one)
		if f.turns[t.Server] == nil {
			f.turns[t.Server] = make(chan struct{}, bootsAtOnce)
		}
	}
	f.status = s.Systemd.Join(func() error { return nil })
	f.status.Ready()
	stopServing, err := s.serve(ctx, f.metrics, f.alive, f.readiness, logger, func(server *observe.Server, access web.Access) { f.mount(version, server, access) })
	if err != nil {
		return err
	}
	defer func() {
		stopServing()
		f.closePages()
	}()
	var group conc.WaitGroup
	defer group.Wait()
	for _, t := range f.targets {
		group.Go(func() { t.run(ctx) })
	}
	group.Go(func() { f.reloadAll(ctx, reload) })
	return nil
}

// fleet is all targets of a process.
type fleet struct {
	targets []*target
	metrics *observe.Targets
	status  *systemd.Member // of all of them, in words
	logger  *slog.Logger
	turns   map[string]chan struct{} // to boot, by server
	// turnTime is how long a turn is at most.
	turnTime time.Duration
}

// mount mounts the status pages on the server.
func (f *fleet) mount(version string, server *observe.Server, access web.Access) {
	pages := web.NewTargets(web.TargetsOptions{List: f.list, Access: access, Logger: f.logger})
	for _, t := range f.targets {
		page := &statusPage{version: version, started: time.Now(), health: t.worker, also: pages.Changed}
		page.Page = pages.Add(t.Name, page.options())
		t.page, t.health.changed = page, func() { page.tell(web.Health) }
	}
	for _, path := range web.TargetsPaths {
		server.Handle("GET "+path, pages)
	}
	server.AtShutdown(pages.Close)
}

// list tells of all targets what this worker knows by itself.
func (f *fleet) list() []web.Target {
	list := make([]web.Target, 0, len(f.targets))
	for _, t := range f.targets {
		shown := web.Target{Name: t.Name, Worker: t.page.worker(), Starting: t.starting()}
		if drifts := t.page.drifts.Load(); drifts != nil && shown.Worker.Leads {
			shown.Drifts = *drifts
		}
		list = append(list, shown)
	}
	return list
}

// closePages closes the connections of the pages, all by one time.
func (f *fleet) closePages() {
	by := time.Now().Add(closePagesWithin)
	for _, t := range f.targets {
		if t.page != nil {
			t.page.close(by)
		}
	}
}

func (f *fleet) reloadAll(ctx context.Context, reload <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case signal := <-reload:
			for _, t := range f.targets {
				select {
				case t.reload <- signal:
				default: // one is on its way
				}
			}
		}
	}
}

// alive is the process's liveness: each target's.
func (f *fleet) alive() error {
	for _, t := range f.targets {
		if err := t.alive(); err != nil {
			return fmt.Errorf("target %s: %w", t.Name, err)
		}
	}
	return nil
}

// ready names every target that is not.
func (f *fleet) ready() error {
	var all []error
	for _, t := range f.targets {
		if err := t.ready(); err != nil {
			all = append(all, fmt.Errorf("target %s: %w", t.Name, err))
		}
	}
	return errors.Join(all...)
}

// readiness is what /readyz tells of all targets.
func (f *fleet) readiness() (remarks []string, err error) {
	for _, t := range f.targets {
		t.mu.Lock()
		health := t.health
		t.mu.Unlock()
		for _, remark := range health.remarks() {
			remarks = append(remarks, "target "+t.Name+": "+remark)
		}
	}
	return remarks, f.ready()
}

// describe tells the service manager how the targets do.
func (f *fleet) describe() {
	var missing []string
	for _, t := range f.targets {
		if t.ready() != nil {
			missing = append(missing, t.Name)
		}
	}
	text := fmt.Sprintf("watching %d of %s", len(f.targets)-len(missing), english.Plural(len(f.targets), "target", ""))
	if len(missing) > 0 {
		more := ""
		if n := len(missing) - namesInStatus; n > 0 {
			missing, more = missing[:namesInStatus], fmt.Sprintf(" and %d more", n)
		}
		text += ", not ready: " + strings.Join(missing, ", ") + more
	}
	f.status.Status(text)
}

// target is a target while it runs, and between tries.
type target struct {
	Target
	fleet   *fleet
	metrics *observe.Metrics
	member  *systemd.Member
	logger  *slog.Logger
	reload  chan os.Signal
	page    *statusPage // nil: HTTP is off

	mu     sync.Mutex
	health *health // of the current try
	life   *life
	failed error // why the last try has ended, until the next one's boot is done
}

func (t *target) alive() error {
	t.mu.Lock()
	life := t.life
	t.mu.Unlock()
	return life.check(time.Now())
}

func (t *target) ready() error {
	t.mu.Lock()
	failed, health := t.failed, t.health
	t.mu.Unlock()
	if failed != nil {
		return failed
	}
	return health.ready()
}

// worker returns what the status page shows of the health.
func (t *target) worker() status.Worker {
	t.mu.Lock()
	failed, health := t.failed, t.health
	t.mu.Unlock()
	w := health.worker()
	if failed != nil {
		w.NotReady = failed.Error()
	}
	return w
}

// starting reports whether nothing has failed, and nothing was verified yet.
func (t *target) starting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed == nil && t.health.starting()
}

// run tries until ctx ends.
func (t *target) run(ctx context.Context) {
	back := backoff.NewExponentialBackOff()
	back.InitialInterval, back.MaxInterval = firstTargetRetry, maxTargetRetry
	for {
		began := time.Now()
		err := t.try(ctx)
		t.page.end()
		t.metrics.Leading(false)
		t.metrics.ListenerLost()
		t.fleet.metrics.Down(t.Name, ctx.Err() == nil)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, ctx.Err()) {
				t.logger.WarnContext(ctx, "the target has failed while it was stopped", "error", err)
			}
			return
		}
		if time.Since(began) > maxTargetRetry {
			back.Reset()
		}
		wait := back.NextBackOff()
		t.logger.ErrorContext(ctx, "the target has failed, trying again", "error", err, "retry_in", wait)
		t.mu.Lock()
		t.failed, t.life, t.health = err, &life{}, t.health.next()
		t.mu.Unlock()
		t.page.tell(web.Health | web.Leader)
		t.member.Tried()
		t.fleet.describe()
		select {
		case <-ctx.Done():
			return
		case <-t.reload:
		case <-time.After(wait):
		}
	}
}

// try runs the target once. Its error is also that of a panic.
func (t *target) try(ctx context.Context) (err error) {
	caught := panics.Try(func() { err = t.watch(ctx) })
	if caught == nil {
		return err
	}
	value := caught.Value
	for {
		inner, ok := value.(*panics.Recovered) // by a group
		if !ok {
			break
		}
		caught, value = inner, inner.Value
	}
	t.logger.ErrorContext(ctx, "a part of the worker has panicked", "panic", fmt.Sprint(value), "stack", string(caught.Stack))
	return errors.New("a part of the worker has panicked; the log has its stack")
}

func (t *target) watch(ctx context.Context) error {
	done, err := t.fleet.turn(ctx, t.Server)
	if err != nil {
		return err
	}
	defer done()
	o, err := t.Open(ctx, t.logger)
	if err != nil {
		return err
	}
	o.Logger = t.logger
	t.page.boot(o)
	life := &life{}
	t.mu.Lock()
	health := t.health.next()
	t.health, t.life = health, life
	t.mu.Unlock()
	return o.watch(ctx, &course{
		metrics: telling{Metrics: t.metrics, page: t.page, health: health}, health: health, life: life, member: t.member, restarts: true,
		say: func(string) { t.fleet.describe() },
		up: func() {
			done()
			t.mu.Lock()
			t.failed = nil
			t.mu.Unlock()
			t.fleet.metrics.Up(t.Name)
			t.page.tell(web.Health)
		},
	}, t.reload)
}

// turn waits for a turn to boot, which ends by itself after a while, so that those
// that hang do not keep the others waiting for ever.
func (f *fleet) turn(ctx context.Context, server string) (done func(), err error) {
	turns := f.turns[server]
	select {
	case turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	giveBack := sync.OnceFunc(func() { <-turns })
	timer := time.AfterFunc(f.turnTime, giveBack)
	return func() {
		timer.Stop()
		giveBack()
	}, nil
}
