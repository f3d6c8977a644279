//go:build e2e

package sink

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/alertmanagertest"
)

// TestAlertmanagerServer compares the alerts that the program itself lists with the drift,
// by a clock that is ahead as well.
func TestAlertmanagerServer(t *testing.T) {
	t.Parallel()
	s := alertmanagertest.Start(t)
	f := newFeed(t)
	a, err := NewAlertmanager(s.URL, "", "https://runbooks.example/drift")
	require.NoError(t, err)
	a.interval = 50 * time.Millisecond
	runner, _ := f.run(time.Hour, a)
	notified := 0
	expect := func(want ...string) {
		t.Helper()
		from := notified
		notified += len(want)
		eventually(t, func() bool { return len(s.Notified()) >= notified }, "%q", want)
		list := []string{}
		for _, alert := range s.Notified()[from:] {
			list = append(list, alert.String())
		}
		slices.Sort(list)
		require.Equal(t, want, list)
	}
	after := func(alert string, want ...string) {
		t.Helper()
		f.alert(alert)
		runner.Wake(Drift)
		expect(want...)
	}
	after("changed a", "firing changed a")
	alert := s.Notified()[0]
	require.Equal(t, map[string]string{"alertname": "ProviderDrift", "provider": "a", "kind": "changed", "cluster": "fleet 7"}, alert.Labels)
	require.Equal(t, "https://runbooks.example/drift", alert.Annotations["runbook_url"])
	require.Contains(t, alert.Annotations["fields"], `base_url: environment "https://a.example/", database "https://b.example/x`)
	after("disabled a", "firing disabled a", "resolved changed a")
	// An ended alert has the annotations that it had when it fired.
	ended := slices.IndexFunc(s.Notified(), func(a alertmanagertest.Alert) bool { return a.Status == "resolved" })
	require.True(t, maps.Equal(alert.Annotations, s.Notified()[ended].Annotations))

	// Its memory is lost; what fires, fires again.
	s.Stop()
	s.StartAgain()
	expect("firing disabled a")
	after("resolved a", "resolved disabled a")

	// By a clock that is a day ahead, an alert neither starts nor ends in the future.
	_, err = f.pool.Exec(t.Context(), `CREATE FUNCTION ahead() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN NEW.detected_at := now() + interval '1 day'; RETURN NEW; END $$;
		CREATE TRIGGER ahead BEFORE INSERT ON provwatch.drift_alerts FOR EACH ROW EXECUTE FUNCTION ahead()`)
	require.NoError(t, err)
	after("missing b", "firing missing b")
	after("resolved b", "resolved missing b")
	require.Empty(t, s.Firing())
	require.Len(t, s.Notified(), notified)
	require.Zero(t, f.metrics.of("dead alertmanager drift"))
}
