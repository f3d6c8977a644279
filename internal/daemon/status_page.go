package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/status"
	"provwatch/internal/verify"
	"provwatch/internal/web"
)

// closePagesWithin is how long closing the connections of status pages can take.
const closePagesWithin = time.Second

// Display shows a daemon: its status page, or an overview of several daemons.
type Display interface {
	// Changed gets what has changed of what is shown.
	Changed(c web.Change)
}

// statusPage collects what the status page of a database shows. It is there through all runs
// of a daemon, from the beginning of the first boot, and connects to the database when a
// client asks for it. Its methods may be called by several goroutines.
type statusPage struct {
	displays []Display // set before the first run

	drifts  atomic.Pointer[map[drift.Kind]int] // the latest of the verifier, nil for none
	closing conc.WaitGroup                     // connections of former runs
	notices noticesCache

	mu        sync.Mutex      // of what follows
	database  *pgxpool.Config // nil: not known yet
	pool      *pgxpool.Pool   // its own, see [postgres.StatusConfig]; made for the first client
	keys      *dbcrypt.Ring
	site      remedy.Site // renders the remedies of errors
	observe   bool
	rollback  time.Duration               // --rollback-after
	booting   map[string]provider.Desired // what the environment names, without credentials, until the boot is done
	displayed *displayedRun               // nil until the boot is done, and after a run
}

// displayedRun is what a page shows of a run whose boot is done.
type displayedRun struct {
	worker     uuid.UUID
	verifier   *verify.Verifier
	leadership *leadership
	// unsupported are the names of the providers whose type the database's enum lacks. A
	// reload replaces them.
	unsupported *atomic.Pointer[[]string]
}

// Changed has the displays show what has changed.
func (p *statusPage) Changed(c web.Change) {
	for _, d := range p.displays {
		d.Changed(c)
	}
}

// boot has the page show a boot.
func (p *statusPage) boot(o Options) {
	named := make(map[string]provider.Desired, len(o.Environment.Providers))
	for _, desired := range o.Environment.Providers {
		named[desired.Name] = desired.WithoutCredentials()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.database != o.Database && p.pool != nil {
		former := p.pool
		p.closing.Go(func() { postgres.Close(former, closePagesWithin) }) // it waits for its clients
		p.pool = nil
	}
	p.database, p.keys, p.site, p.observe, p.rollback, p.booting, p.displayed = o.Database, o.Keys, o.Site, o.Observe, o.RollbackAfter, named, nil
	p.notices.clear()
}

// run has the page show a run whose boot is done.
func (p *statusPage) run(r *displayedRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.booting, p.displayed = nil, r
}

// end has the page show no run.
func (p *statusPage) end() {
	p.drifts.Store(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.displayed = nil
}

// close closes the connection of the page by the time given, if it has one. No client asks
// for the page any more.
func (p *statusPage) close(by time.Time) {
	p.mu.Lock()
	pool := p.pool
	p.pool, p.database = nil, nil
	p.mu.Unlock()
	if pool != nil {
		postgres.Close(pool, time.Until(by))
	}
	p.closing.Wait()
}

func (p *statusPage) collect(ctx context.Context, query status.Query) (status.Status, error) {
	pool, keys, environment, err := p.open()
	if err != nil {
		return status.Status{}, err
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return status.Status{}, err
	}
	defer conn.Release()
	p.mu.Lock()
	query.Site, query.RollbackAfter = p.site, p.rollback
	p.mu.Unlock()
	s, err := status.Collect(ctx, conn, keys, environment, query)
	if err != nil {
		return s, query.Site.Error(err)
	}
	s.Notices = p.notices.get(ctx, conn, keys)
	return s, nil
}

// open returns what to collect from.
func (p *statusPage) open() (*pgxpool.Pool, *dbcrypt.Ring, status.Environment, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var environment status.Environment
	if p.database == nil {
		return nil, nil, environment, errors.New("it is not known which one it is, as long as the target cannot be opened")
	}
	if p.pool == nil {
		pool, err := pgxpool.NewWithConfig(context.Background(), postgres.StatusConfig(p.database))
		if err != nil {
			return nil, nil, environment, err
		}
		p.pool = pool
	}
	switch booting := p.booting; {
	case p.displayed != nil:
		environment.Desired, environment.Unsupported = p.displayed.verifier.Named, *p.displayed.unsupported.Load()
	case booting != nil:
		environment.Desired = func(name string) (provider.Desired, bool) {
			desired, named := booting[name]
			return desired, named
		}
	}
	return p.pool, p.keys, environment, nil
}

// addRun adds to what the page shows of the worker what the run knows.
func (p *statusPage) addRun(w *status.Worker) {
	p.mu.Lock()
	s := p.displayed
	w.Observes = p.observe
	p.mu.Unlock()
	if s == nil {
		return
	}
	w.ID, w.Providers = s.worker.String(), s.verifier.Providers()
	if term := s.leadership.currentTerm(); term != nil {
		w.Leads, w.PID = true, int(term.PID)
		w.Source = string(s.leadership.currentSource())
	}
}
