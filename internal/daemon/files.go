package daemon

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
)

const (
	// filesRetry bounds the wait before the files are recorded again after that has failed.
	filesRetry = 5 * time.Second
	// filesTimeout bounds the record of the files, and that at the end of a run.
	filesTimeout, lastFilesTimeout = 5 * time.Second, time.Second
)

// files records which files of the environment are not loaded as they are on disk, for "worker
// status". It has a goroutine of its own, apart from [files.wake], which any goroutine can call:
// a file system that does not answer must not keep others from seeing the worker.
type files struct {
	member *rollout.Member
	pool   *pgxpool.Pool
	health *health
	logger *slog.Logger
	// forgets is the time between two looks for what former workers have left.
	forgets time.Duration

	woken    chan struct{} // of capacity 1
	recorded bool          // there can be a row of this worker
	logged   logDedup
}

func newFiles(member *rollout.Member, pool *pgxpool.Pool, health *health, logger *slog.Logger) *files {
	return &files{member: member, pool: pool, health: health, logger: logger, forgets: forgetInterval, woken: make(chan struct{}, 1)}
}

// wake has the files looked at soon: a reload has ended.
func (f *files) wake() {
	select {
	case f.woken <- struct{}{}:
	default: // it looks anyway
	}
}

// run looks several times in the window of the member, and when it is woken, until ctx ends.
func (f *files) run(ctx context.Context) {
	due := time.NewTimer(0)
	defer due.Stop()
	forgets := time.NewTicker(f.forgets)
	defer forgets.Stop()
	f.forget(ctx)
	for {
		select {
		case <-ctx.Done():
			f.end(ctx)
			return
		case <-f.woken:
		case <-due.C:
		case <-forgets.C:
			f.forget(ctx)
			continue
		}
		due.Reset(f.look(ctx))
	}
}

// look records the files, and returns the time until the next look. It refreshes the record as
// often as the worker shows its presence.
func (f *files) look(ctx context.Context) (next time.Duration) {
	paths := f.health.notLoaded()
	for i, path := range paths {
		paths[i] = strings.ToValidUTF8(path, "\uFFFD") // the name of a file can be any bytes
	}
	if len(paths) == 0 && !f.recorded {
		return f.member.NextRefresh()
	}
	f.recorded = f.recorded || len(paths) > 0 // also where the answer is lost
	err := f.record(ctx, paths, filesTimeout)
	if err == nil {
		f.recorded = len(paths) > 0
		f.logged.isNewError("record", nil)
		return f.member.NextRefresh()
	}
	if ctx.Err() == nil && f.logged.isNewError("record", err) {
		f.logger.InfoContext(ctx, "could not record which files are not loaded, retrying", "error", err)
	}
	return min(filesRetry, f.member.NextRefresh())
}

// end takes back what is recorded of a worker that ends.
func (f *files) end(ctx context.Context) {
	if f.recorded {
		_ = f.record(context.WithoutCancel(ctx), nil, lastFilesTimeout) // where it fails, the row ends to be shown with the window
	}
}

func (f *files) record(ctx context.Context, paths []string, limit time.Duration) error {
	limited, cancel := context.WithTimeout(postgres.Aside(ctx), limit)
	defer cancel()
	return store.On(f.pool).RecordNotLoaded(limited, f.member.ID(), paths)
}

// forget deletes what former workers have left.
func (f *files) forget(ctx context.Context) {
	limited, cancel := context.WithTimeout(postgres.Aside(ctx), filesTimeout)
	defer cancel()
	if err := store.On(f.pool).ForgetNotLoaded(limited); err != nil && ctx.Err() == nil {
		f.logger.InfoContext(ctx, "could not forget the files of former workers", "error", err)
	}
}
