package drift_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
)

func TestAcceptance(t *testing.T) {
	t.Run("CoversAndHolds", testAcceptanceCoversAndHolds)
	t.Run("SamePairOnly", testAcceptanceSamePairOnly)
}

func testAcceptanceCoversAndHolds(t *testing.T) {
	accepted := &drift.Acceptance{Kind: drift.Changed, EnvHash: "e", DBHash: "d"}
	deleted := &drift.Acceptance{Kind: drift.Deleted, EnvHash: "e", DBHash: "d"}
	unreadable := errors.New("the reason")
	end := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	until := func(a drift.Acceptance, at time.Time) *drift.Acceptance {
		a.Expires, a.At = end, at
		return &a
	}
	for name, c := range map[string]struct {
		a             *drift.Acceptance
		o             drift.Observation
		covers, holds bool
	}{
		"both sides as they were":          {accepted, drift.Observation{Kind: drift.Changed, EnvHash: "e", DBHash: "d"}, true, true},
		"another environment":              {accepted, drift.Observation{Kind: drift.Changed, EnvHash: "e2", DBHash: "d"}, false, false},
		"another row":                      {accepted, drift.Observation{Kind: drift.Changed, EnvHash: "e", DBHash: "d2"}, false, false},
		"disabled since":                   {accepted, drift.Observation{Kind: drift.Disabled, EnvHash: "e", DBHash: "d"}, true, false},
		"cannot be decoded":                {accepted, drift.Observation{Kind: drift.NotComparable, EnvHash: "e", Unreadable: unreadable}, false, false},
		"deleted, cannot be decoded":       {deleted, drift.Observation{Kind: drift.Deleted, EnvHash: "e", Unreadable: unreadable}, true, true},
		"deleted since, cannot be decoded": {accepted, drift.Observation{Kind: drift.Deleted, EnvHash: "e", Unreadable: unreadable}, true, false},
		"deleted, another environment":     {deleted, drift.Observation{Kind: drift.Deleted, EnvHash: "e2", Unreadable: unreadable}, false, false},
		"before its end":                   {until(*accepted, end.Add(-1)), drift.Observation{Kind: drift.Changed, EnvHash: "e", DBHash: "d"}, true, true},
		"at its end":                       {until(*accepted, end), drift.Observation{Kind: drift.Changed, EnvHash: "e", DBHash: "d"}, false, false},
		"after its end":                    {until(*deleted, end.Add(1)), drift.Observation{Kind: drift.Deleted, EnvHash: "e", Unreadable: unreadable}, false, false},
		"nothing accepted":                 {nil, drift.Observation{Kind: drift.Changed}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.covers, c.a.Covers(c.o), "covers")
			require.Equal(t, c.holds, c.a.Holds(c.o), "holds")
		})
	}
}

// testAcceptanceSamePairOnly accepts the drift of one pair, and asks of another.
func testAcceptanceSamePairOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		desired, row := drawDesired(t), drawRow(t)
		before := drift.Compare(hasher, desired, row, false)
		if !before.IsDrift() || before.Unreadable != nil {
			t.Skip("it cannot be accepted")
		}
		a := &drift.Acceptance{Kind: before.Kind, EnvHash: before.EnvHash, DBHash: before.DBHash}
		require.True(t, a.Holds(before))
		otherDesired, otherRow := desired, *row
		if rapid.Bool().Draw(t, "another environment") {
			otherDesired = drawDesired(t)
		}
		if rapid.Bool().Draw(t, "another row") {
			otherRow = *drawRow(t)
		}
		after := drift.Compare(hasher, otherDesired, &otherRow, false)
		same := after.EnvHash == before.EnvHash && (after.DBHash == before.DBHash || after.Kind == drift.Deleted && after.Unreadable != nil)
		require.Equal(t, same, a.Covers(after))
		require.Equal(t, same && after.Kind == before.Kind, a.Holds(after))
	})
}
