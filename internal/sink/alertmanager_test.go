package sink

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
)

// postableAlerts is the body of POST /alerts in Alertmanager's API v2
// (api/v2/openapi.yaml), as a JSON Schema.
const postableAlerts = `{
	"type": "array",
	"items": {
		"type": "object",
		"required": ["labels"],
		"properties": {
			"labels": {"$ref": "#/$defs/labelSet"},
			"generatorURL": {"type": "string", "format": "uri"},
			"startsAt": {"type": "string", "format": "date-time"},
			"endsAt": {"type": "string", "format": "date-time"},
			"annotations": {"$ref": "#/$defs/labelSet"}
		},
		"additionalProperties": false
	},
	"$defs": {"labelSet": {"type": "object", "additionalProperties": {"type": "string"}}}
}`

// alertmanagerServer keeps alerts as Alertmanager does: by their labels, firing
// until they end.
type alertmanagerServer struct {
	t      *testing.T
	server *httptest.Server
	schema *jsonschema.Schema

	mu       sync.Mutex
	alerts   map[string]map[string]any // by labels
	fired    map[string]bool           // what has ever fired
	requests int
}

func newAlertmanagerServer(t *testing.T) *alertmanagerServer {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(postableAlerts))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("alerts.json", document))
	schema, err := compiler.Compile("alerts.json")
	require.NoError(t, err)
	s := &alertmanagerServer{t: t, schema: schema, alerts: map[string]map[string]any{}, fired: map[string]bool{}}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func (s *alertmanagerServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(body)))
	if err == nil {
		err = s.schema.Validate(value)
	}
	if err != nil || r.URL.Path != "/prefix/api/v2/alerts" || r.Header.Get("Content-Type") != "application/json" {
		s.t.Errorf("POST %s: %v\n%s", r.URL.Path, err, body)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	for _, element := range value.([]any) {
		alert := element.(map[string]any)
		if ends(alert).Before(parseTime(alert["startsAt"])) {
			s.t.Errorf("it ends before it starts: %v", alert)
		}
		s.alerts[fmt.Sprint(alert["labels"])] = alert
		if labels := alert["labels"].(map[string]any); ends(alert).After(time.Now()) {
			s.fired[fmt.Sprint(labels["provider"], " ", labels["kind"])] = true
		}
	}
}

func parseTime(value any) time.Time {
	t, err := time.Parse(time.RFC3339, value.(string))
	if err != nil {
		panic(err) // as the schema requires
	}
	return t
}

func ends(alert map[string]any) time.Time { return parseTime(alert["endsAt"]) }

// firing returns the alerts that fire, each "provider kind".
func (s *alertmanagerServer) firing() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []map[string]any
	for _, alert := range s.alerts {
		if ends(alert).After(time.Now()) {
			list = append(list, alert)
		}
	}
	return list
}

func (s *alertmanagerServer) expectFiring(want ...string) {
	s.t.Helper()
	names := func() []string {
		list := []string{}
		for _, alert := range s.firing() {
			labels := alert["labels"].(map[string]any)
			list = append(list, fmt.Sprint(labels["provider"], " ", labels["kind"]))
		}
		slices.Sort(list)
		return list
	}
	eventually(s.t, func() bool { return slices.Equal(names(), want) }, "%q fires", want)
}

// forget is what Alertmanager does when it restarts without its data.
func (s *alertmanagerServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.alerts)
}

func newAlertmanager(t *testing.T, s *alertmanagerServer) *Alertmanager {
	t.Helper()
	a, err := NewAlertmanager(s.server.URL+"/prefix/", "", "https://runbooks.example/drift")
	require.NoError(t, err)
	return a
}

func TestAlertmanager(t *testing.T) {
	t.Parallel()
	t.Run("FiresWhatDrifts", testAlertmanagerFiresWhatDrifts)
	t.Run("CurrentState", testAlertmanagerCurrentState)
	t.Run("Gap", testAlertmanagerGap)
	t.Run("UnmanagedRows", testAlertmanagerUnmanagedRows)
}

func testAlertmanagerFiresWhatDrifts(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newAlertmanagerServer(t)
	runner, _ := f.run(time.Hour, newAlertmanager(t, s))
	after := func(alert string, firing ...string) {
		f.alert(alert)
		runner.Wake(Drift)
		s.expectFiring(firing...)
	}
	began := time.Now()
	after("changed a", "a changed")
	alert := s.firing()[0]
	require.Equal(t, map[string]any{"alertname": "ProviderDrift", "provider": "a", "kind": "changed", "cluster": "fleet 7"}, alert["labels"])
	annotations := alert["annotations"].(map[string]any)
	require.Equal(t, "https://runbooks.example/drift", annotations["runbook_url"])
	require.Contains(t, annotations["fields"], `base_url: environment "https://a.example/", database "https://b.example/x`)
	require.Equal(t, "1", annotations["seq"])
	require.Equal(t, "database", annotations["moved"])
	// It is written in whole milliseconds at the finest.
	require.WithinRange(t, ends(alert), began.Add(firesFor-time.Second), time.Now().Add(firesFor+time.Second))
	// Another kind of drift takes the place of the one before.
	after("disabled a", "a disabled")
	after("missing b", "a disabled", "b missing")
	after("resolved a", "b missing")
	after("resolved b")
	// Audit entries are no alerts.
	f.audit("a")
	runner.Wake(Audit)
	after("deleted b", "b deleted")
}

// testAlertmanagerCurrentState checks that Alertmanager gets what is the case, and not
// what was.
func testAlertmanagerCurrentState(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newAlertmanagerServer(t)
	f.alert("changed a", "missing b", "resolved a", "disabled c", "missing c")
	runner, _ := f.run(time.Hour, newAlertmanager(t, s))
	s.expectFiring("b missing", "c missing")
	eventually(t, func() bool { return f.cursor("alertmanager", Drift) == 5 }, "the cursor is at the end")
	require.NotContains(t, s.hasFired(), "a changed", "it was over when a worker began")
	require.NotContains(t, s.hasFired(), "c disabled")

	// A dead letter of what is over, and one of what is another drift by now.
	_, err := f.pool.Exec(t.Context(), `INSERT INTO provwatch.sink_dead_letters (sink, stream, seq, event_id, provider, reason, attempts, retry)
		SELECT 'alertmanager', 'drift', seq, id, provider, 'refused', 1, true FROM provwatch.drift_alerts WHERE seq IN (1, 4)`)
	require.NoError(t, err)
	runner.Attend()
	eventually(t, func() bool { return len(f.letters()) == 0 }, "they are taken")
	require.Equal(t, []string{"b missing", "c missing"}, s.hasFired())

	// What everybody who is notified gets is not as long as a value may be.
	f.alert("changed d")
	runner.Wake(Drift)
	s.expectFiring("b missing", "c missing", "d changed")
	for _, alert := range s.firing() {
		fields, _ := alert["annotations"].(map[string]any)["fields"].(string)
		require.Less(t, len(fields), 2*maxValue)
	}
}

// hasFired returns what has ever fired, each "provider kind".
func (s *alertmanagerServer) hasFired() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.fired))
}

// testAlertmanagerUnmanagedRows has drifts of unmanaged rows, and of providers, of one name:
// each ends its own. The next leader knows what fires.
func testAlertmanagerUnmanagedRows(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newAlertmanagerServer(t)
	runner, stop := f.run(time.Hour, newAlertmanager(t, s))
	after := func(firing ...string) {
		t.Helper()
		runner.Wake(Drift)
		s.expectFiring(firing...)
	}
	one, other := uuid.New(), uuid.New()
	f.rowAlert(one, "unmanaged a")
	after("a unmanaged")
	annotations := s.firing()[0]["annotations"].(map[string]any)
	require.Equal(t, "AI provider a: unmanaged, the environment does not name it", annotations["summary"])
	require.Contains(t, annotations["fields"], "base_url: environment -, database ")
	f.alert("missing a")
	after("a missing", "a unmanaged")
	f.rowAlert(other, "unmanaged b")
	f.alert("resolved a")
	after("a unmanaged", "b unmanaged")
	eventually(t, func() bool { return f.cursor("alertmanager", Drift) == 4 }, "all is delivered")

	stop()
	s.forget()
	f.rowAlert(one, "resolved a")
	runner, _ = f.run(time.Hour, newAlertmanager(t, s))
	s.expectFiring("b unmanaged")
	f.rowAlert(other, "resolved b")
	after()
	f.rowAlert(other, "unmanaged c")
	after("c unmanaged")

	// Another row of the name drifts beside it. The end of one does not end the other, whichever is sent
	// last.
	f.rowAlert(one, "unmanaged c")
	after("c unmanaged", "c unmanaged")
	labels := s.firing()[0]["labels"].(map[string]any)
	require.Contains(t, []any{one.String(), other.String()}, labels["provider_id"])
	f.rowAlert(other, "resolved c")
	after("c unmanaged")
	require.Equal(t, one.String(), s.firing()[0]["labels"].(map[string]any)["provider_id"])
}

// testAlertmanagerGap has gaps and rewinds among the alerts of providers.
func testAlertmanagerGap(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := newAlertmanagerServer(t)
	runner, stop := f.run(time.Hour, newAlertmanager(t, s))
	after := func(firing ...string) {
		t.Helper()
		runner.Wake(Drift)
		s.expectFiring(firing...)
	}
	certain, uncertain := true, false
	f.alert("changed a")
	f.gap(drift.Gap, nil, 0)
	began := time.Now()
	after("<nil> gap", "a changed")
	firing := s.firing()
	alert := firing[slices.IndexFunc(firing, func(a map[string]any) bool { return a["labels"].(map[string]any)["kind"] == "gap" })]
	require.Equal(t, map[string]any{"alertname": "ProviderDrift", "kind": "gap", "cluster": "fleet 7"}, alert["labels"])
	require.Equal(t, "it is gone", alert["annotations"].(map[string]any)["reason"])
	require.Equal(t, "2", alert["annotations"].(map[string]any)["seq"])
	require.WithinRange(t, ends(alert), began.Add(gapFiresFor-time.Minute), time.Now().Add(gapFiresFor))
	// A gap ends no alert of a provider, and no provider ends it.
	f.alert("resolved a")
	after("<nil> gap")
	f.gap(drift.Rewound, &uncertain, 0)
	f.gap(drift.Rewound, &certain, 2*gapFiresFor)
	f.alert("missing b")
	after("<nil> gap", "b missing")
	f.gap(drift.Rewound, &certain, 0)
	after("<nil> gap", "<nil> rewound", "b missing")
	eventually(t, func() bool { return f.cursor("alertmanager", Drift) == 7 }, "what is information only is passed")

	// The next leader posts it again to an Alertmanager that has forgotten it.
	stop()
	s.forget()
	f.run(time.Hour, newAlertmanager(t, s))
	s.expectFiring("<nil> gap", "<nil> rewound", "b missing")
	// By then it is over by itself.
	a := newAlertmanager(t, s)
	require.NotEmpty(t, a.recordGap(Event{Time: began, alert: &pubsub.DriftAlert{Kind: drift.Gap}}, began))
	require.Empty(t, a.repeated(began.Add(gapFiresFor)))
}
