//go:build e2e

package test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"regexp"

	"github.com/stretchr/testify/require"
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
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	return command
}

// result is what a command that has ended left.
type result struct {
	code           int
	stdout, stderr string
}

// squeezed returns the result with runs of spaces as one.
func (r result) squeezed() result {
	r.stdout = regexp.MustCompile(` {2,}`).ReplaceAllString(r.stdout, " ")
	return r
}

// run runs a worker command to its end.
func (w *world) run(env environ, args ...string) result {
	w.t.Helper()
	command := w.command(env, args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	require.NoError(w.t, command.Start())
	timer := time.AfterFunc(patience, func() { _ = command.Process.Kill() })
	err := command.Wait()
	if !timer.Stop() {
		w.t.Fatalf("worker %s did not end within %s\n%s%s", strings.Join(args, " "), patience, &stdout, &stderr)
	}
	r := result{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	w.emit(r.stdout)
	w.emit(r.stderr)
	require.NotContains(w.t, r.stderr, "DATA RACE")
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(w.t, err, &exit)
	}
	return r
}

// worker is a running "worker run" or "worker watch".
type worker struct {
	w       *world
	command *exec.Cmd
	ended   chan struct{}

	mu  sync.Mutex
	log []string // lines of standard error
	out []string // lines of standard output
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
	p := &worker{w: w, command: w.command(env, args...), ended: make(chan struct{})}
	change(p.command)
	stderr, err := p.command.StderrPipe()
	require.NoError(w.t, err)
	stdout, err := p.command.StdoutPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, p.command.Start())
	var readers sync.WaitGroup
	readers.Go(func() { p.gather(stderr, &p.log) })
	readers.Go(func() { p.gather(stdout, &p.out) })
	go func() {
		defer close(p.ended)
		readers.Wait()
		_ = p.command.Wait()
	}()
	w.t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.ended
		log := strings.Join(p.lines(), "\n")
		if strings.Contains(log, "DATA RACE") {
			w.t.Error("the worker has a data race")
		}
		if w.t.Failed() {
			w.t.Logf("log of worker %s:\n%s", strings.Join(args, " "), log)
		}
	})
	return p
}

func (p *worker) gather(from io.Reader, into *[]string) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.w.emit(lines.Text())
		p.mu.Lock()
		*into = append(*into, lines.Text())
		p.mu.Unlock()
	}
}

func (p *worker) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

func (p *worker) output() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.out)
}

// logged returns the number of log lines that contain all the texts.
func (p *worker) logged(texts ...string) int {
	n := 0
	for _, line := range p.lines() {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

// waitFor waits for a log line that contains all the texts.
func (p *worker) waitFor(texts ...string) {
	p.w.t.Helper()
	eventually(p.w.t, func() bool {
		select {
		case <-p.ended:
			// All is logged that ever will be.
			if p.logged(texts...) == 0 {
				p.w.t.Fatalf("the worker ended with %s and never logged %q:\n%s", p.command.ProcessState, texts, strings.Join(p.lines(), "\n"))
			}
		default:
		}
		return p.logged(texts...) > 0
	}, "the worker logs %q", texts)
}

// ready waits until the worker has seeded, listens, and has verified once.
func (p *worker) ready() *worker {
	p.w.t.Helper()
	p.waitFor("msg=ready")
	return p
}

func (p *worker) signal(s syscall.Signal) {
	p.w.t.Helper()
	require.NoError(p.w.t, p.command.Process.Signal(s))
}

// wait waits for the worker's end and returns its exit code, -1 after a kill.
func (p *worker) wait() int {
	p.w.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.w.t.Fatalf("the worker did not end within %s:\n%s", patience, strings.Join(p.lines(), "\n"))
	}
	return p.command.ProcessState.ExitCode()
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
