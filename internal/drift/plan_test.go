package drift_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// TestMakePlan plans for a row of each kind, without credentials that must agree and with.
func TestMakePlan(t *testing.T) {
	labels := []string{string(provider.OpenAI), string(provider.Anthropic)}
	other := func(_ *provider.Desired, r *provider.Row) { r.BaseURL = "https://other/" }
	disabled := func(_ *provider.Desired, r *provider.Row) { r.Enabled = false }
	rotated := func(d *provider.Desired, _ *provider.Row) { d.Keys = secrets("key-3") }
	undecided := func(_ *provider.Desired, r *provider.Row) { r.Keys[0].Err = errNotDecrypted }
	unreadable := func(d *provider.Desired, r *provider.Row) {
		d.Type, r.Type, r.Decoded = provider.Anthropic, provider.Anthropic, &provider.DecodedSettings{Err: errNotDecrypted}
	}
	for name, c := range map[string]struct {
		change   []func(*provider.Desired, *provider.Row)
		missing  bool
		accepted drift.Kind // accepted before, and how things are now; empty for nothing
		labels   []string
		// Without and with credentials that must agree.
		lenient, strict                 drift.Action
		drifts, isAccepted              bool
		strictlyDrifts, strictlyAllowed bool
	}{
		"the row agrees":          {lenient: drift.ActionUnchanged, strict: drift.ActionUnchanged},
		"there is no row":         {missing: true, lenient: drift.ActionInsert, strict: drift.ActionInsert, drifts: true, strictlyDrifts: true},
		"the enum lacks the type": {missing: true, labels: labels[1:], lenient: drift.ActionUnsupported, strict: drift.ActionUnsupported},
		"the row differs":         {change: list(other), lenient: drift.ActionDrifted, strict: drift.ActionDrifted, drifts: true, strictlyDrifts: true},
		"the difference is accepted": {
			change: list(other), accepted: drift.Changed, lenient: drift.ActionAccepted, strict: drift.ActionAccepted, isAccepted: true, strictlyAllowed: true,
		},
		"the difference was accepted, and the row is disabled since": {
			change: list(other, disabled), accepted: drift.Changed, lenient: drift.ActionAccepted, strict: drift.ActionAccepted, drifts: true, strictlyDrifts: true,
		},
		"the row is disabled": {change: list(disabled), lenient: drift.ActionUnchanged, strict: drift.ActionUnchanged, drifts: true, strictlyDrifts: true},
		"the row is deleted, with other keys": {
			change: list(rotated, func(_ *provider.Desired, r *provider.Row) { r.Deleted = true }), lenient: drift.ActionStickyDeleted, strict: drift.ActionStickyDeleted,
			drifts: true, strictlyDrifts: true,
		},
		"the keys differ": {change: list(rotated), lenient: drift.ActionUnchanged, strict: drift.ActionDrifted, strictlyDrifts: true},
		"the keys differ beside what is accepted": {
			change: list(other, rotated), accepted: drift.Changed, lenient: drift.ActionAccepted, strict: drift.ActionDrifted, isAccepted: true, strictlyDrifts: true,
		},
		"the keys cannot be decrypted":     {change: list(undecided), lenient: drift.ActionUnchanged, strict: drift.ActionNotComparable},
		"the settings cannot be decrypted": {change: list(unreadable), lenient: drift.ActionNotComparable, strict: drift.ActionNotComparable},
	} {
		t.Run(name, func(t *testing.T) {
			desired, row := desiredAndRow()
			for _, change := range c.change {
				change(&desired, row)
			}
			stored := drift.Stored{Types: labels, Hasher: hasher}
			if c.labels != nil {
				stored.Types = c.labels
			}
			if !c.missing {
				stored.Rows = []provider.Row{*row}
			}
			if c.accepted != "" {
				o := drift.Compare(hasher, desired, row, false)
				stored.Accepted = map[string]*drift.Acceptance{"a": {Kind: c.accepted, EnvHash: o.EnvHash, DBHash: o.DBHash}}
			}
			step := func(mode drift.CredentialMode) drift.Step {
				plan := drift.MakePlan([]provider.Desired{desired}, stored, mode)
				require.Equal(t, 1, plan.Count(plan.Steps[0].Action))
				require.Equal(t, plan.Steps[0].Action != drift.ActionUnsupported, len(plan.Supported()) == 1)
				require.Equal(t, plan.Steps[0].Action == drift.ActionNotComparable, len(plan.NotComparable(true)) == 1)
				return plan.Steps[0]
			}
			lenient, strict := step(drift.IgnoreCredentials), step(drift.RequireCredentials)
			require.Equal(t, []drift.Action{c.lenient, c.strict}, []drift.Action{lenient.Action, strict.Action})
			require.Equal(t, []bool{c.drifts, c.isAccepted}, []bool{lenient.IsDrift(), lenient.IsAccepted()}, "without credentials")
			require.Equal(t, []bool{c.strictlyDrifts, c.strictlyAllowed}, []bool{strict.IsDrift(), strict.IsAccepted()}, "with credentials")
			require.NoError(t, lenient.CredentialsProblem())
			require.Equal(t, lenient.Action == drift.ActionNotComparable, errors.Is(lenient.WhyNotComparable(), errNotDecrypted))
		})
	}
}

func list[T any](all ...T) []T { return all }

// TestBedrockRowType requires that the row of a Bedrock provider has a type of the enum.
func TestBedrockRowType(t *testing.T) {
	desired, _ := bedrockAndRow()
	for _, c := range []struct {
		labels []string
		want   provider.Type
	}{
		{[]string{string(provider.Anthropic)}, provider.Anthropic},
		{[]string{string(provider.Anthropic), string(provider.AmazonBedrock)}, provider.AmazonBedrock},
	} {
		plan := drift.MakePlan([]provider.Desired{desired}, drift.Stored{Types: c.labels, Hasher: hasher}, drift.IgnoreCredentials)
		require.Equal(t, c.want, plan.Steps[0].RowType)
	}
}
