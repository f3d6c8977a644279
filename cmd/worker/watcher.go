package main

import (
	"context"
	"log/slog"
	"sync"

	"provwatch/internal/filewatch"
)

// startWatcher runs a watcher of files until ctx ends or stop is called, which waits for
// its end.
func startWatcher(ctx context.Context, logger *slog.Logger) (_ *filewatch.Watcher, stop func()) {
	watcher := filewatch.New(logger)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { watcher.Run(ctx) })
	return watcher, func() {
		cancel()
		running.Wait()
	}
}

// watched returns the files of the environment, which request a reload when they change, nil
// with --env-reload=signal.
func (f *flags) watched(watcher *filewatch.Watcher, logger *slog.Logger, requests chan<- struct{}) *filewatch.Files {
	if f.envReload == signalReload {
		return nil
	}
	return watcher.Files(logger, requests)
}
