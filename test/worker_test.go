//go:build e2e

package test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/stretchr/testify/require"

	"provwatch/internal/workertest"
)

// raceOptions end a worker at its first race, without a pause at its end, and let the
// race detector use huge pages where the system has them: most of the time that a worker
// takes to start is for its memory.
const raceOptions = "GORACE=halt_on_error=1 atexit_sleep_ms=0 no_huge_pages_for_shadow=0"

func (w *world) command(env environ, args ...string) *exec.Cmd {
	command := exec.Command(workerBinary, args...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir(), raceOptions}
	if _, set := env["DATABASE_URL"]; !set {
		role, name := "provwatch", "run"
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			name = args[0]
		}
		if w.login[name] != "" {
			role = w.login[name]
		}
		command.Env = append(command.Env, "DATABASE_URL="+w.withPassword(role))
	}
	if w.source != "" {
		command.Env = append(command.Env, "PROVWATCH_SOURCE="+w.source)
	}
	// What tests do to a database should not be waited for afterwards.
	command.Env = append(command.Env, "PROVWATCH_MAX_BACKOFF=1s")
	// Tests change the environment back and forth, without two minutes in between.
	command.Env = append(command.Env, "PROVWATCH_ROLLBACK_AFTER=3s")
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	return command
}

type result = workertest.Result

// run runs a worker command to its end. The daemon has the race detector.
func (w *world) run(env environ, args ...string) result {
	w.t.Helper()
	command := w.command(env, args...)
	if len(args) > 0 && args[0] != "run" && !strings.HasPrefix(args[0], "-") {
		command.Path, command.Args[0] = commandBinary, commandBinary
	}
	r := workertest.Run(w.t, command)
	w.emit(r.Stdout)
	w.emit(r.Stderr)
	return r
}

// worker is a running "worker run" or "worker watch".
type worker struct {
	w       *world
	process *workertest.Process
	command *exec.Cmd       // of the process
	ended   <-chan struct{} // of the process
}

// start starts a worker command that goes on until it is stopped, at the latest
// at the end of the test.
func (w *world) start(env environ, args ...string) *worker {
	w.t.Helper()
	return w.startCommand(func(*exec.Cmd) {}, env, args...)
}

// startCommand is start of a command that is changed before.
func (w *world) startCommand(change func(*exec.Cmd), env environ, args ...string) *worker {
	w.t.Helper()
	command := w.command(env, args...)
	change(command)
	process := workertest.Start(w.t, command)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started = append(w.started, process)
	return &worker{w, process, command, process.Ended}
}

func (p *worker) lines() []string { return p.process.Log() }

func (p *worker) output() []string { return p.process.Output() }

// logged returns the number of log lines that contain all the texts.
func (p *worker) logged(texts ...string) int { return len(p.process.Logged(texts...)) }

// waitFor waits for a log line that contains all the texts.
func (p *worker) waitFor(texts ...string) {
	p.w.t.Helper()
	p.process.WaitFor(texts...)
}

// ready waits until the worker has seeded, listens, and has verified once.
func (p *worker) ready() *worker {
	p.w.t.Helper()
	p.process.WaitUntilReady()
	return p
}

func (p *worker) signal(s syscall.Signal) {
	p.w.t.Helper()
	p.process.Signal(s)
}

// wait waits for the worker's end and returns its exit code, -1 after a kill.
func (p *worker) wait() int {
	p.w.t.Helper()
	return p.process.Wait()
}

// kill9 kills the worker, which gets no chance to do anything about it.
func (p *worker) kill9() {
	p.w.t.Helper()
	p.signal(syscall.SIGKILL)
	require.Equal(p.w.t, -1, p.wait())
}

// stop stops the worker cleanly.
func (p *worker) stop() {
	p.w.t.Helper()
	p.signal(syscall.SIGTERM)
	require.Equal(p.w.t, 0, p.wait(), "exit code after SIGTERM")
}
