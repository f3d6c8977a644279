package postgres

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Activity knows what the sessions of one configuration have begun and not ended: their
// statements, waits for a connection of the pool, and what is reported by
// [Activity.Begin]. It is the tracer of all of them, so that a new statement is known
// without being reported. Its methods may be called by several goroutines; on a nil one
// they do nothing.
type Activity struct {
	mu      sync.Mutex
	running map[*operation]struct{}
}

func newActivity() *Activity { return &Activity{running: map[*operation]struct{}{}} }

// ActivityOf returns the activity of the sessions of a configuration of [Parse], nil for
// another.
func ActivityOf(config *pgx.ConnConfig) *Activity {
	a, _ := config.Tracer.(*Activity)
	return a
}

// operation is something that has begun and not ended.
type operation struct {
	what     string
	pid      uint32
	began    time.Time
	patience time.Duration // 0 for the usual one
	// prompt is of what waits for no other session: no more time is given to it.
	prompt bool
	// slow is that of what may take twice the time of others.
	slow bool
	// retried is that of what waits for other sessions in several tries.
	retried bool
	// part is the part of the worker that the operation belongs to, nil for none. A
	// statement of it that ends counts as its progress.
	part   *operation
	moved  time.Time          // of a part: when it last made progress
	cancel context.CancelFunc // nil for none
}

// Wait is an operation that has not ended in time.
type Wait struct {
	What  string
	PID   uint32 // the server's process of its session, 0 for none
	Since time.Time
	// Late says that it is late whether or not another session holds it up.
	Late bool
	// Retried says that the session waits in several tries, and not between them.
	Retried bool
}

type (
	limitKey     struct{}
	patienceKey  struct{}
	asideKey     struct{}
	operationKey struct{}
	partKey      struct{}
)

// Bounded returns a context in which every statement, and every wait for a connection of
// the pool, takes no longer than the limit.
func Bounded(ctx context.Context, limit time.Duration) context.Context {
	return context.WithValue(ctx, limitKey{}, limit)
}

// Expect returns a context for one statement that should take no longer than that, whether
// or not it waits for another session.
func Expect(ctx context.Context, patience time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, patience)
}

// Aside returns a context for statements on which no alert depends: they are no [Wait].
func Aside(ctx context.Context) context.Context { return context.WithValue(ctx, asideKey{}, true) }

// Begin reports that something has begun that must end soon, on the session of a process
// of the server, 0 for none in particular. The caller calls end when it has.
func (a *Activity) Begin(what string, pid uint32) (end func()) {
	return a.report(&operation{what: what, pid: pid, prompt: true})
}

// BeginSlow is [Activity.Begin] of what may take twice the time of others.
func (a *Activity) BeginSlow(what string, pid uint32) (end func()) {
	return a.report(&operation{what: what, pid: pid, prompt: true, slow: true})
}

// BeginRetried reports that something has begun that waits for other sessions in several
// tries, each of which ends soon, on the session of a process of the server. The caller
// calls end when no other try follows.
func (a *Activity) BeginRetried(what string, pid uint32) (end func()) {
	return a.report(&operation{what: what, pid: pid, retried: true})
}

// Handle reports that a part of the worker has begun to handle something. It must end, or
// send statements in the context returned that end. The caller calls end when it has.
func (a *Activity) Handle(ctx context.Context, what string) (handling context.Context, end func()) {
	part := &operation{what: what}
	return context.WithValue(ctx, partKey{}, part), a.report(part)
}

func (a *Activity) report(o *operation) (end func()) {
	if a == nil {
		return func() {}
	}
	a.add(o)
	return func() { a.end(o) }
}

func (a *Activity) add(o *operation) {
	o.began = time.Now()
	o.moved = o.began
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running[o] = struct{}{}
}

func (a *Activity) end(o *operation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.running, o)
	if o.part != nil {
		o.part.moved = time.Now()
	}
	if o.cancel != nil {
		o.cancel()
	}
}

// Oldest returns what has lasted for longer than patience at the moment now, or than what
// is expected of it, and of that what has for the longest. It reports false when there is
// none.
func (a *Activity) Oldest(now time.Time, patience time.Duration) (Wait, bool) {
	if a == nil {
		return Wait{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var oldest Wait
	found := false
	for o := range a.running {
		since, limit := o.moved, patience
		if o.slow {
			limit *= 2
		}
		if o.patience > 0 {
			limit = o.patience
		}
		// What waits in the server is more to the point than what waits for it.
		if now.Sub(since) <= limit || found && (oldest.PID > 0) == (o.pid > 0) && !since.Before(oldest.Since) || found && oldest.PID > 0 && o.pid == 0 {
			continue
		}
		oldest, found = Wait{What: o.what, PID: o.pid, Since: since, Late: o.prompt, Retried: o.retried}, true
	}
	return oldest, found
}

// start begins an operation of a statement, or of the pool, in the context.
func (a *Activity) start(ctx context.Context, what string, conn *pgx.Conn) context.Context {
	o := &operation{what: what}
	o.part, _ = ctx.Value(partKey{}).(*operation)
	if conn != nil {
		o.pid = conn.PgConn().PID()
	}
	o.patience, o.prompt = ctx.Value(patienceKey{}).(time.Duration)
	if limit, bounded := ctx.Value(limitKey{}).(time.Duration); bounded {
		ctx, o.cancel = context.WithTimeout(ctx, limit)
	}
	if aside, _ := ctx.Value(asideKey{}).(bool); aside {
		o.began = time.Now()
	} else {
		a.add(o)
	}
	return context.WithValue(ctx, operationKey{}, o)
}

// finish ends what start has begun.
func (a *Activity) finish(ctx context.Context) {
	if o, ok := ctx.Value(operationKey{}).(*operation); ok {
		a.end(o)
	}
}

// TraceQueryStart implements [pgx.QueryTracer].
func (a *Activity) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return a.start(ctx, "a statement ("+nameOf(data.SQL)+")", conn)
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (a *Activity) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	a.finish(ctx)
}

// TraceBatchStart implements [pgx.BatchTracer].
func (a *Activity) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	name := "batch"
	if queued := data.Batch.QueuedQueries; len(queued) > 0 {
		name = nameOf(queued[0].SQL)
	}
	return a.start(ctx, "statements ("+name+")", conn)
}

// TraceBatchQuery implements [pgx.BatchTracer].
func (a *Activity) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements [pgx.BatchTracer].
func (a *Activity) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) {
	a.finish(ctx)
}

// TraceCopyFromStart implements [pgx.CopyFromTracer].
func (a *Activity) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	return a.start(ctx, "a statement (COPY "+data.TableName.Sanitize()+")", conn)
}

// TraceCopyFromEnd implements [pgx.CopyFromTracer].
func (a *Activity) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromEndData) {
	a.finish(ctx)
}

// TraceAcquireStart implements [pgxpool.AcquireTracer].
func (a *Activity) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return a.start(ctx, "the wait for a connection", nil)
}

// TraceAcquireEnd implements [pgxpool.AcquireTracer].
func (a *Activity) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	a.finish(ctx)
}

// nameOf returns what a statement is called: the name that a file of sql/ gives it, else
// its first words. It holds no value.
func nameOf(sql string) string {
	if name, isNamed := strings.CutPrefix(sql, "-- name: "); isNamed {
		name, _, _ = strings.Cut(name, " ")
		return name
	}
	var words []string
	for line := range strings.Lines(sql) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			words = strings.Fields(line)
			break
		}
	}
	if len(words) == 0 {
		return "ping"
	}
	return strings.Join(words[:min(len(words), 2)], " ")
}
