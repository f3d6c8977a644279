package filewatch

import (
	"errors"
	"io/fs"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// source reports what happens in directories. One goroutine uses it.
type source struct {
	watches
	events <-chan fsnotify.Event
	// errors holds one error. More than that are dropped, as the reader closes the source at
	// the first, or looks at all files.
	errors <-chan error
}

// watches are the watched directories: those of an [fsnotify.Watcher].
type watches interface {
	Add(dir string) error
	Remove(dir string) error
	WatchList() []string
	// Close ends the goroutines of the source.
	Close() error
}

// open returns the source of the operating system.
func open() (*source, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	latest := make(chan error, 1)
	w := &system{Watcher: watcher}
	// fsnotify can hold its lock while it sends an error, and Add and Remove wait for the lock.
	w.forwarder.Go(func() {
		for err := range watcher.Errors {
			select {
			case latest <- err:
			default:
			}
		}
	})
	return &source{watches: w, events: watcher.Events, errors: latest}, nil
}

// system is an [fsnotify.Watcher] whose errors are forwarded.
type system struct {
	*fsnotify.Watcher
	forwarder sync.WaitGroup
}

// Close implements [watches].
func (s *system) Close() error {
	err := s.Watcher.Close()
	if err == nil {
		s.forwarder.Wait()
	}
	return err
}

// remedyOf returns a way out of an error of a source.
func remedyOf(err error) string {
	const or = ", or send SIGHUP after each change"
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "raise fs.inotify.max_user_watches with sysctl" + or
	case errors.Is(err, syscall.EMFILE):
		return "raise fs.inotify.max_user_instances with sysctl, or the limit of open files" + or
	case errors.Is(err, fs.ErrPermission):
		return "let the user of the worker read the directory" + or
	}
	return "send SIGHUP after each change"
}
