package daemon

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/rollout"
	"provwatch/internal/status"
	"provwatch/internal/store"
)

const (
	// filesRetry bounds the wait before the files are recorded again after that has failed.
	filesRetry = 5 * time.Second
	// filesInterval is the longest time between two looks, so that one of them can fail without
	// an end of what "worker status" shows.
	filesInterval = status.FilesWindow / 4
	// filesTimeout bounds the record of the files during a run.
	filesTimeout = 5 * time.Second
)

// files records which files of the environment are not loaded as they are on disk, for "worker
// status". A file system that does not answer must neither keep others from seeing the worker nor
// keep a run from its end. So the record has a goroutine of its own, which never reads a file. Any
// goroutine can call [files.wake].
type files struct {
	member *rollout.Member
	pool   *pgxpool.Pool
	logger *slog.Logger
	// notLoaded reads the files, and returns the paths that are not loaded. It can block for ever.
	notLoaded func() []string
	// stopBy returns, once a run has ended, until when its end may take.
	stopBy func() time.Time
	// forgets is the time between two looks for what former workers have left.
	forgets time.Duration

	woken    chan struct{} // of capacity 1
	recorded bool          // there can be a row of this worker
	logged   logDedup
}

func newFiles(member *rollout.Member, pool *pgxpool.Pool, health *health, logger *slog.Logger, stopBy func() time.Time) *files {
	return &files{
		member: member, pool: pool, logger: logger, notLoaded: health.notLoaded, stopBy: stopBy, forgets: forgetInterval, woken: make(chan struct{}, 1),
	}
}

// wake has the files looked at soon: a reload has ended.
func (f *files) wake() {
	select {
	case f.woken <- struct{}{}:
	default: // it looks anyway
	}
}

// run looks at each interval, and when it is woken, until ctx ends. It does not wait for a file
// that is being read then.
func (f *files) run(ctx context.Context) {
	due := time.NewTimer(0)
	defer due.Stop()
	forgets := time.NewTicker(f.forgets)
	defer forgets.Stop()
	read := make(chan []string, 1)
	woken := f.woken // nil while the files are being read, for one reader at a time
	f.forget(ctx)
	for {
		select {
		case <-ctx.Done():
			f.end(ctx)
			return
		case <-forgets.C:
			f.forget(ctx)
			continue
		case paths := <-read:
			woken = f.woken
			due.Reset(f.show(ctx, paths))
			continue
		case <-woken:
		case <-due.C:
		}
		woken = nil
		due.Stop()
		go func() { read <- f.notLoaded() }()
	}
}

// interval returns the time between two looks: that between two signs of the worker's presence,
// where it is shorter than [filesInterval].
func (f *files) interval() time.Duration { return min(filesInterval, f.member.NextRefresh()) }

// show records the files, and returns the time until the next look, which refreshes the record.
func (f *files) show(ctx context.Context, paths []string) (next time.Duration) {
	for i, path := range paths {
		paths[i] = strings.ToValidUTF8(path, "\uFFFD") // the name of a file can be any bytes
	}
	if len(paths) == 0 && !f.recorded {
		return f.interval()
	}
	f.recorded = f.recorded || len(paths) > 0 // also where the answer is lost
	limited, cancel := context.WithTimeout(postgres.Aside(ctx), filesTimeout)
	defer cancel()
	err := f.record(limited, paths)
	if err == nil {
		f.recorded = len(paths) > 0
		f.logged.isNewError("record", nil)
		return f.interval()
	}
	if ctx.Err() == nil && f.logged.isNewError("record", err) {
		f.logger.InfoContext(ctx, "could not record which files are not loaded, retrying", "error", err)
	}
	return min(filesRetry, f.interval())
}

// end takes back what is recorded of a worker that ends.
func (f *files) end(ctx context.Context) {
	if !f.recorded {
		return
	}
	stopping, cancel := context.WithDeadline(context.WithoutCancel(postgres.Aside(ctx)), f.stopBy())
	defer cancel()
	_ = f.record(stopping, nil) // where it fails, the row ends to be shown with the window
}

func (f *files) record(ctx context.Context, paths []string) error {
	return store.On(f.pool).RecordNotLoaded(ctx, f.member.ID(), paths)
}

// forget deletes what former workers have left.
func (f *files) forget(ctx context.Context) {
	limited, cancel := context.WithTimeout(postgres.Aside(ctx), filesTimeout)
	defer cancel()
	if err := store.On(f.pool).ForgetNotLoaded(limited); err != nil && ctx.Err() == nil {
		f.logger.InfoContext(ctx, "could not forget the files of former workers", "error", err)
	}
}
