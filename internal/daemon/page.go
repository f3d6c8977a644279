package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/observe"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/status"
	"provwatch/internal/verify"
	"provwatch/internal/web"
)

// statusPage is the status page of a worker: it is there from the beginning of
// the boot, as the HTTP server is.
type statusPage struct {
	*web.Page
	pool    *pgxpool.Pool // its own, see [postgres.StatusConfig]
	started time.Time
	options Options
	health  *health
	daemon  atomic.Pointer[daemon] // nil while booting
}

// newStatusPage mounts the status page on the server. It connects to the database
// when it is asked for.
func newStatusPage(ctx context.Context, o Options, h *health, server *observe.Server) (*statusPage, error) {
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), postgres.StatusConfig(o.Database))
	if err != nil {
		return nil, err
	}
	p := &statusPage{pool: pool, started: time.Now(), options: o, health: h}
	loopback := web.IsLoopback(server.BoundTo())
	if !loopback && o.HTTPToken.IsZero() {
		o.Logger.WarnContext(ctx, "the status page is not served on this address without a token", "address", server.Address(),
			"remedy", "--http-token-file, or an address of loopback")
	}
	p.Page = web.New(web.Options{
		Collect: p.collect,
		Worker:  p.worker,
		Access:  web.Access{Token: o.HTTPToken, Loopback: loopback},
		Logger:  o.Logger,
	})
	for _, path := range web.Paths {
		server.Handle("GET "+path, p)
	}
	server.AtShutdown(p.Page.Close)
	return p, nil
}

// close closes the page and its connection, if it has one.
func (p *statusPage) close() {
	p.Page.Close()
	postgres.Close(p.pool, time.Until(p.options.StopBy()))
}

func (p *statusPage) collect(ctx context.Context, query status.Query) (status.Status, error) {
	var environment status.Environment
	if d := p.daemon.Load(); d != nil {
		environment.Desired = d.verifier.Named
	}
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return status.Status{}, err
	}
	defer conn.Release()
	return status.Collect(ctx, conn, p.options.Keys, environment, query)
}

// worker tells what this worker knows of itself.
func (p *statusPage) worker() status.Worker {
	w := p.health.worker()
	w.Version, w.Started = p.options.Version, p.started
	if d := p.daemon.Load(); d != nil {
		w.ID, w.Providers = d.worker.String(), d.verifier.Providers()
		if w.Leads = d.leads.Load(); w.Leads {
			w.PID = int(d.session.Load())
			w.Source, _ = d.source.Load().(string)
		}
	}
	return w
}

// telling are the metrics of a worker that tells its status page of what it
// measures.
type telling struct {
	*observe.Metrics
	page *statusPage // nil: nobody to tell
}

func (t telling) tell(c web.Change) {
	if t.page != nil {
		t.page.Changed(c)
	}
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
func (t telling) AlertPublished(kind provider.Kind, source pubsub.Source) {
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
