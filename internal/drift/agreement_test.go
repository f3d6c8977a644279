package drift_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// TestAgreement draws a pair and what was accepted of it. The plan of a seed
// agrees with the first judgement of a worker, with the next judgement after that was
// recorded, and with the judgement of the row alone.
func TestAgreement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		desired, row := drawPair(t)
		mode := rapid.SampledFrom([]drift.CredentialMode{drift.IgnoreCredentials, drift.AlertCredentials}).Draw(t, "mode")
		o := drift.Compare(hasher, desired, row, mode.Compares())
		var nothing drift.Recorded
		nothing.Accepted = drawAcceptance(t, o)
		stored := drift.Stored{Accepted: map[string]*drift.Acceptance{"a": nothing.Accepted}, Types: labelsOf(someTypes), Hasher: hasher}
		if row != nil {
			stored.Rows = []provider.Row{*row}
		}
		step := drift.MakePlan([]provider.Desired{desired}, stored, mode).Steps[0]
		require.Equal(t, o, step.Observation)

		first := nothing.Judge(o)
		require.Equal(t, first.Kind != drift.InSync, step.IsDrift())
		require.Equal(t, first.IsAccepted(), step.IsAccepted())
		require.Equal(t, first.Reason != "", step.IsNotComparable())
		require.Equal(t, actionOf(o, nothing.Accepted), step.Action)

		recorded := nothing.After(first)
		again := recorded.Judge(o)
		require.False(t, again.IsNews())
		require.Equal(t, first.Kind, again.Kind)
		if j, judged := recorded.JudgeRow(drift.Compare(hasher, desired, row, false), mode.Compares()); judged {
			require.Equal(t, first.Kind, j.Kind)
			require.Equal(t, first.IsAccepted(), j.IsAccepted())
			require.Equal(t, first.Reason, j.Reason)
		}
	})
}

// actionOf returns what a seed does. It goes by the hashes: neither by credentials nor by
// the flag enabled, and by an acceptance of the same hashes whatever its kind.
func actionOf(o drift.Observation, a *drift.Acceptance) drift.Action {
	switch {
	case o.Kind == drift.Missing:
		return drift.ActionInsert
	case o.Kind == drift.Deleted:
		return drift.ActionStickyDeleted
	case o.Unreadable != nil:
		return drift.ActionNotComparable
	case o.EnvHash == o.DBHash:
		return drift.ActionUnchanged
	case a != nil && a.EnvHash == o.EnvHash && a.DBHash == o.DBHash:
		return drift.ActionAccepted
	default:
		return drift.ActionDrifted
	}
}

// drawAcceptance draws what was accepted: the observed drift, one of another pair or kind,
// or nothing.
func drawAcceptance(t *rapid.T, o drift.Observation) *drift.Acceptance {
	if rapid.IntRange(0, 3).Draw(t, "nothing accepted") == 0 {
		return nil
	}
	a := &drift.Acceptance{Kind: o.Kind, EnvHash: o.EnvHash, DBHash: o.DBHash}
	if !o.IsDrift() || rapid.IntRange(0, 3).Draw(t, "another kind") == 0 {
		a.Kind = rapid.SampledFrom([]drift.Kind{drift.Deleted, drift.Disabled, drift.Changed}).Draw(t, "accepted kind")
	}
	switch rapid.IntRange(0, 5).Draw(t, "another pair") {
	case 0:
		a.EnvHash = "other"
	case 1:
		a.DBHash = "other"
	}
	return a
}

func labelsOf(types []provider.Type) (labels []string) {
	for _, kind := range types {
		labels = append(labels, string(kind))
	}
	return labels
}
