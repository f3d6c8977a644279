package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/provider"
	"provwatch/internal/status"
)

func TestOfAProviderThatIsMissingTheDatabaseHasNoRow(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, New(&out, false, false).Status(status.Status{
		Providers: []status.Provider{{Name: "gone", State: status.Drifted, Kind: provider.Missing}, {Name: "synced", State: status.InSync}},
		Alerts:    []status.Alert{{Seq: 7, Kind: provider.Resolved, Provider: "gone"}, {Seq: 6, Kind: provider.Missing, Provider: "gone"}},
	}))
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"gone missing no row", "synced in sync",
		"#7 0001-01-01T00:00:00Z resolved gone", "#6 0001-01-01T00:00:00Z missing gone no row",
	} {
		require.Contains(t, lines, want)
	}
}
