//go:build e2e

package test

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/pubsub"
)

// shippedLimits has the states run with the limits that are shipped, as "make soak" does.
// Each then lasts for as long as no alert is to come, and its reason must be told in time.
var shippedLimits = os.Getenv("PROVWATCH_TEST_SHIPPED_LIMITS") != ""

const (
	// noAlertFor is for how long no alert comes in a state of docs/readiness.md, and
	// toldWithin is how soon /readyz must say why.
	noAlertFor = time.Minute
	toldWithin = 15 * time.Second
)

// shortLimits are the flags that shorten the limits for tests.
var shortLimits = []string{"--answer-timeout=2s", "--probe-interval=1s", "--takeover-after=6s", "--max-backoff=1s"}

// unready is a state in which no alert would come, a row of docs/readiness.md.
type unready struct {
	state   string
	sources []string // in which it is one; nil for both
	reason  string   // what /readyz says, a regular expression
	flags   []string
	// server gives the world a server of its own.
	server bool
	// gap says that the slot of the WAL source is lost in it, so that a gap is alerted when it
	// has ended.
	gap bool
	// boot has the worker start in the state. It has run before.
	boot bool
	// ends says that such a start ends when the state has lasted for a minute.
	ends bool
	// stays says of a state of the WAL source that --source=auto does not fall back in it.
	stays bool
	// prepare is what the state needs of the server before the worker starts, nil for nothing.
	prepare func(s *stated)
	// begin makes the state, and returns what ends it.
	begin func(s *stated) (end func())
	// change commits a change in the state, and returns the alert that comes after it; nil
	// for one that disables a provider.
	change func(s *stated) string
}

// stated is the world of one state.
type stated struct {
	*world
	env     environ
	p       *worker         // nil before it starts
	cluster *pgtest.Cluster // its own server, nil for none
	pooler  *pooler
	relay   *relay
	disk    string // the folder of a small file system
	linked  string // the folder of the socket that is a link
	openai  string // the id of the provider
}

// TestReadiness makes each state of docs/readiness.md on a real server and commits a
// change in it. No alert comes, /readyz says why, and the log does once. The alert comes
// when the state has ended.
func TestReadiness(t *testing.T) {
	t.Parallel()
	for _, u := range unreadyStates {
		sources := u.sources
		if sources == nil {
			sources = []string{"notify", "wal"}
		}
		if shippedLimits {
			sources = sources[len(sources)-1:] // each state once
		}
		for _, source := range sources {
			t.Run(u.state+"/"+source, func(t *testing.T) {
				t.Parallel()
				u.run(t, source)
			})
		}
	}
}

// arrange makes the world of the state, with a worker that has been ready. start starts a
// worker.
func (u unready) arrange(t *testing.T, source string) (s *stated, start func()) {
	s = &stated{}
	if u.server {
		cluster := pgtest.NewCluster(t)
		s.world = newWorldOn(t, cluster.NewDatabase(t), source)
		s.cluster = cluster
	} else {
		s.world = newWorldOf(t, source)
	}
	s.env = s.twoProviders()
	args := []string{"run", "--http-addr=127.0.0.1:0", "--on-boot-drift=alert", "--resync=24h"}
	if shippedLimits {
		s.env = s.env.With("PROVWATCH_MAX_BACKOFF", "")
	} else {
		args = append(args, shortLimits...)
	}
	args = append(args, u.flags...)
	if u.prepare != nil {
		u.prepare(s)
	}
	start = func() { s.p = s.start(s.env, args...) }
	start()
	s.p.ready()
	s.waitUntilReady()
	if u.boot {
		s.p.stop()
	}
	s.openai = s.strings(`SELECT id::text FROM ai_providers WHERE name = 'openai'`)[0]
	return s, start
}

// run makes the state, and returns the worker.
func (u unready) run(t *testing.T, source string) *worker {
	s, start := u.arrange(t, source)
	end := u.begin(s)
	began := time.Now()
	if u.boot {
		start()
		s.waitUntilUnready(u.reason)
	}
	change := u.change
	if change == nil {
		change = (*stated).disable
	}
	alert := change(s)
	if !u.boot {
		began = time.Now()
		s.waitUntilUnready(u.reason)
	}
	told := time.Since(began)
	if shippedLimits {
		require.LessOrEqual(t, told, toldWithin)
		lasts := noAlertFor
		if u.ends {
			lasts /= 2
		}
		time.Sleep(time.Until(began.Add(lasts)))
	}
	require.Empty(t, s.payloads(pubsub.DriftAlerts), "an alert came in the state")
	reason := regexp.MustCompile(u.reason)
	warned := func() []string {
		return slices.DeleteFunc(s.p.lines(), func(line string) bool {
			return !strings.Contains(line, "level=WARN") || !strings.Contains(line, `msg="not ready`) || !reason.MatchString(unquoted(line))
		})
	}
	eventually(t, func() bool { return len(warned()) > 0 }, "the log has it at WARN") // a moment after /readyz
	require.Len(t, warned(), 1, "and once")

	end()
	if u.gap && source == "wal" {
		s.expectAlerts("gap", alert)
	} else {
		s.expectAlerts(alert)
	}
	s.waitUntilReady()
	s.p.stop()
	return s.p
}

// unquoted undoes the quoting of a line of the log.
func unquoted(line string) string { return strings.ReplaceAll(line, `\"`, `"`) }

func (s *stated) waitUntilReady() {
	s.t.Helper()
	eventually(s.t, func() bool { status, _ := s.p.get("/readyz"); return status == http.StatusOK }, "the worker is ready")
}

func (s *stated) waitUntilUnready(reason string) {
	s.t.Helper()
	want := regexp.MustCompile(reason)
	var body string
	eventually(s.t, func() bool {
		var status int
		status, body = s.p.get("/readyz")
		return status == http.StatusServiceUnavailable && want.MatchString(body)
	}, "the worker is not ready for %s, but: %s", reason, lazily(func() []string { return []string{body} }))
}
