// Package fleet is "worker run" with --config: a daemon for each target, in one process.
//
//	           turn            run ended
//	waiting ──────────▶ running ───────────▶ failed
//	   ▲                                       │
//	   │        after a wait, or a reload      │
//	   └───────────────────────────────────────┘
//
// A few targets of one server boot at a time. A target that fails is retried, and harms no
// other.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/sourcegraph/conc"

	"provwatch/internal/daemon"
	"provwatch/internal/observe"
	"provwatch/internal/systemd"
	"provwatch/internal/web"
)

const (
	// bootsAtOnce is how many targets of one server boot at a time, each of which
	// may open three connections, and bootTurn how long one can keep others waiting.
	bootsAtOnce = 8
	bootTurn    = 5 * time.Second
	// namesInStatus bounds the status that the service manager gets: it drops a message of
	// more than 4 KiB.
	namesInStatus = 10
	// closePagesWithin is how long closing the connections of status pages can take.
	closePagesWithin = time.Second
)

// Run runs a daemon for each target until ctx ends, and then stops all of them at
// once. A target that fails, in its boot or by a panic, is retried with backoff and harms no
// other. Each value received from reload is one for every target, and ends the wait of the
// targets that wait for a retry.
//
// The error is that of serving HTTP; no target makes one.
func Run(ctx context.Context, targets []Target, s daemon.Serving, version string, logger *slog.Logger, reload <-chan os.Signal) error {
	f := newFleet(targets, s.Systemd, version, logger)
	server, err := s.Listen(ctx, f.metrics, f, logger)
	if err != nil {
		return err
	}
	if server != nil {
		f.mount(server)
	}
	stopServing := server.Start(ctx)
	defer func() {
		stopServing()
		f.closePages()
	}()
	f.run(ctx, reload)
	return nil
}

// fleet is all targets of a process. Nothing of it changes once they run.
type fleet struct {
	targets []*target
	metrics *observe.Targets
	status  *systemd.Member // of all of them, in words
	logger  *slog.Logger
	turns   map[string]chan struct{} // to boot, by server
	// turnTime is how long a turn is at most.
	turnTime time.Duration
}

func newFleet(targets []Target, service *systemd.Service, version string, logger *slog.Logger) *fleet {
	f := &fleet{metrics: observe.NewTargets(version), logger: logger, turns: map[string]chan struct{}{}, turnTime: bootTurn}
	for _, t := range targets {
		one := &target{spec: t, fleet: f, logger: logger.With("target", t.Name), reload: make(chan os.Signal, 1)}
		one.daemon = daemon.New(version, f.metrics.Add(t.Name), service, one.logger, one)
		f.targets = append(f.targets, one)
		if f.turns[t.Server] == nil {
			f.turns[t.Server] = make(chan struct{}, bootsAtOnce)
		}
	}
	f.status = service.Join(f)
	f.status.Ready()
	return f
}

// run runs all targets until ctx ends and all of them have.
func (f *fleet) run(ctx context.Context, reload <-chan os.Signal) {
	var group conc.WaitGroup
	defer group.Wait()
	for _, t := range f.targets {
		group.Go(func() { t.run(ctx) })
	}
	group.Go(func() { f.reloadAll(ctx, reload) })
}

// mount mounts the status pages on the server.
func (f *fleet) mount(server *daemon.Server) {
	pages := web.NewTargets(web.TargetsOptions{List: f.list, Access: server.Access, Logger: f.logger})
	for _, t := range f.targets {
		t.daemon.ShowOn(pages.Add(t.spec.Name, t.daemon.Page()), pages)
	}
	server.Mount(web.TargetsPaths, pages)
}

// list returns what this worker knows of all targets by itself.
func (f *fleet) list() []web.Target {
	list := make([]web.Target, 0, len(f.targets))
	for _, t := range f.targets {
		shown := web.Target{Name: t.spec.Name, Worker: t.daemon.Worker(), Starting: t.daemon.Starting()}
		if shown.Worker.Leads {
			shown.Drifts = t.daemon.Drifts()
		}
		list = append(list, shown)
	}
	return list
}

// closePages closes the connections of the pages, all by one time.
func (f *fleet) closePages() {
	by := time.Now().Add(closePagesWithin)
	for _, t := range f.targets {
		t.daemon.ClosePage(by)
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

// Alive implements [observe.Health]: the process is alive while each target is.
func (f *fleet) Alive() error {
	for _, t := range f.targets {
		if err := t.daemon.Alive(); err != nil {
			return fmt.Errorf("target %s: %w", t.spec.Name, err)
		}
	}
	return nil
}

// Ready implements [observe.Health]. Its error names every target that is not ready.
func (f *fleet) Ready() (remarks []string, err error) {
	var all []error
	for _, t := range f.targets {
		lines, err := t.daemon.Ready()
		for _, line := range lines {
			remarks = append(remarks, "target "+t.spec.Name+": "+line)
		}
		if err != nil {
			all = append(all, fmt.Errorf("target %s: %w", t.spec.Name, err))
		}
	}
	return remarks, errors.Join(all...)
}

// describe reports to the service manager how the targets do.
func (f *fleet) describe() {
	var missing []string
	for _, t := range f.targets {
		if _, err := t.daemon.Ready(); err != nil {
			missing = append(missing, t.spec.Name)
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
