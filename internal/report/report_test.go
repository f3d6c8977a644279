package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/reconcile"
	"provwatch/internal/silence"
	"provwatch/internal/status"
)

func TestReport(t *testing.T) {
	t.Run("MissingProvider", testReportMissingProvider)
	t.Run("NotComparable", testReportNotComparable)
	t.Run("Silences", testReportSilences)
	t.Run("Unmanaged", testReportUnmanaged)
	t.Run("States", testReportStates)
	t.Run("Resolution", testReportResolution)
}

func testReportSilences(t *testing.T) {
	var out bytes.Buffer
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	list := []silence.Silence{
		{ID: 3, Provider: silence.All, Author: "operator:x", Reason: "line\nbreak", Begins: at, Ends: at.Add(time.Hour), Active: true},
		{ID: 4, Provider: "openai", Author: "operator:x", Begins: at, Ends: at, EndedBy: "operator:y"}, {ID: 5, Provider: "openai", Begins: at, Ends: at},
	}
	require.NoError(t, New(&out, false, false).Silences(list, true, true))
	require.Equal(t, []string{
		"SILENCE PROVIDER SINCE UNTIL BY REASON ENDED",
		`3 all providers 2026-07-01T12:00:00Z 2026-07-01T13:00:00Z operator:x "line\nbreak" -`,
		"4 openai 2026-07-01T12:00:00Z 2026-07-01T12:00:00Z operator:x - by operator:y",
		"5 openai 2026-07-01T12:00:00Z 2026-07-01T12:00:00Z - - expired", "and more",
	}, squeezed(out.String()))
	out.Reset()
	require.NoError(t, New(&out, false, false).Status(status.Status{
		Silences: list[:1], MoreSilences: true,
		Alerts: []status.Alert{{Seq: 2, Kind: drift.Missing, Provider: "a", Repeats: 1}, {Seq: 1, Kind: drift.Missing, Provider: "a", Moved: drift.DatabaseMoved, Silenced: true}},
	}))
	lines := squeezed(out.String())
	require.Contains(t, lines, `3 all providers 2026-07-01T12:00:00Z 2026-07-01T13:00:00Z operator:x "line\nbreak"`)
	require.Contains(t, lines, `and more; "worker silences" lists them`)
	require.Contains(t, lines, "#2 0001-01-01T00:00:00Z missing a repeats #1 no row")
	require.Contains(t, lines, "#1 0001-01-01T00:00:00Z missing a moved: database; silenced no row")
}

// squeezed returns the lines of a text, without more than one space in a row.
func squeezed(text string) (lines []string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}

func testReportMissingProvider(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, New(&out, false, false).Status(status.Status{
		Providers: []status.Provider{{Name: "gone", State: status.Drifted, Kind: drift.Missing, Moved: drift.DatabaseMoved}, {Name: "synced", State: status.InSync}},
		Alerts:    []status.Alert{{Seq: 7, Kind: drift.Resolved, Provider: "gone", How: drift.Reverted, Resolves: 6}, {Seq: 6, Kind: drift.Missing, Provider: "gone", Moved: drift.DatabaseMoved}},
	}))
	lines := squeezed(out.String())
	for _, want := range []string{
		"gone missing moved: database no row", "synced in sync",
		"#7 0001-01-01T00:00:00Z resolved gone reverted, ends #6", "#6 0001-01-01T00:00:00Z missing gone moved: database no row",
	} {
		require.Contains(t, lines, want)
	}
}

func testReportUnmanaged(t *testing.T) {
	row := func(name string, recorded drift.RecordedRow) drift.UnmanagedRow {
		return drift.UnmanagedRow{Recorded: recorded, Observation: drift.Observation{
			Provider: name, OfRow: true, Kind: drift.Unmanaged, DBHash: "db", Fields: []drift.Field{{Name: "type", DB: "openai"}, {Name: "base_url", DB: "https://h/"}},
		}}
	}
	accepted := &drift.Acceptance{Kind: drift.Unmanaged, DBHash: "db"}
	rows := []drift.UnmanagedRow{
		row("accepted", drift.RecordedRow{State: &drift.State{Kind: drift.InSync}, Accepted: accepted}),
		row("known", drift.RecordedRow{State: &drift.State{Kind: drift.Known}}),
		row("rogue", drift.RecordedRow{State: &drift.State{Kind: drift.Unmanaged}}),
	}
	plan := drift.Plan{Steps: []drift.Step{{Action: drift.ActionUnchanged, Desired: provider.Desired{Name: "same"}, Observation: drift.Observation{Kind: drift.InSync}}}}
	var out bytes.Buffer
	require.NoError(t, New(&out, false, false).Verification(plan, rows, drift.AlertUnmanaged))
	printed := strings.Join(strings.Fields(out.String()), " ")
	require.Contains(t, printed, "same in sync accepted unmanaged, accepted type - openai base_url - https://h/ "+
		"known unmanaged type - openai base_url - https://h/ rogue unmanaged, alerted moved: database type - openai base_url - https://h/ "+
		"1 of 4 providers drifts, 3 unmanaged (1 alerted).")
	out.Reset()
	require.NoError(t, New(&out, false, false).Verification(plan, rows[:2], drift.AlertUnmanaged))
	require.Contains(t, out.String(), "0 of 3 providers drift, 2 unmanaged.")
	out.Reset()
	require.NoError(t, New(&out, true, false).Verification(plan, rows, drift.AlertUnmanaged))
	require.Contains(t, out.String(), `"drifts": 1`)
	require.Equal(t, 2, strings.Count(out.String(), `"alerted": true`))
	require.Equal(t, 1, strings.Count(out.String(), `"state": "in_sync"`))
	out.Reset()
	require.NoError(t, New(&out, true, false).Verification(plan, rows, drift.WarnUnmanaged))
	require.Contains(t, out.String(), `"drifts": 0`, "such rows are not alerted")
	out.Reset()
	require.NoError(t, New(&out, false, false).Verification(plan, rows, drift.WarnUnmanaged))
	require.Contains(t, out.String(), "0 of 4 providers drift, 3 unmanaged.")
	out.Reset()
	require.NoError(t, New(&out, true, false).Verification(plan, nil, drift.AlertUnmanaged))
	require.Contains(t, out.String(), `"unmanaged": []`)
	out.Reset()
	require.NoError(t, New(&out, false, false).Alert(pubsub.DriftAlert{Seq: 7, Kind: drift.Unmanaged, Provider: "rogue", Moved: drift.DatabaseMoved, Fields: rows[0].Observation.Fields}))
	require.Contains(t, strings.Join(strings.Fields(out.String()), " "), "#7 unmanaged rogue (-; moved: database) type env - db openai")
	out.Reset()
	require.NoError(t, New(&out, false, false).Alert(pubsub.DriftAlert{Seq: 8, Kind: drift.Missing, Provider: "gone", Moved: drift.DatabaseMoved, RenamedTo: "away"}))
	require.Contains(t, out.String(), "missing  gone  (-; moved: database, renamed to away)")
}

// testReportStates has each kind of drift in the JSON of a verification, with the state that the JSON of a status has.
func testReportStates(t *testing.T) {
	step := func(name string, action drift.Action, kind drift.Kind) drift.Step {
		return drift.Step{Action: action, Desired: provider.Desired{Name: name}, Observation: drift.Observation{Kind: kind}}
	}
	plan := drift.Plan{Steps: []drift.Step{
		step("changed", drift.ActionDrifted, drift.Changed), step("deleted", drift.ActionStickyDeleted, drift.Deleted),
		step("disabled", drift.ActionUnchanged, drift.Disabled), step("missing", drift.ActionInsert, drift.Missing),
		step("not_comparable", drift.ActionNotComparable, drift.NotComparable), step("same", drift.ActionUnchanged, drift.InSync),
		step("unsupported", drift.ActionUnsupported, drift.NotComparable),
	}}
	var out bytes.Buffer
	require.NoError(t, New(&out, true, false).Verification(plan, nil, drift.AlertUnmanaged))
	var printed struct {
		Providers []struct{ Provider, State, Kind string }
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &printed))
	require.Equal(t, []struct{ Provider, State, Kind string }{
		{"changed", "drifted", "changed"}, {"deleted", "deleted", "deleted"}, {"disabled", "drifted", "disabled"}, {"missing", "drifted", "missing"},
		{"not_comparable", "not_comparable", ""}, {"same", "in_sync", ""}, {"unsupported", "unsupported", ""},
	}, printed.Providers)
}

// testReportResolution prints that a row is accepted that the environment does not name.
func testReportResolution(t *testing.T) {
	var out bytes.Buffer
	request := reconcile.Request{Side: reconcile.Database}
	outcomes := []reconcile.Outcome{{Provider: "rogue", Kind: drift.Unmanaged, Fields: []drift.Field{{Name: "type", DB: "openai"}, {Name: "base_url"}}}}
	require.NoError(t, New(&out, false, false).Resolution(request, outcomes, Delivered))
	lines := squeezed(out.String())
	require.Contains(t, lines, "type - openai")
	require.Contains(t, lines, "base_url - (empty)")
	out.Reset()
	require.NoError(t, New(&out, true, false).Resolution(request, outcomes, Delivered))
	require.Contains(t, out.String(), `"env": ""`, "that is for people alone")
}

func testReportNotComparable(t *testing.T) {
	field := drift.Field{Name: "settings", Env: "bedrock", DB: "cannot be compared: the reason"}
	plan := drift.Plan{Steps: []drift.Step{
		{Action: drift.ActionNotComparable, Desired: provider.Desired{Name: "aws"}, Observation: drift.Observation{Kind: drift.NotComparable, Fields: []drift.Field{field}}},
		{Action: drift.ActionDrifted, Desired: provider.Desired{Name: "gpt"}, Observation: drift.Observation{Kind: drift.Changed}},
		{Action: drift.ActionUnchanged, Desired: provider.Desired{Name: "same"}, Observation: drift.Observation{Kind: drift.InSync}},
		{Action: drift.ActionUnsupported, Desired: provider.Desired{Name: "none"}, Observation: drift.Observation{Kind: drift.NotComparable}},
	}}
	require.Len(t, Drifts(plan), 1)
	require.Len(t, NotComparable(plan), 1)
	var out bytes.Buffer
	require.NoError(t, New(&out, false, false).Verification(plan, nil, drift.AlertUnmanaged))
	printed := strings.Join(strings.Fields(out.String()), " ")
	require.Contains(t, printed, "aws not comparable settings bedrock cannot be compared: the reason")
	require.Contains(t, printed, "1 of 4 providers drifts, 1 not comparable, 1 unsupported type.")
	out.Reset()
	require.NoError(t, New(&out, true, false).Verification(plan, nil, drift.AlertUnmanaged))
	require.Contains(t, out.String(), `"state": "not_comparable"`)
	require.Contains(t, out.String(), `"drifts": 1`)
	require.Contains(t, out.String(), `"state": "unsupported"`)
}
