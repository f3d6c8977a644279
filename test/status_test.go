//go:build e2e

package test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/status"
)

func TestStatusPage(t *testing.T) {
	t.Parallel()
	t.Run("InABrowser", testStatusPageInABrowser)
	t.Run("AsksForItsToken", testStatusPageAsksForItsToken)
	t.Run("CostsNothingUnwatched", testStatusPageCostsNothingUnwatched)
	t.Run("OfAStandby", testStatusPageOfAStandby)
	t.Run("OfManyTargets", testStatusPageOfManyTargets)
}

func testStatusPageAsksForItsToken(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	token := w.secret("token-0123456789-abcdefghij")
	for _, bad := range []string{w.file("token", "short"), filepath.Join(t.TempDir(), "none")} {
		r := w.run(w.twoProviders(), "run", "--http-addr=127.0.0.1:0", "--http-token-file="+bad)
		require.Equal(t, 3, r.Code)
		require.Contains(t, r.Stderr, "--http-token-file (or PROVWATCH_HTTP_TOKEN_FILE): ")
	}
	require.Equal(t, 3, w.run(w.twoProviders(), "run", "--http-token-file="+w.file("token", token)).Code, "without an address")

	// The connection is by loopback, the address is not.
	p := w.start(w.twoProviders(), "run", "--http-addr=0.0.0.0:0", "--debug").ready()
	for _, path := range append([]string{"/", "/events"}, profilerPages...) {
		code, body := p.get(path)
		require.Equal(t, http.StatusForbidden, code, path)
		require.Contains(t, body, "--http-token-file FILE")
	}
	p.stop()

	p = w.start(w.twoProviders().With("PROVWATCH_HTTP_TOKEN_FILE", w.file("token", token+"\n")), "run", "--http-addr=0.0.0.0:0", "--debug").ready()
	for path, want := range map[string]int{
		"/": 401, "/events": 401, "/style.css": 401, "/metrics": 200, "/healthz": 200, "/readyz": 200, "/nothing": 404,
	} {
		code, _ := p.get(path)
		require.Equal(t, want, code, path)
	}
	for _, page := range profilerPages {
		code, body := p.get(page)
		require.Equal(t, http.StatusUnauthorized, code, page)
		require.NotContains(t, body, "http-addr=", "the command line")
		code, _ = p.getWithToken(page, token+"x")
		require.Equal(t, http.StatusUnauthorized, code, page)
		code, _ = p.getWithToken(page, token)
		require.Equal(t, http.StatusOK, code, page)
	}
	code, body := p.getWithToken("/", token)
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

func testStatusPageCostsNothingUnwatched(t *testing.T) {
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

func testStatusPageOfAStandby(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	leader := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	leader.waitFor("msg=leading")
	standby := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	verified := "<dt>Everything verified</dt><dd><time"
	_, body := leader.get("/")
	require.Contains(t, body, verified)
	require.Contains(t, body, "this worker, session ")
	require.Contains(t, body, "<dd>2</dd>", "workers connected")
	_, body = standby.get("/")
	require.Contains(t, body, "another worker, session ")
	require.Contains(t, body, "stands by")
	require.Contains(t, body, verified, "by the leader")
	require.Contains(t, body, "Drifted or soft-deleted: 0 of 2 providers.")
	leader.stop()
	eventually(t, func() bool {
		_, body = standby.get("/")
		return strings.Contains(body, "this worker, session ")
	}, "the standby's page tells that it leads: %s", lazily(func() []string { return []string{body} }))
}

func TestStatus(t *testing.T) {
	t.Parallel()
	t.Run("EncryptedRows", testStatusEncryptedRows)
	t.Run("ByAReader", testStatusByAReader)
	t.Run("LastVerification", testStatusLastVerification)
	t.Run("OnAHotStandby", testStatusOnAHotStandby)
}

func testStatusByAReader(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "wal")
	w.insertProvider("openai", "experiment", "https://lab.example/")
	p := w.start(w.twoProviders(), "run").ready()
	w.exec(`UPDATE ai_providers SET base_url = $1 WHERE name = 'openai'`, "https://somebody:"+w.secret("hidden-password")+"@proxy.example/v1/")
	w.expectAlerts("changed openai")
	w.awaitDelivery()
	for name, env := range map[string]environ{"with the environment": w.twoProviders(), "without": {}} {
		r := w.run(env, "status")
		require.Equal(t, 0, r.Code, "%s: %s", name, r.Stderr)
		for _, line := range []string{
			"3 providers: 1 drifted, 1 unmanaged, 1 in sync.\n",
			"openai      changed    moved: database  base_url  https://api.openai.com/v1/  https://proxy.example/v1/\n",
			"experiment  unmanaged\n", "anthropic   in sync\n",
			"Leader:    session ", " of role test_wal", "Listeners: 1\n", "Verified:  everything, last at 2", "being read, reserved, keeps ", "#1     ", "provider_key.create",
		} {
			require.Contains(t, r.Stdout, line, name)
		}
		r = w.run(env, "status", "-o", "json")
		require.Equal(t, 0, r.Code, r.Stderr)
		var s status.Status
		require.NoError(t, json.Unmarshal([]byte(r.Stdout), &s))
		require.Equal(t, 1, s.Counts[status.Drifted])
		require.Nil(t, s.Worker)
		require.True(t, s.Database.Slot.Active)
		require.WithinDuration(t, s.At, *s.Database.VerifiedAt, 2*patience)
		require.EqualValues(t, 1, s.Alerts[0].Seq)
		require.Len(t, s.Audit, 4)
	}
	p.stop()

	r := w.run(environ{"DATABASE_URL": newEmptyWorld(t).url}, "status")
	require.Equal(t, 4, r.Code, r.Stdout)
	require.Contains(t, r.Stderr, "worker migrate")
}

// verifiedAt returns when everything was last verified, as "worker status" tells.
func (w *world) verifiedAt() *time.Time {
	w.t.Helper()
	r := w.run(nil, "status", "-o", "json")
	require.Equal(w.t, 0, r.Code, r.Stderr)
	var s status.Status
	require.NoError(w.t, json.Unmarshal([]byte(r.Stdout), &s))
	return s.Database.VerifiedAt
}

func testStatusLastVerification(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		other := w.connect()                                                        // leads, and verifies nothing
		_, err := other.Exec(t.Context(), `SELECT pg_advisory_lock(1886874724, 0)`) // of the first term
		require.NoError(t, err)
		p := w.start(w.twoProviders(), "run", "--resync=1s").ready()
		require.Contains(t, w.run(nil, "status").Stdout, "Verified:  not recorded yet\n", "a worker that stands by notes nothing")
		require.NoError(t, other.Close(t.Context()))

		var first *time.Time
		eventually(t, func() bool { first = w.verifiedAt(); return first != nil }, "the leader notes it")
		eventually(t, func() bool { return w.verifiedAt().After(*first) }, "each resync notes it")
		p.stop()
		last := w.verifiedAt()
		require.Equal(t, last, w.verifiedAt(), "it stays when nobody leads")
	})
}

// testStatusOnAHotStandby reads from a standby, and is refused what
// would write.
func testStatusOnAHotStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t)
	w := newWorldOn(t, primary.URL(), "")
	p := w.start(w.twoProviders(), "run").ready()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.stop()
	verified := w.verifiedAt()
	// The standby has the slot as well, as one has that synchronises it.
	standby := primary.NewStandby(t)
	w.db, w.login = w.connect(), nil
	w.exec(`UPDATE ai_providers SET deleted = true WHERE name = 'anthropic'`)

	env := w.twoProviders().With("DATABASE_URL", standby.URL())
	var r result
	eventually(t, func() bool { r = w.run(env, "status"); return strings.Contains(r.Stdout, "soft-deleted") }, "the standby replays")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Regexp(t, `(?m)^Replica:   what it has replayed, up to a commit at 2\S+Z; only the primary knows which workers watch$`, r.Stdout)
	require.Contains(t, r.Stdout, "Verified:  everything, last at "+verified.Format(time.RFC3339)+"\n")
	for _, unknown := range []string{"Leader:", "Listeners:", "Slot:"} {
		require.NotContains(t, r.Stdout, unknown)
	}
	r = w.run(env, "status", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	var s status.Status
	require.NoError(t, json.Unmarshal([]byte(r.Stdout), &s))
	require.WithinDuration(t, time.Now(), *s.Database.Replica.ReplayedAt, 2*patience)
	require.Equal(t, verified, s.Database.VerifiedAt)
	require.NotContains(t, r.Stdout, `"workers"`)
	require.NotContains(t, r.Stdout, `"slot"`)

	const cannot = "worker: the database's schema cannot be used: "
	const readOnly = cannot + "the server is a standby, which is read-only; connect to the primary\n"
	const byWAL = cannot + "--source=wal is not possible: the WAL cannot be read: the server is a standby; connect to the primary\n"
	for args, want := range map[string]result{
		"run":                 {Code: 4, Stderr: readOnly},
		"run --migrate=check": {Code: 4, Stderr: readOnly},
		"run --source=wal":    {Code: 4, Stderr: byWAL},
		"watch":               {Code: 4, Stderr: readOnly},
		"slot drop":           {Code: 1, Stderr: "worker: the WAL cannot be read: the server is a standby; connect to the primary\n"},
	} {
		require.Equal(t, want, w.run(env, strings.Fields(args)...), args)
	}
}
