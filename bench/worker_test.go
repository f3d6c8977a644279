//go:build bench

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// worker is a running "worker run".
type worker struct {
	b       *testing.B
	command *exec.Cmd
	log     string // path of what it logs
	ended   chan struct{}
}

func (w *worker) text() string {
	text, err := os.ReadFile(w.log)
	if err != nil {
		w.b.Fatal(err)
	}
	return string(text)
}

func (w *worker) logged(text string) bool { return strings.Contains(w.text(), text) }

// at returns the time of the first line of its log that contains the text, to
// the millisecond.
func (w *worker) at(text string) time.Time {
	w.b.Helper()
	for line := range strings.Lines(w.text()) {
		if stamp, ok := strings.CutPrefix(line, "time="); ok && strings.Contains(line, text) {
			stamp, _, _ = strings.Cut(stamp, " ")
			at, err := time.Parse(time.RFC3339Nano, stamp)
			if err != nil {
				w.b.Fatal(err)
			}
			return at
		}
	}
	w.b.Fatalf("the worker did not log %q:\n%s", text, w.text())
	return time.Time{}
}

// start starts a worker for the providers of the database.
func (d *database) start(source string) *worker {
	d.b.Helper()
	var env []string
	for i := range *providers {
		for field, value := range map[string]string{"TYPE": "openai", "NAME": providerName(i), "BASE_URL": providerURL(i), "KEY": "sk-bench-0123456789"} {
			env = append(env, fmt.Sprintf("CODER_AIBRIDGE_PROVIDER_%d_%s=%s", i, field, value))
		}
	}
	return d.launch(env, "--source="+source)
}

// launch starts a worker. Its log goes to a file, so that this process does not
// work while the worker logs.
func (d *database) launch(env []string, args ...string) *worker {
	d.b.Helper()
	return launch(d.b, append([]string{"DATABASE_URL=" + d.dsn()}, env...), args...)
}

func launch(b *testing.B, env []string, args ...string) *worker {
	b.Helper()
	log, err := os.CreateTemp(filepath.Dir(binary), "worker-*.log")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	w := &worker{b: b, log: log.Name(), ended: make(chan struct{}), command: exec.Command(binary, append([]string{"run", "--on-boot-drift=alert"}, args...)...)}
	w.command.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	w.command.Stderr = log
	if err := w.command.Start(); err != nil {
		b.Fatal(err)
	}
	go func() {
		defer close(w.ended)
		_ = w.command.Wait()
	}()
	b.Cleanup(func() {
		_ = w.command.Process.Kill()
		<-w.ended
	})
	return w
}

// waitFor waits for a text in the worker's log.
func (w *worker) waitFor(text string) *worker {
	w.b.Helper()
	return w.waitLonger(text, patience)
}

func (w *worker) waitLonger(text string, limit time.Duration) *worker {
	w.b.Helper()
	for deadline := time.Now().Add(limit); !w.logged(text); time.Sleep(2 * time.Millisecond) {
		select {
		case <-w.ended:
			w.b.Fatalf("the worker ended:\n%s", w.text())
		default:
		}
		if time.Now().After(deadline) {
			w.b.Fatalf("the worker did not log %q within %s:\n%s", text, limit, w.text())
		}
	}
	return w
}

// ready waits until the worker has verified everything once; by the WAL this
// means that it has read all there was.
func (w *worker) ready() *worker { return w.waitFor("msg=ready") }

// end ends the worker and waits for its end.
func (w *worker) end(s syscall.Signal) {
	w.b.Helper()
	if err := w.command.Process.Signal(s); err != nil {
		w.b.Fatal(err)
	}
	select {
	case <-w.ended:
	case <-time.After(patience):
		w.b.Fatalf("the worker did not end within %s", patience)
	}
}
