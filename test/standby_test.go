//go:build e2e

package test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/leader"
)

// idleLeader leads, shows signs of life, and does nothing else.
type idleLeader struct{}

func (idleLeader) NoLeader(error)              {}
func (idleLeader) LeaderSeen(leader.Seen)      {}
func (idleLeader) AlertsSeen(uuid.UUID, int64) {}

// leadIdly leads until the function that it returns is called.
func (w *world) leadIdly() (pid uint32, end func()) {
	w.t.Helper()
	conn := w.connect()
	elector := leader.NewElector(leader.NewLimits(6*time.Second, time.Minute, patience), slog.New(slog.DiscardHandler), idleLeader{})
	ctx, cancel := context.WithCancel(w.t.Context())
	leading := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for led := false; ctx.Err() == nil; {
			next, err := elector.Attend(ctx, conn)
			if ctx.Err() != nil {
				return
			}
			require.NoError(w.t, err)
			select {
			case <-elector.Terms():
			default:
				if !led && next > 0 { // the first sign of life
					led = true
					close(leading)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(next):
			}
		}
	})
	end = sync.OnceFunc(func() {
		cancel()
		group.Wait()
		require.NoError(w.t, conn.Close(context.Background()))
	})
	w.t.Cleanup(end)
	<-leading
	return conn.PgConn().PID(), end
}

// waitForReadyz waits until /readyz has the status, and a body that matches.
func (p *worker) waitForReadyz(status int, body string) {
	p.w.t.Helper()
	want := regexp.MustCompile(body)
	var seen string
	eventually(p.w.t, func() bool {
		got, text := p.get("/readyz")
		seen = text
		return got == status && want.MatchString(text)
	}, "/readyz is %d %s, but: %s", status, body, lazily(func() []string { return []string{seen} }))
}

// testStandbyUnreadyWhenTheLeaderRecordsNothing has a leader that shows signs of life and
// records nothing of a change.
func testStandbyUnreadyWhenTheLeaderRecordsNothing(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		first := w.start(env, "run").ready()
		first.stop()
		pid, end := w.leadIdly()
		standby := w.start(env, "run", "--http-addr=127.0.0.1:0", "--takeover-after=6s").ready()
		standby.waitForReadyz(http.StatusOK, "")
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		if w.source == "wal" {
			w.exec(`NOTIFY ai_providers_changed`) // else it sees the change with its next resync
		}
		standby.waitForReadyz(http.StatusServiceUnavailable, fmt.Sprintf(`the leader, session %d \(role "provwatch", .*\), has not recorded since \S+ what changed of "openai" \(disabled\)`, pid))
		standby.waitFor("level=WARN", "not ready", "has not recorded since")
		require.Empty(t, w.alerts())

		end()
		w.expectAlerts("disabled openai")
		standby.waitForReadyz(http.StatusOK, "")
		require.Equal(t, 1, standby.logged("not ready", "has not recorded since"))
		standby.stop()
	})
}

// logInWithGrants makes the next workers log in as a role that has privileges of its own, and
// is a member of no group.
func (w *world) logInWithGrants() (role string) {
	w.t.Helper()
	role = fmt.Sprintf("granted_%s_%s", w.db.Config().Database, w.source)
	w.createRole(role, map[string]string{"notify": "", "wal": "REPLICATION"}[w.source])
	w.exec(`GRANT USAGE ON SCHEMA provwatch TO ` + role)
	w.exec(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA provwatch, public TO ` + role)
	w.exec(`GRANT USAGE ON ALL SEQUENCES IN SCHEMA provwatch TO ` + role)
	w.exec(`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA provwatch TO ` + role)
	w.login["run"] = role
	return role
}

// testLeaderResignsWhenItCannotRecord takes a privilege from the leader's role, and not from
// the standby's.
func testLeaderResignsWhenItCannotRecord(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		role := w.logInWithGrants()
		first := w.start(env, "run", "--takeover-after=6s", "--http-addr=127.0.0.1:0").ready()
		w.logInAnotherWorker()
		second := w.start(env, "run", "--takeover-after=6s", "--http-addr=127.0.0.1:0").ready()
		w.waitForQueue(1)
		require.Equal(t, 1.0, first.metric("provwatch_leader"))
		w.exec(`REVOKE INSERT ON provwatch.drift_alerts FROM ` + role)
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		first.waitForReadyz(http.StatusServiceUnavailable, "lacks privileges")
		first.waitFor("level=WARN", "resigning: this worker cannot alert, and another one waits to lead", "permission denied")
		w.expectAlerts("disabled openai")
		require.Equal(t, 1.0, second.metric("provwatch_leader"))
		second.waitForReadyz(http.StatusOK, "")
		first.waitForReadyz(http.StatusServiceUnavailable, "lacks privileges")
		require.Equal(t, 1, first.logged("no longer leading", "resigned"))

		// It leads again where no other worker does.
		w.exec(`GRANT INSERT ON provwatch.drift_alerts TO ` + role)
		second.kill9()
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("disabled openai", "resolved openai")
		first.waitForReadyz(http.StatusOK, "")
		require.Equal(t, 1, first.logged("resigning"))
		first.stop()
	})
}
