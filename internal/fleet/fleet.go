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
	"log/slog"
	"time"

	"github.com/sourcegraph/conc"

	"provwatch/internal/daemon"
	"provwatch/internal/observe"
	"provwatch/internal/systemd"
	"provwatch/internal/web"
)

// closePagesWithin is how long closing the connections of status pages can take.
const closePagesWithin = time.Second

// Run runs a daemon for each target until ctx ends, and then stops all of them at
// once. A target that fails, in its boot or by a panic, is retried with backoff and harms no
// other. Each value received from reload is one for every target. A reload ends the wait of a
// target that waits for a retry.
//
// The error is that of serving HTTP; no target makes one.
func Run(ctx context.Context, targets []Target, s daemon.Serving, version string, logger *slog.Logger, reload <-chan struct{}) error {
	f := newFleet(targets, s.Systemd, version, logger)
	server, err := s.Listen(ctx, f.metrics, f.roster, logger)
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
	roster  *roster
	metrics *observe.Targets
	logger  *slog.Logger
}

func newFleet(targets []Target, service *systemd.Service, version string, logger *slog.Logger) *fleet {
	f := &fleet{roster: &roster{}, metrics: observe.NewTargets(version), logger: logger}
	turns := newTurns()
	for _, t := range targets {
		one := &target{
			spec: t, roster: f.roster, metrics: f.metrics, turns: turns,
			logger: logger.With("target", t.Name),
		}
		one.daemon = daemon.New(version, f.metrics.Add(t.Name), service, one.logger, one)
		turns.add(t.Server)
		f.roster.add(t.Name, one.daemon)
		f.targets = append(f.targets, one)
	}
	f.roster.join(service)
	return f
}

// run runs all targets until ctx ends and all of them have.
func (f *fleet) run(ctx context.Context, reload <-chan struct{}) {
	var group conc.WaitGroup
	defer group.Wait()
	for _, t := range f.targets {
		group.Go(func() { t.run(ctx) })
	}
	group.Go(func() { f.reloadAll(ctx, reload) })
}

// mount mounts the status pages on the server.
func (f *fleet) mount(server *daemon.Server) {
	pages := web.NewTargets(web.TargetsOptions{Roster: f.roster, Access: server.Access, Logger: f.logger})
	for _, t := range f.targets {
		t.daemon.ShowOn(pages.Add(t.spec.Name, t.daemon.Page()), pages)
	}
	server.Mount(web.TargetsPaths, pages)
}

// closePages closes the connections of the pages, all by one time.
func (f *fleet) closePages() {
	by := time.Now().Add(closePagesWithin)
	for _, t := range f.targets {
		t.daemon.ClosePage(by)
	}
}

func (f *fleet) reloadAll(ctx context.Context, reload <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			for _, t := range f.targets {
				select {
				case t.spec.Reload <- struct{}{}:
				default: // one is on its way
				}
			}
		}
	}
}
