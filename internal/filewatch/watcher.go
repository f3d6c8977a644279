// Package filewatch reports changes of files, so that the worker reads its environments
// again without a signal.
//
//	        event, or a new read           1 s without an event
//	quiet ───────────────────────▶ settling ───────────────────▶ compared
//	  ▲                             │    ▲                          │
//	  │                             └────┘ event                    │
//	  └─────────────────────────────────────────────────────────────┘
//	            a request, if the content differs from what was read
//
// A process has one [Watcher], since a container allows few, and the environments share it.
// It watches directories and not files: a file that is replaced by a rename, or by the swap
// of a symbolic link, is another file of the same name. An event only causes a comparison of
// the content, so a needless event does no harm.
package filewatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"provwatch/internal/regularfile"
)

const (
	// settleFor is how long files must not change until they are compared.
	settleFor = time.Second
	// maxPasses bounds how often a way to files that changes meanwhile is followed again.
	maxPasses = 10
)

// Watcher watches the files of all environments of a process.
type Watcher struct {
	logger    *slog.Logger
	open      func() (*source, error)
	settleFor time.Duration
	renewed   chan struct{} // holds a value while files were read that Run has not seen

	mu  sync.Mutex // of what follows, and of the read files of each
	all []*Files

	// Of the goroutine of Run.
	source *source // nil: none is open
	logged string  // the error that was last logged, until all directories are watched
}

// New returns a watcher. It opens nothing until there are files to watch.
func New(logger *slog.Logger) *Watcher {
	return &Watcher{logger: logger, open: open, settleFor: settleFor, renewed: make(chan struct{}, 1)}
}

// Files are the files of one environment, as they were last read.
type Files struct {
	watcher  *Watcher
	logger   *slog.Logger
	requests chan<- struct{}

	// Of the watcher's mu.
	read []regularfile.Snapshot
	seen bool // by Run

	// Of the goroutine of Run.
	trail trail
	due   time.Time // when they are compared; zero for not at all
}

// Files returns the files of an environment. When one of them has changed, the watcher logs
// it and sends to requests, which must have room for one value.
func (w *Watcher) Files(logger *slog.Logger, requests chan<- struct{}) *Files {
	f := &Files{watcher: w, logger: logger, requests: requests, seen: true}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, f)
	return f
}

// Read records that the environment was read, with success or not, from these files. They
// are the ones that are watched from now on. Several goroutines may call it.
func (f *Files) Read(files []regularfile.Snapshot) {
	w := f.watcher
	w.mu.Lock()
	f.read, f.seen = files, false
	w.mu.Unlock()
	select {
	case w.renewed <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	defer w.close()
	timer := time.NewTimer(w.settleFor)
	defer timer.Stop()
	for {
		var events <-chan fsnotify.Event
		var failures <-chan error
		if w.source != nil {
			events, failures = w.source.events, w.source.errors
		}
		select {
		case <-ctx.Done():
			return
		case <-w.renewed:
			w.settle(ctx, w.unseen())
		case event := <-events:
			w.settle(ctx, w.concerned(event.Name))
		case err := <-failures:
			w.lost(ctx, err)
		case <-timer.C:
			w.compare(ctx)
		}
		if due := w.nextDue(); due.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(due))
		}
	}
}

// list returns all files.
func (w *Watcher) list() []*Files {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

// unseen returns the files that were read since the last call.
func (w *Watcher) unseen() (list []*Files) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.all {
		if !f.seen {
			f.seen = true
			list = append(list, f)
		}
	}
	return list
}

// concerned returns the files that an event at the path is about.
func (w *Watcher) concerned(path string) []*Files {
	return slices.DeleteFunc(w.list(), func(f *Files) bool { return !f.trail.concerns(path) })
}

// settle watches what leads to the files by now, and has them compared once they settle. A
// change before the watch begins is then found too.
func (w *Watcher) settle(ctx context.Context, list []*Files) {
	if len(list) == 0 {
		return
	}
	due := time.Now().Add(w.settleFor)
	for _, f := range list {
		if f.due = due; len(f.lastRead()) == 0 {
			f.due = time.Time{}
		}
	}
	w.follow(list)
	w.watch(ctx)
	// What leads to a file can change before it is watched.
	for range maxPasses {
		if !w.follow(list) {
			return
		}
		w.watch(ctx)
	}
}

// follow follows the ways to the files, and reports whether one is another by now.
func (w *Watcher) follow(list []*Files) (changed bool) {
	for _, f := range list {
		var paths []string
		for _, file := range f.lastRead() {
			paths = append(paths, file.Path)
		}
		if t := trailOf(paths); !t.equal(f.trail) {
			f.trail, changed = t, true
		}
	}
	return changed
}

// watch watches the directories of all files, and no other.
func (w *Watcher) watch(ctx context.Context) {
	wanted := map[string]bool{}
	for _, f := range w.list() {
		maps.Copy(wanted, f.trail.dirs)
	}
	if w.source == nil {
		if len(wanted) == 0 {
			return
		}
		opened, err := w.open()
		if err != nil {
			w.report(ctx, err)
			return
		}
		w.source = opened
	}
	for _, dir := range w.source.WatchList() {
		if !wanted[dir] {
			_ = w.source.Remove(dir) // it may be removed already
		}
		delete(wanted, dir)
	}
	var failed error
	for _, dir := range slices.Sorted(maps.Keys(wanted)) {
		err := w.source.Add(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && failed == nil { // an absent one leads to another way
			failed = fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	w.report(ctx, failed)
}

// report logs why changes are not noticed, once for each reason.
func (w *Watcher) report(ctx context.Context, err error) {
	switch {
	case err == nil:
		w.logged = ""
	case w.logged != err.Error():
		w.logged = err.Error()
		w.logger.WarnContext(ctx, "cannot watch the files of the environment, which SIGHUP alone reloads", "error", err, "remedy", remedyOf(err))
	}
}

// lost handles an error of the source, after which events may be missing.
func (w *Watcher) lost(ctx context.Context, err error) {
	if !errors.Is(err, fsnotify.ErrEventOverflow) {
		w.report(ctx, err)
		w.close()
		return
	}
	w.settle(ctx, w.list())
}

// close closes the source, until files are read the next time.
func (w *Watcher) close() {
	if w.source == nil {
		return
	}
	if err := w.source.Close(); err != nil {
		w.logger.Debug("could not close the watch of files", "error", err)
	}
	w.source = nil
}

// nextDue returns when the next files are compared, zero for none.
func (w *Watcher) nextDue() (next time.Time) {
	for _, f := range w.list() {
		if !f.due.IsZero() && (next.IsZero() || f.due.Before(next)) {
			next = f.due
		}
	}
	return next
}

// compare compares the files that have settled with what was read of them. For an environment
// whose files differ it requests a reload.
func (w *Watcher) compare(ctx context.Context) {
	now := time.Now()
	for _, f := range w.list() {
		if f.due.IsZero() || now.Before(f.due) {
			continue
		}
		f.due = time.Time{}
		changed := f.changed()
		if len(changed) == 0 {
			f.logger.DebugContext(ctx, "the files of the environment have not changed")
			continue
		}
		f.logger.InfoContext(ctx, "the files of the environment have changed", "files", changed)
		select {
		case f.requests <- struct{}{}:
		default: // one is on its way
		}
	}
}

func (f *Files) lastRead() []regularfile.Snapshot {
	f.watcher.mu.Lock()
	defer f.watcher.mu.Unlock()
	return f.read
}

// changed returns the paths of the files that differ from what was read, as they may be
// shown.
func (f *Files) changed() (paths []string) {
	for _, file := range f.lastRead() {
		if path := regularfile.Shown(file.Path); file.Changed() && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}
