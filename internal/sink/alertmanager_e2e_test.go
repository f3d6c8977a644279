//go:build e2e

package sink

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
)

func TestAlertmanagerFaults(t *testing.T) {
	t.Parallel()
	t.Run("FailingMember", testAlertmanagerFaultsFailingMember)
	t.Run("PostedAgain", testAlertmanagerFaultsPostedAgain)
	t.Run("EndWhileStopped", testAlertmanagerFaultsEndWhileStopped)
}

// testAlertmanagerFaultsFailingMember checks that a member of a cluster that fails delays
// none of the others.
func testAlertmanagerFaultsFailingMember(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newAlertmanagerServer(t)
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { discard(r.Body); <-r.Context().Done() }))
	t.Cleanup(hanging.Close)
	refusing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(refusing.Close)
	cluster, err := NewAlertmanager(strings.Join([]string{hanging.URL, "http://127.0.0.1:1", refusing.URL, s.server.URL + "/prefix"}, ", "), "", "")
	require.NoError(t, err)
	f.alert("missing a")
	f.run(time.Hour, cluster)
	s.expectFiring("a missing")
	eventually(t, func() bool { return f.cursor("alertmanager", Drift) == 1 }, "one of them is enough")
	require.Zero(t, f.metrics.of("failed alertmanager drift"))

	none, err := NewAlertmanager(refusing.URL+",http://127.0.0.1:1,"+refusing.URL, "", "")
	require.NoError(t, err)
	err = none.Send(t.Context(), Event{Stream: Drift, Provider: "a", alert: &pubsub.DriftAlert{Kind: drift.Resolved}})
	require.ErrorContains(t, err, "connection refused", "it can be tried again")
	none.Close()
}

// testAlertmanagerFaultsPostedAgain checks that a drift is posted again while it lasts,
// after restarts as well.
func testAlertmanagerFaultsPostedAgain(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newAlertmanagerServer(t)
	f.alert("changed a", "missing b", "resolved a", "deleted c")
	often := func() *Alertmanager {
		a := newAlertmanager(t, s)
		a.interval = 10 * time.Millisecond
		return a
	}
	_, stop := f.run(time.Hour, often())
	s.expectFiring("b missing", "c deleted")
	s.forget()
	s.expectFiring("b missing", "c deleted")
	eventually(t, func() bool { return f.cursor("alertmanager", Drift) == 4 }, "the cursor is at the end")
	stop()

	s.forget()
	runner, stop := f.run(time.Hour, often())
	s.expectFiring("b missing", "c deleted")
	f.alert("resolved b", "resolved c")
	runner.Wake(Drift)
	s.expectFiring()
	eventually(t, func() bool { return f.cursor("alertmanager", Drift) == 6 }, "the cursor is at the end")
	stop()
	// While nothing drifts there is nothing to post. What the last run was sending when
	// it was stopped can still reach the server that it was for.
	s = newAlertmanagerServer(t)
	runner, _ = f.run(time.Hour, often())
	f.alert("missing d")
	runner.Wake(Drift)
	s.expectFiring("d missing")
	s.mu.Lock()
	before := s.requests
	s.mu.Unlock()
	eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.requests > before+1 }, "it is told again")
	s.mu.Lock()
	defer s.mu.Unlock()
	for labels := range s.alerts {
		require.Contains(t, labels, "provider:d", "what was over before is not told of")
	}
}

// testAlertmanagerFaultsEndWhileStopped restarts the worker between the end of a drift
// that was posted and the post of that end.
func testAlertmanagerFaultsEndWhileStopped(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newAlertmanagerServer(t)
	f.alert("changed a", "missing b", "disabled d", "missing e")
	_, stop := f.run(time.Hour, newAlertmanager(t, s))
	s.expectFiring("a changed", "b missing", "d disabled", "e missing")
	eventually(t, func() bool { return f.cursor("alertmanager", Drift) == 4 }, "the cursor is at the end")
	stop()
	said := func() map[string]any {
		s.mu.Lock()
		defer s.mu.Unlock()
		annotations := map[string]any{}
		for _, alert := range s.alerts {
			labels := alert["labels"].(map[string]any)
			annotations[fmt.Sprint(labels["provider"], " ", labels["kind"])] = alert["annotations"]
		}
		return annotations
	}
	fired := said()
	// The drift of c begins and ends without the sink, to which it is nothing that fired.
	f.alert("resolved a", "changed c", "resolved c", "missing d", "resolved d", "changed e")
	_, _ = f.run(time.Hour, newAlertmanager(t, s))
	s.expectFiring("b missing", "e changed")
	eventually(t, func() bool { return f.cursor("alertmanager", Drift) == 10 }, "the cursor is at the end")
	ended := said()
	require.NotEmpty(t, fired["a changed"])
	for _, name := range []string{"a changed", "d disabled", "e missing"} {
		require.Equal(t, fired[name], ended[name])
	}
	require.Equal(t, map[string]any{"summary": "AI provider c: not changed"}, ended["c changed"])
}

func discard(body io.Reader) { _, _ = io.Copy(io.Discard, body) }
