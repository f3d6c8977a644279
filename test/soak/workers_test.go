//go:build soak

package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// worker is one of the three, which is started again whenever it ends.
type worker struct {
	*line
	index int
	url   string // of the database by way of its proxy

	ended   chan struct{} // closed when the supervisor has ended
	quit    chan struct{}
	stopped sync.Once

	mu        sync.Mutex
	process   *os.Process // nil between two incarnations
	life      int         // counts incarnations
	address   string      // of HTTP, empty until it serves
	log       []string    // of this incarnation
	expected  bool        // its end was asked for
	frozen    bool
	moveClock int64 // seconds by which the next incarnation's monotonic clock is moved
	clock     clock // of the nemesis
	file      *os.File
}

func newWorker(w *world, index int) *worker {
	p := &worker{line: newLine(w, fmt.Sprintf("worker %d", index), w.cluster.TCPAddr()), index: index, ended: make(chan struct{}), quit: make(chan struct{})}
	p.url = w.cluster.TCPURL(w.t, w.url(), p.proxy.Listen)
	p.clock.file = filepath.Join(w.t.TempDir(), "moved")
	require.True(w.t, p.clock.move(0))
	if *keep != "" {
		var err error
		p.file, err = os.Create(filepath.Join(*keep, fmt.Sprintf("%s-%d.log", w.source, index)))
		require.NoError(w.t, err)
	}
	return p
}

// launch starts the supervisor.
func (p *worker) launch() {
	go func() {
		defer close(p.ended)
		for {
			p.live()
			select {
			case <-p.quit:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
}

var (
	seqOf     = regexp.MustCompile(`msg="?drift.* seq=(\d+)`)
	addressOf = regexp.MustCompile(`msg="serving HTTP" address=(\S+)`)
)

// live is one incarnation, from start to end.
func (p *worker) live() {
	p.mu.Lock()
	p.life++
	name := fmt.Sprintf("w%d.%d", p.index, p.life)
	args := []string{workerBinary, "run", "--http-addr=127.0.0.1:0", "--on-boot-drift=alert", "--env-file=" + p.w.envFile, "--source=" + p.w.source, "--log-level=debug", "--keep=5s"}
	args = append(args, p.w.sinks.args...)
	if p.w.schedule.short {
		args = append(args, "--takeover-after=3s", "--answer-timeout=2s")
	}
	if held := p.w.schedule.alertAfter; held != 0 {
		args = append(args, "--alert-after="+held.String())
	}
	if p.w.schedule.applies {
		args = append(args, "--on-reload-drift=apply")
	}
	if resync := p.w.schedule.resyncs[p.index]; resync != 0 {
		args = append(args, "--resync="+resync.String())
	}
	if p.moveClock != 0 {
		move := strconv.FormatInt(p.moveClock, 10)
		args = append([]string{"unshare", "--time", "--monotonic", move, "--boottime", move}, args...)
		p.moveClock = 0
	}
	command := exec.Command(args[0], args[1:]...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "GORACE=halt_on_error=1 atexit_sleep_ms=0", "SOAK_CLOCK=" + p.clock.file, "DATABASE_URL=" + p.url + "&application_name=" + url.QueryEscape(name)}
	stderr, err := command.StderrPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		p.mu.Unlock()
		p.w.violate(ruleWorker, "start worker %d: %v", p.index, err)
		return
	}
	p.process, p.address, p.log, p.expected, p.frozen = command.Process, "", nil, false, false
	p.mu.Unlock()
	p.w.mu.Lock()
	p.w.starts++
	p.w.mu.Unlock()
	p.gather(stderr, name)
	_ = command.Wait()

	p.mu.Lock()
	defer p.mu.Unlock()
	p.process = nil
	log := strings.Join(p.log, "\n")
	code := command.ProcessState.ExitCode()
	switch {
	case strings.Contains(log, "DATA RACE"), strings.Contains(log, "panic:"), strings.Contains(log, "fatal error:"):
		p.w.violate(ruleWorker, "%s:\n%s", name, tail(p.log, 60))
	case p.expected:
	case code == 4, code == 1 && !strings.Contains(log, "msg=ready"):
		// The database was out of reach for longer than it tries at the start.
		fmt.Printf("soak %s: %s ended with code %d while booting: %s\n", p.w.source, name, code, tail(p.log, 1))
	default:
		p.w.violate(ruleWorker, "%s ended with %s:\n%s", name, command.ProcessState, tail(p.log, 30))
	}
}

func tail(lines []string, n int) string {
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *worker) gather(from io.Reader, name string) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		p.mu.Lock()
		p.log = append(p.log, line)
		if m := addressOf.FindStringSubmatch(line); m != nil {
			p.address = m[1]
		}
		p.mu.Unlock()
		if p.file != nil {
			fmt.Fprintf(p.file, "%s %s\n", name, line)
		}
		p.w.mu.Lock()
		p.w.emitted.WriteString(line + "\n")
		if m := seqOf.FindStringSubmatch(line); m != nil {
			seq, _ := strconv.ParseInt(m[1], 10, 64)
			p.w.authors[seq] = name
		}
		p.w.mu.Unlock()
	}
}

// logged says whether this incarnation has logged a line with the text.
func (p *worker) logged(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.log, func(line string) bool { return strings.Contains(line, text) })
}

// readings returns which incarnation runs, and how often it has read its environment
// again.
func (p *worker) readings() (life, readings int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.log {
		if strings.Contains(line, `msg="environment reloaded"`) {
			readings++
		}
	}
	return p.life, readings
}

// signal sends a signal; expected says that the process may end of it.
func (p *worker) signal(s syscall.Signal, expected bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return false
	}
	p.expected = p.expected || expected
	switch s {
	case syscall.SIGSTOP:
		p.frozen = true
	case syscall.SIGCONT:
		p.frozen = false
	}
	return p.process.Signal(s) == nil
}

func (p *worker) isFrozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

// end ends the worker and its supervisor, whatever state they are in.
func (p *worker) end() {
	p.stopped.Do(func() { close(p.quit) })
	p.signal(syscall.SIGKILL, true)
	<-p.ended
	p.proxy.Stop()
}

// stopInOrder ends the worker by SIGTERM, which it must obey.
func (p *worker) stopInOrder() {
	p.stopped.Do(func() { close(p.quit) })
	p.signal(syscall.SIGTERM, true)
	select {
	case <-p.ended:
		if !p.logged("msg=stopped") {
			p.w.violate(ruleWorker, "worker %d did not stop in order", p.index)
		}
	case <-time.After(30 * time.Second):
		p.w.violate(ruleWorker, "worker %d did not stop within 30 s", p.index)
	}
}

var httpClient = http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// ready asks /readyz.
func (p *worker) ready() error {
	p.mu.Lock()
	address := p.address
	running := p.process != nil
	p.mu.Unlock()
	if address == "" || !running {
		return errors.New("does not serve HTTP")
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		return fmt.Errorf("/readyz says %d: %s", response.StatusCode, strings.TrimSpace(string(text)))
	}
	return nil
}
