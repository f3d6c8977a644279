package drift_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
)

func TestAtBoot(t *testing.T) {
	t.Run("Kinds", testAtBootKinds)
	t.Run("EnabledRow", testAtBootEnabledRow)
}

func testAtBootKinds(t *testing.T) {
	unreadable := errors.New("the reason")
	for name, c := range map[string]struct {
		o         drift.Observation
		mustAgree bool
		want      drift.Kind
	}{
		"a missing row is missing":                  {o: drift.Observation{Kind: drift.Missing, EnvHash: "e"}, want: drift.Missing},
		"a soft-deleted row is deleted":             {o: drift.Observation{Kind: drift.Deleted, EnvHash: "e", DBHash: "d"}, want: drift.Deleted},
		"a soft-deleted row stays so if unreadable": {o: drift.Observation{Kind: drift.Deleted, EnvHash: "e", Unreadable: unreadable}, want: drift.Deleted},
		"an unreadable row cannot be compared":      {o: drift.Observation{Kind: drift.NotComparable, EnvHash: "e", Unreadable: unreadable}, want: drift.NotComparable},
		"a disabled row counts as an enabled one":   {o: drift.Observation{Kind: drift.Disabled, EnvHash: "e", DBHash: "e"}, want: drift.InSync},
		"a disabled row with another hash differs":  {o: drift.Observation{Kind: drift.Disabled, EnvHash: "e", DBHash: "d"}, want: drift.Changed},
		"another hash differs":                      {o: drift.Observation{Kind: drift.Changed, EnvHash: "e", DBHash: "d"}, want: drift.Changed},
		"credentials alone do not differ":           {o: drift.Observation{Kind: drift.Changed, EnvHash: "e", DBHash: "e", Credentials: "c"}, want: drift.InSync},
		"credentials that must agree differ":        {o: drift.Observation{Kind: drift.Changed, EnvHash: "e", DBHash: "e", Credentials: "c"}, mustAgree: true, want: drift.Changed},
		"credentials of a disabled row differ":      {o: drift.Observation{Kind: drift.Disabled, EnvHash: "e", DBHash: "e", Credentials: "c"}, mustAgree: true, want: drift.Changed},
		"unreadable credentials do not count":       {o: drift.Observation{Kind: drift.NotComparable, EnvHash: "e", DBHash: "e", UnreadableCredentials: unreadable}, want: drift.InSync},
		"unreadable credentials that must agree cannot be compared": {
			o:         drift.Observation{Kind: drift.Changed, EnvHash: "e", DBHash: "d", UnreadableCredentials: unreadable},
			mustAgree: true, want: drift.NotComparable,
		},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.o.AtBoot(c.mustAgree)) })
	}
}

// testAtBootEnabledRow compares a row with its enabled copy.
func testAtBootEnabledRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		desired, row := drawPair(t)
		mustAgree := rapid.Bool().Draw(t, "credentials must agree")
		o := drift.Compare(hasher, desired, row, true)
		if row != nil {
			enabled := *row
			enabled.Enabled, row = true, &enabled
		}
		want := drift.Compare(hasher, desired, row, mustAgree)
		if want.UnreadableCredentials != nil && want.Kind == drift.Changed {
			want.Kind = drift.NotComparable
		}
		require.Equal(t, want.Kind, o.AtBoot(mustAgree))
	})
}

// TestIsInSync compares rows without hashes and with them.
func TestIsInSync(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		desired, row := drawDesired(t), drawRow(t)
		require.Equal(t, drift.Compare(hasher, desired, row, false).Kind == drift.InSync, drift.IsInSync(desired, row))
	})
}

func TestCredentialsProblem(t *testing.T) {
	unreadable := errors.New("the reason")
	require.NoError(t, drift.Observation{Kind: drift.Changed}.CredentialsProblem())
	err := drift.Observation{UnreadableCredentials: unreadable}.CredentialsProblem()
	require.EqualError(t, err, "its credentials cannot be compared: the reason")
	require.ErrorIs(t, err, unreadable)
	err = drift.Observation{Credentials: "c", Fields: []drift.Field{{Name: "api_keys", Env: "1", DB: "2"}}}.CredentialsProblem()
	require.EqualError(t, err, `its credentials differ: api_keys (environment "1", database "2")`)
}
