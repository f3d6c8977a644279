package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sourcegraph/conc"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/observe"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/status"
	"provwatch/internal/verify"
	"provwatch/internal/web"
)

// statusPage is the status page of a database: it is there from the beginning of
// the boot, as the HTTP server is, and with several databases through all tries.
type statusPage struct {
	*web.Page
	version string
	started time.Time
	// health tells what the worker's health is now.
	health func() status.Worker
	// also is told of each change as well; nil for nobody.
	also func(web.Change)

	drifts  atomic.Pointer[map[drift.Kind]int] // as last told by the verifier
	closing conc.WaitGroup                     // connections of former tries
	served  servedCache

	mu       sync.Mutex
	database *pgxpool.Config // nil: not known yet
	pool     *pgxpool.Pool   // its own, see [postgres.StatusConfig]; made when somebody looks
	keys     *dbcrypt.Ring
	booting  map[string]provider.Desired // what the environment names, without credentials, until there is a daemon
	daemon   *daemon                     // nil while booting
}

func (p *statusPage) options() web.Options { return web.Options{Collect: p.collect, Worker: p.worker} }

// access decides who may see pages and the profiler on the server.
func (s Serving) access(ctx context.Context, server *observe.Server, logger *slog.Logger) web.Access {
	loopback := web.IsLoopback(server.BoundTo())
	if !loopback && s.HTTPToken.IsZero() {
		logger.WarnContext(ctx, "the status page is not served on this address without a token", "address", server.Address(),
			"remedy", "--http-token-file, or an address of loopback")
	}
	return web.Access{Token: s.HTTPToken, Loopback: loopback}
}

// mountPage mounts the status page of the only database on the server. It connects
// to the database when it is asked for.
func mountPage(o Options, h *health, server *observe.Server, access web.Access) *statusPage {
	p := &statusPage{version: o.Version, started: time.Now(), health: h.worker}
	shown := p.options()
	shown.Access, shown.Logger = access, o.Logger
	p.Page = web.New(shown)
	p.boot(o)
	for _, path := range web.Paths {
		server.Handle("GET "+path, p)
	}
	server.AtShutdown(p.Page.Close)
	return p
}

// tell tells whoever looks that something has changed.
func (p *statusPage) tell(c web.Change) {
	if p == nil {
		return
	}
	p.Changed(c)
	if p.also != nil {
		p.also(c)
	}
}

// boot has the page show what a boot is of.
func (p *statusPage) boot(o Options) {
	if p == nil {
		return
	}
	named := make(map[string]provider.Desired, len(o.Environment.Providers))
	for _, desired := range o.Environment.Providers {
		named[desired.Name] = desired.WithoutCredentials()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.database != o.Database && p.pool != nil {
		former := p.pool
		p.closing.Go(func() { postgres.Close(former, closePagesWithin) }) // who looks at it is waited for
		p.pool = nil
	}
	p.database, p.keys, p.booting, p.daemon = o.Database, o.Keys, named, nil
	p.served.forget()
}

// run has the page show a daemon whose boot is done.
func (p *statusPage) run(d *daemon) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.booting, p.daemon = nil, d
}

// end has the page show no daemon: its try is over.
func (p *statusPage) end() {
	if p == nil {
		return
	}
	p.drifts.Store(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.daemon = nil
}

// close closes the page, and its connection by the time given, if it has one.
func (p *statusPage) close(by time.Time) {
	p.Page.Close()
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
	s, err := status.Collect(ctx, conn, keys, environment, query)
	if err == nil {
		s.Notices = p.served.inspect(ctx, conn, keys)
	}
	return s, err
}

// open returns what there is to collect from.
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
	case p.daemon != nil:
		environment.Desired = p.daemon.verifier.Named
	case booting != nil:
		environment.Desired = func(name string) (provider.Desired, bool) {
			desired, named := booting[name]
			return desired, named
		}
	}
	return p.pool, p.keys, environment, nil
}

// worker tells what this worker knows of itself.
func (p *statusPage) worker() status.Worker {
	w := p.health()
	w.Version, w.Started = p.version, p.started
	p.mu.Lock()
	d := p.daemon
	p.mu.Unlock()
	if d != nil {
		w.ID, w.Providers = d.worker.String(), d.verifier.Providers()
		if term := d.term.Load(); term != nil {
			w.Leads, w.PID = true, int(term.PID)
			w.Source, _ = d.source.Load().(string)
		}
	}
	return w
}

// telling are the metrics of a worker that tells its status page of what it
// measures.
type telling struct {
	*observe.Metrics
	page   *statusPage // nil: nobody to tell
	health *health
}

func (t telling) tell(c web.Change) { t.page.tell(c) }

// DriftsObserved implements [verify.Metrics].
func (t telling) DriftsObserved(byKind map[drift.Kind]int) {
	t.Metrics.DriftsObserved(byKind)
	if t.page != nil {
		t.page.drifts.Store(&byKind)
	}
}

// NotComparableObserved implements [verify.Metrics].
func (t telling) NotComparableObserved(reasons map[string]string) {
	t.Metrics.NotComparableObserved(reasons)
	t.health.setNotComparable(reasons)
}

// Verified implements [verify.Metrics].
func (t telling) Verified(scope verify.Scope, took time.Duration, err error) {
	t.Metrics.Verified(scope, took, err)
	switch {
	case err != nil:
		t.tell(web.Health)
	case scope == verify.Hinted:
		// One of everything is told of by whoever knows what came of it.
		t.tell(web.Providers)
	}
}

// AlertPublished implements [verify.Metrics].
func (t telling) AlertPublished(kind drift.Kind, source pubsub.Source) {
	t.Metrics.AlertPublished(kind, source)
	t.tell(web.Alerts)
}

// EntriesDelivered implements [audit.Metrics].
func (t telling) EntriesDelivered(n int) {
	t.Metrics.EntriesDelivered(n)
	t.tell(web.Audit)
}

// TransactionsHandled implements [wal.Metrics].
func (t telling) TransactionsHandled(n int) {
	t.Metrics.TransactionsHandled(n)
	t.tell(web.Providers)
}

// Leading shadows that of the metrics.
func (t telling) Leading(leads bool) {
	t.Metrics.Leading(leads)
	t.tell(web.Leader)
}

// SourceUsed shadows that of the metrics.
func (t telling) SourceUsed(source string) {
	t.Metrics.SourceUsed(source)
	t.tell(web.Leader)
}

// SinkStored implements [sink.Metrics].
func (t telling) SinkStored(string, string) { t.tell(web.Sinks) }
