package test

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/status"
)

// getWithToken fetches a page of the worker that asks for a token.
func (p *worker) getWithToken(path, token string) (code int, body string) {
	p.w.t.Helper()
	request, err := http.NewRequestWithContext(p.w.t.Context(), http.MethodGet, "http://"+p.httpAddress()+path, nil)
	require.NoError(p.w.t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(p.w.t, err)
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	require.NoError(p.w.t, err)
	p.w.emit(string(content))
	return response.StatusCode, string(content)
}

func TestThePageAsksForItsTokenAndTheOtherEndpointsDoNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.secret("token-0123456789-abcdefghij")
	for _, bad := range []string{w.file("token", "short"), filepath.Join(t.TempDir(), "none")} {
		r := w.run(w.twoProviders(), "run", "--http-addr=127.0.0.1:0", "--http-token-file="+bad)
		require.Equal(t, 3, r.code)
		require.Contains(t, r.stderr, "--http-token-file (or PROVWATCH_HTTP_TOKEN_FILE): ")
	}
	require.Equal(t, 3, w.run(w.twoProviders(), "run", "--http-token-file="+w.file("token", token)).code, "without an address")

	// The connection is by loopback, the address is not.
	p := w.start(w.twoProviders(), "run", "--http-addr=0.0.0.0:0").ready()
	code, body := p.get("/")
	require.Equal(t, http.StatusForbidden, code)
	require.Contains(t, body, "--http-token-file FILE")
	code, _ = p.get("/events")
	require.Equal(t, http.StatusForbidden, code)
	p.stop()

	p = w.start(w.twoProviders().with("PROVWATCH_HTTP_TOKEN_FILE", w.file("token", token+"\n")), "run", "--http-addr=0.0.0.0:0").ready()
	for path, want := range map[string]int{
		"/": 401, "/events": 401, "/style.css": 401, "/metrics": 200, "/healthz": 200, "/readyz": 200, "/nothing": 404,
	} {
		code, _ = p.get(path)
		require.Equal(t, want, code, path)
	}
	code, body = p.getWithToken("/", token)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "Drifted or soft-deleted: 0 of 2 providers.")
	require.Contains(t, body, "provider_key.create")
	p.stop()
}

// statusSessions returns the sessions of status pages, each as the time at which it
// last did something.
func (w *world) statusSessions() []string {
	w.t.Helper()
	return w.strings(`SELECT state_change::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'provwatch-status'`)
}

func TestAPageThatNobodyLooksAtCostsTheDatabaseNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	require.Empty(t, w.statusSessions())

	code, _ := p.get("/")
	require.Equal(t, http.StatusOK, code)
	before := w.statusSessions()
	require.Len(t, before, 1)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	require.Equal(t, before, w.statusSessions(), "nobody has looked since")

	// Nor does it delay a verification when its own queries hang.
	holder := w.connect()
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE provwatch.audit_log IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	code, body := p.get("/")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "lock timeout")
	require.Contains(t, body, "ready", "what the worker knows of itself")
	require.NoError(t, tx.Rollback(t.Context()))
	code, _ = p.get("/")
	require.Equal(t, http.StatusOK, code)
	p.stop()
}

func TestThePageOfAStandbyTellsWhoLeads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leader := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	leader.waitFor("msg=leading")
	standby := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	_, body := leader.get("/")
	require.Contains(t, body, "this worker, session ")
	require.Contains(t, body, "<dd>2</dd>", "workers connected")
	_, body = standby.get("/")
	require.Contains(t, body, "another worker, session ")
	require.Contains(t, body, "stands by")
	require.Contains(t, body, "Drifted or soft-deleted: 0 of 2 providers.")
	leader.stop()
	eventually(t, func() bool {
		_, body = standby.get("/")
		return strings.Contains(body, "this worker, session ")
	}, "the standby's page tells that it leads: %s", lazily(func() []string { return []string{body} }))
}

func TestStatusIsPrintedBesideARunningWorkerByAReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(w.twoProviders(), "run").ready()
	w.exec(`UPDATE ai_providers SET base_url = $1 WHERE name = 'openai'`, "https://somebody:"+w.secret("hidden-password")+"@proxy.example/v1/")
	w.exec(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'experiment', 'https://lab.example/')`)
	w.expectAlerts("changed openai")
	for name, env := range map[string]environ{"with the environment": w.twoProviders(), "without": {}} {
		r := w.run(env, "status")
		require.Equal(t, 0, r.code, "%s: %s", name, r.stderr)
		for _, line := range []string{
			"3 providers: 1 drifted, 1 in the database only, 1 in sync.\n",
			"openai      changed               base_url  https://api.openai.com/v1/  https://proxy.example/v1/\n",
			"experiment  in the database only\n", "anthropic   in sync\n",
			"Leader:    session ", " of role test_wal", "Listeners: 1\n", "being read, reserved, keeps ", "#1     ", "provider_key.create",
		} {
			require.Contains(t, r.stdout, line, name)
		}
		r = w.run(env, "status", "-o", "json")
		require.Equal(t, 0, r.code, r.stderr)
		var s status.Status
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &s))
		require.Equal(t, 1, s.Counts[status.Drifted])
		require.Nil(t, s.Worker)
		require.True(t, s.Database.Slot.Active)
		require.EqualValues(t, 1, s.Alerts[0].Seq)
		require.Len(t, s.Audit, 4)
	}
	p.stop()

	r := w.run(environ{"DATABASE_URL": newEmptyWorld(t).url}, "status")
	require.Equal(t, 4, r.code, r.stdout)
	require.Contains(t, r.stderr, "worker migrate")
}
