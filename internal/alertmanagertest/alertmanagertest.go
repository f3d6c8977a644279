// Package alertmanagertest starts Prometheus Alertmanager for tests, and gathers
// what it notifies of.
package alertmanagertest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"provwatch/internal/porttest"
	"provwatch/internal/waittest"
)

// Alert is one of a notification's, or one that Alertmanager has.
type Alert struct {
	Status              string // firing or resolved
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
}

// String says what is the matter with which provider.
func (a Alert) String() string {
	return a.Status + " " + a.Labels["kind"] + " " + a.Labels["provider"]
}

// Server is a running Alertmanager, whose only receiver is in the test's process.
// It notifies at once of each alert by itself, and once.
type Server struct {
	// URL is where it serves its API.
	URL string

	t        testing.TB
	program  string
	dir      string
	listen   string
	receiver *httptest.Server
	process  *exec.Cmd
	ended    <-chan string // its log, once it has ended

	mu       sync.Mutex
	notified []Alert
}

// program returns the Alertmanager to be tested with. A test is skipped where there
// is none, as where no package manager offers one
// (scripts/install-alertmanager.sh).
func program(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("PROVWATCH_TEST_ALERTMANAGER"); path != "" {
		return path
	}
	for _, name := range []string{"prometheus-alertmanager", "alertmanager"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no Alertmanager: scripts/install-alertmanager.sh installs one, or PROVWATCH_TEST_ALERTMANAGER names it")
	return ""
}

// Start starts an Alertmanager that is stopped at the end of the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, program: program(t), dir: t.TempDir(), listen: porttest.Unused(t)}
	s.receiver = httptest.NewServer(http.HandlerFunc(s.receive))
	t.Cleanup(s.receiver.Close)
	config := fmt.Sprintf(`
route: {receiver: test, group_by: ["..."], group_wait: 1ms, group_interval: 50ms, repeat_interval: 1h}
receivers: [{name: test, webhook_configs: [{url: %q, send_resolved: true}]}]
`, s.receiver.URL)
	if err := os.WriteFile(filepath.Join(s.dir, "alertmanager.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	s.StartAgain()
	return s
}

var listening = regexp.MustCompile(`msg="?Listening on"? address=(\S+)`)

// StartAgain starts it after [Server.Stop], at the same address. It has forgotten all alerts.
func (s *Server) StartAgain() {
	s.t.Helper()
	s.process = exec.Command(s.program,
		"--config.file="+filepath.Join(s.dir, "alertmanager.yml"), "--storage.path="+filepath.Join(s.dir, "data"),
		"--web.listen-address="+s.listen, "--cluster.listen-address=")
	log, err := s.process.StderrPipe()
	if err == nil {
		err = s.process.Start()
	}
	if err != nil {
		s.t.Fatalf("start %s: %v", s.program, err)
	}
	address, ended := make(chan string, 1), make(chan string, 1)
	go func() {
		var text strings.Builder
		for lines := bufio.NewScanner(log); lines.Scan(); {
			text.WriteString(lines.Text() + "\n")
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		ended <- text.String()
	}()
	s.ended = ended
	select {
	case at := <-address:
		s.listen, s.URL = at, "http://"+at
	case text := <-ended:
		ended <- text
		s.t.Fatalf("Alertmanager does not start:\n%s", text)
	case <-time.After(waittest.Patience):
		s.t.Fatalf("Alertmanager does not listen within %s", waittest.Patience)
	}
}

// Stop kills it: it writes down nothing of what it knows.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	<-s.ended
	_ = s.process.Wait()
	s.process = nil
	_ = os.RemoveAll(filepath.Join(s.dir, "data"))
}

func (s *Server) receive(w http.ResponseWriter, r *http.Request) {
	var notification struct{ Alerts []Alert }
	if err := json.NewDecoder(r.Body).Decode(&notification); err != nil {
		s.t.Errorf("a notification that cannot be read: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notified = append(s.notified, notification.Alerts...)
}

// Notified returns the alerts of all notifications so far, in order.
func (s *Server) Notified() []Alert {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notified)
}

// Firing returns the alerts that it has and that are not over, nil while it is down.
func (s *Server) Firing() []Alert {
	s.t.Helper()
	response, err := http.Get(s.URL + "/api/v2/alerts")
	if err != nil {
		return nil
	}
	defer func() { _ = response.Body.Close() }()
	var alerts []struct {
		Labels, Annotations map[string]string
		StartsAt, EndsAt    time.Time
	}
	if err := json.NewDecoder(response.Body).Decode(&alerts); err != nil {
		s.t.Errorf("alerts that cannot be read: %v", err)
	}
	var firing []Alert
	for _, a := range alerts {
		firing = append(firing, Alert{"firing", a.Labels, a.Annotations, a.StartsAt, a.EndsAt})
	}
	return firing
}
