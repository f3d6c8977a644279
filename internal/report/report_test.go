package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/status"
)

func TestReport(t *testing.T) {
	t.Run("MissingProvider", testReportMissingProvider)
	t.Run("NotComparable", testReportNotComparable)
}

func testReportMissingProvider(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, New(&out, false, false).Status(status.Status{
		Providers: []status.Provider{{Name: "gone", State: status.Drifted, Kind: drift.Missing, Moved: drift.DatabaseMoved}, {Name: "synced", State: status.InSync}},
		Alerts:    []status.Alert{{Seq: 7, Kind: drift.Resolved, Provider: "gone", How: drift.Reverted, Resolves: 6}, {Seq: 6, Kind: drift.Missing, Provider: "gone", Moved: drift.DatabaseMoved}},
	}))
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"gone missing moved: database no row", "synced in sync",
		"#7 0001-01-01T00:00:00Z resolved gone reverted, ends #6", "#6 0001-01-01T00:00:00Z missing gone moved: database no row",
	} {
		require.Contains(t, lines, want)
	}
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
	require.NoError(t, New(&out, false, false).Verification(plan))
	printed := strings.Join(strings.Fields(out.String()), " ")
	require.Contains(t, printed, "aws not comparable settings bedrock cannot be compared: the reason")
	require.Contains(t, printed, "1 of 4 providers drifts, 1 not comparable, 1 unsupported type.")
	out.Reset()
	require.NoError(t, New(&out, true, false).Verification(plan))
	require.Contains(t, out.String(), `"state": "not_comparable"`)
	require.Contains(t, out.String(), `"drifts": 1`)
	require.Contains(t, out.String(), `"state": "unsupported"`)
}
