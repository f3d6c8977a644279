package workertest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

// Result is what a command that has ended left.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Squeezed returns the result with runs of spaces on standard output as one.
func (r Result) Squeezed() Result {
	r.Stdout = regexp.MustCompile(` {2,}`).ReplaceAllString(r.Stdout, " ")
	return r
}

// Run runs a command to its end.
func Run(t testing.TB, command *exec.Cmd) Result {
	t.Helper()
	var out, log bytes.Buffer
	command.Stdout, command.Stderr = &out, &log
	require.NoError(t, command.Start())
	timer := time.AfterFunc(waittest.Patience, func() { _ = command.Process.Kill() })
	err := command.Wait()
	if !timer.Stop() {
		t.Fatalf("%s did not end within %s\n%s%s", nameOf(command), waittest.Patience, &out, &log)
	}
	var exit *exec.ExitError
	require.True(t, err == nil || errors.As(err, &exit), "%v", err)
	require.NotContains(t, log.String(), dataRace)
	return Result{command.ProcessState.ExitCode(), out.String(), log.String()}
}

// dataRace is in the log of a worker that was built with the race detector and has a race.
const dataRace = "DATA RACE"

func nameOf(command *exec.Cmd) string { return "worker " + strings.Join(command.Args[1:], " ") }

// Process is a worker command that goes on until it is stopped.
type Process struct {
	t       testing.TB
	Command *exec.Cmd
	Ended   <-chan struct{} // closed once the process has ended and all its output was read

	// A goroutine for each output appends to its lines; any other reads them. Under mu.
	mu       sync.Mutex
	log, out []string
}

// Start starts a command, which is killed at the end of the test at the latest. A race in
// it fails the test.
func Start(t testing.TB, command *exec.Cmd) *Process {
	t.Helper()
	ended := make(chan struct{})
	p := &Process{t: t, Command: command, Ended: ended}
	stderr, err := command.StderrPipe()
	require.NoError(t, err)
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	var readers sync.WaitGroup
	readers.Go(func() { p.gather(stderr, &p.log) })
	readers.Go(func() { p.gather(stdout, &p.out) })
	go func() {
		defer close(ended)
		readers.Wait()
		_ = command.Wait()
	}()
	t.Cleanup(func() {
		how := "killed at the end of the test"
		select {
		case <-ended:
			how = "it had ended: " + command.ProcessState.String()
		default:
		}
		_ = command.Process.Kill()
		<-ended
		log := strings.Join(p.Log(), "\n")
		if strings.Contains(log, dataRace) {
			t.Error("the worker has a data race")
		}
		if t.Failed() {
			t.Logf("log of %s (%s):\n%s", nameOf(command), how, log)
		}
	})
	return p
}

func (p *Process) gather(from io.Reader, into *[]string) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		*into = append(*into, lines.Text())
		p.mu.Unlock()
	}
}

// Log returns the lines of standard error so far.
func (p *Process) Log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// Output returns the lines of standard output so far.
func (p *Process) Output() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.out)
}

// Logged returns the log lines that contain all the texts.
func (p *Process) Logged(texts ...string) (lines []string) {
	for _, line := range p.Log() {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

// WaitFor waits for a log line that contains all the texts, and returns the first. It
// fails the test when the process ends without one.
func (p *Process) WaitFor(texts ...string) (line string) {
	p.t.Helper()
	waittest.Until(p.t, func() bool {
		ended := false
		select {
		case <-p.Ended: // all is logged that ever will be
			ended = true
		default:
		}
		if lines := p.Logged(texts...); len(lines) > 0 {
			line = lines[0]
			return true
		}
		if ended {
			p.t.Fatalf("%s ended with %s and never logged %q:\n%s", nameOf(p.Command), p.Command.ProcessState, texts, strings.Join(p.Log(), "\n"))
		}
		return false
	}, "%s logs %q", nameOf(p.Command), texts)
	return line
}

// WaitUntilReady waits until the worker has seeded, listens, and has verified once.
func (p *Process) WaitUntilReady() {
	p.t.Helper()
	p.WaitFor("msg=ready")
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.Command.Process.Signal(s))
}

// Wait waits for the end of the process and returns its exit code, -1 after a kill.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.Ended:
	case <-time.After(waittest.Patience):
		p.t.Fatalf("%s did not end within %s:\n%s", nameOf(p.Command), waittest.Patience, strings.Join(p.Log(), "\n"))
	}
	return p.Command.ProcessState.ExitCode()
}
