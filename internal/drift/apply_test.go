package drift_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// bedrockIn returns a Bedrock provider of a region.
func bedrockIn(region, baseURL string) provider.Desired {
	return provider.Desired{Name: "a", Type: provider.Anthropic, BaseURL: baseURL, Bedrock: &provider.Bedrock{Region: region}}
}

// stepOf plans for one provider.
func stepOf(d provider.Desired, row *provider.Row, base *drift.Base, accepted *drift.Acceptance) drift.Step {
	stored := drift.Stored{
		Types: drift.Types{string(provider.OpenAI), string(provider.Anthropic), string(provider.AmazonBedrock), string(provider.Google)}, Hasher: hasher,
		Bases: map[string]*drift.Base{"a": base}, Accepted: map[string]*drift.Acceptance{"a": accepted},
	}
	if row != nil {
		stored.Rows = []provider.Row{*row}
	}
	return drift.MakePlan([]provider.Desired{d}, stored, drift.IgnoreCredentials).Steps[0]
}

// baseOf returns the base of a provider whose row was as the environment asked for, or whose
// difference was accepted, and that acceptance.
func baseOf(d provider.Desired, row *provider.Row) (*drift.Base, *drift.Acceptance) {
	o := drift.Compare(hasher, d, row, false)
	base := o.Base()
	if o.Kind == drift.InSync {
		return &base, nil
	}
	return &base, &drift.Acceptance{Kind: o.Kind, EnvHash: o.EnvHash, DBHash: o.DBHash}
}

func TestApply(t *testing.T) {
	const a, b, c = "https://a/", "https://b/", "https://c/"
	us, eu := bedrockIn("us-east-1", a), bedrockIn("eu-west-1", a)
	changed := func(row *provider.Row, change func(*provider.Row)) *provider.Row {
		change(row)
		return row
	}
	disable := func(r *provider.Row) { r.Enabled = false }
	google := provider.Desired{Name: "a", Type: provider.Google, BaseURL: a}
	relabelled := changed(rowOf(us), func(r *provider.Row) { r.Type = provider.AmazonBedrock })
	for name, test := range map[string]struct {
		agreed    provider.Desired // with the row below
		agreedRow *provider.Row
		now       provider.Desired
		row       *provider.Row
		want      drift.Verdict
		written   []string
		why       string
		renewed   bool
	}{
		"nothing has moved":                 {openAI(a), rowOf(openAI(a)), openAI(a), rowOf(openAI(a)), drift.ApplyNothing, nil, "", false},
		"the environment's base URL":        {openAI(a), rowOf(openAI(a)), openAI(b), rowOf(openAI(a)), drift.ApplyUpdate, list("base_url"), "", false},
		"its keyed base URL":                {openAI("https://u:1@a/"), rowOf(openAI("https://u:1@a/")), openAI("https://u:2@a/"), rowOf(openAI("https://u:1@a/")), drift.ApplyUpdate, list("base_url"), "", false},
		"its type":                          {openAI(a), rowOf(openAI(a)), google, rowOf(openAI(a)), drift.ApplyUpdate, list("type"), "", false},
		"its region":                        {us, rowOf(us), eu, rowOf(us), drift.ApplyUpdate, list("bedrock_region"), "", false},
		"its region, of a relabelled row":   {us, rowOf(us), eu, relabelled, drift.ApplyUpdate, list("bedrock_region"), "", false},
		"a disabled row":                    {openAI(a), rowOf(openAI(a)), openAI(b), changed(rowOf(openAI(a)), disable), drift.ApplyUpdate, list("base_url"), "", false},
		"a disabled row, as was accepted":   {openAI(a), changed(rowOf(openAI(a)), disable), openAI(b), changed(rowOf(openAI(a)), disable), drift.ApplyUpdate, list("base_url"), "", true},
		"to what an accepted one has":       {openAI(b), changed(rowOf(openAI(a)), disable), openAI(a), changed(rowOf(openAI(a)), disable), drift.ApplyNothing, nil, "", true},
		"an accepted one that agrees":       {openAI(a), changed(rowOf(openAI(a)), disable), openAI(a), changed(rowOf(openAI(a)), disable), drift.ApplyNothing, nil, "", false},
		"a disabled row that agrees":        {openAI(a), rowOf(openAI(a)), openAI(a), changed(rowOf(openAI(a)), disable), drift.ApplyNothing, nil, "", false},
		"the database":                      {openAI(a), rowOf(openAI(a)), openAI(a), rowOf(openAI(b)), drift.ApplyRefused, nil, "the database has changed its base_url since both sides last agreed", false},
		"both":                              {openAI(a), rowOf(openAI(a)), openAI(b), rowOf(openAI(c)), drift.ApplyRefused, nil, "the database has changed its base_url", false},
		"both, to the same":                 {openAI(a), rowOf(openAI(a)), openAI(b), rowOf(openAI(b)), drift.ApplyNothing, nil, "", false},
		"another field of the row":          {us, rowOf(us), bedrockIn("us-east-1", b), rowOf(eu), drift.ApplyRefused, nil, "the database has changed its bedrock_region", false},
		"a row that is gone":                {openAI(a), rowOf(openAI(a)), openAI(a), nil, drift.ApplyRefused, nil, "its row was removed", false},
		"a soft-deleted row":                {openAI(a), rowOf(openAI(a)), openAI(b), changed(rowOf(openAI(a)), func(r *provider.Row) { r.Deleted = true }), drift.ApplySkipped, nil, "soft-deleted", false},
		"a row that cannot be decoded":      {us, rowOf(us), eu, changed(rowOf(us), func(r *provider.Row) { r.Decoded = &provider.DecodedSettings{Err: errNotDecrypted} }), drift.ApplyNotComparable, nil, errNotDecrypted.Error(), false},
		"into a Bedrock provider":           {provider.Desired{Name: "a", Type: provider.Anthropic, BaseURL: a}, rowOf(provider.Desired{Name: "a", Type: provider.Anthropic, BaseURL: a}), us, rowOf(provider.Desired{Name: "a", Type: provider.Anthropic, BaseURL: a}), drift.ApplyRefused, nil, "become a Bedrock provider", false},
		"from a Bedrock provider":           {us, rowOf(us), openAI(a), rowOf(us), drift.ApplyRefused, nil, "become a Bedrock provider, or cease to be one", false},
		"beside what was accepted":          {us, rowOf(eu), bedrockIn("us-east-1", b), rowOf(eu), drift.ApplyUpdate, list("base_url"), "", true},
		"what was accepted":                 {us, rowOf(eu), us, rowOf(eu), drift.ApplyNothing, nil, "", false},
		"to what the row has, and accepted": {bedrockIn("us-east-1", b), rowOf(eu), us, rowOf(eu), drift.ApplyNothing, nil, "", true},
		"what was accepted, to another":     {us, rowOf(eu), bedrockIn("ap-south-1", a), rowOf(eu), drift.ApplyUpdate, list("bedrock_region"), "", false},
		"the label of a Bedrock provider":   {us, rowOf(us), provider.Desired{Name: "a", Type: provider.AmazonBedrock, BaseURL: a, Bedrock: us.Bedrock}, rowOf(us), drift.ApplyNothing, nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			base, accepted := baseOf(test.agreed, test.agreedRow)
			step := stepOf(test.now, test.row, base, accepted)
			got := step.Apply()
			require.Equal(t, test.want, got.Verdict, "%v", got.Why)
			var written []string
			for _, f := range got.Fields {
				if f.Written {
					written = append(written, f.Name)
					require.Equal(t, drift.EnvironmentMoved, f.Moved)
				}
			}
			require.Equal(t, test.written, written)
			if test.why != "" {
				require.ErrorContains(t, got.Why, test.why)
			} else {
				require.NoError(t, got.Why)
			}
			require.Equal(t, test.renewed, got.Renewed != nil)
			require.Equal(t, test.want == drift.ApplyUpdate || test.renewed, got.Acts())
		})
	}
	t.Run("WithoutBase", func(t *testing.T) {
		got := stepOf(openAI(a), rowOf(openAI(b)), nil, nil).Apply()
		require.Equal(t, drift.ApplyRefused, got.Verdict)
		require.ErrorContains(t, got.Why, "never agreed")
		got = stepOf(openAI(a), nil, nil, nil).Apply()
		require.Equal(t, drift.ApplyInsert, got.Verdict)
		require.NotEmpty(t, got.Fields)
	})
	t.Run("LostKey", func(t *testing.T) {
		base, _ := baseOf(openAI("https://u:1@a/"), rowOf(openAI("https://u:1@a/")))
		base.HashKey = "another"
		got := stepOf(openAI("https://u:2@a/"), rowOf(openAI("https://u:1@a/")), base, nil).Apply()
		require.Equal(t, drift.ApplyRefused, got.Verdict)
		require.ErrorContains(t, got.Why, "another key of provwatch.hash_key")
	})
	t.Run("WithdrawnAcceptance", func(t *testing.T) {
		base, _ := baseOf(us, rowOf(eu))
		for _, now := range []provider.Desired{us, bedrockIn("us-east-1", b)} {
			got := stepOf(now, rowOf(eu), base, nil).Apply()
			require.Equal(t, drift.ApplyRefused, got.Verdict)
			require.ErrorContains(t, got.Why, "its bedrock_region differed before, and no acceptance covers that any more")
		}
	})
	t.Run("UnknownType", func(t *testing.T) {
		d := openAI(a)
		d.Type = "unheard-of"
		require.Equal(t, drift.ApplySkipped, stepOf(d, nil, nil, nil).Apply().Verdict)
	})
}

// sides are both sides of a provider over time, and what is recorded of them.
type sides struct {
	env      provider.Desired
	row      provider.Canonical
	base     *drift.Base
	accepted *drift.Acceptance

	agreedEnv, agreedRow provider.Canonical // at the base
}

func (s *sides) storedRow() *provider.Row {
	d := s.env
	d.BaseURL, d.Bedrock = s.row.BaseURL, &provider.Bedrock{Region: s.row.BedrockRegion}
	return rowOf(d)
}

// agree records both sides as the base.
func (s *sides) agree() {
	s.base, s.accepted = baseOf(s.env, s.storedRow())
	s.agreedEnv, s.agreedRow = s.env.Canonical(), s.row
}

// TestApplyProperty changes both sides of a provider at random, accepts and applies. An apply
// never writes to a row that has moved, nor a field that the environment has not changed.
func TestApplyProperty(t *testing.T) {
	urls, regions := rapid.SampledFrom([]string{"", "https://a/", "https://u:1@b/"}), rapid.SampledFrom([]string{"", "us-east-1", "eu-west-1"})
	rapid.Check(t, func(t *rapid.T) {
		s := &sides{env: bedrockIn(regions.Draw(t, "region"), urls.Draw(t, "URL"))}
		s.row = provider.CanonicalOfRow(provider.Anthropic, s.env.BaseURL, provider.DecodedSettings{IsBedrock: true, BedrockRegion: s.env.Bedrock.Region})
		s.agree()
		t.Repeat(map[string]func(*rapid.T){
			"environment": func(t *rapid.T) { s.env = bedrockIn(regions.Draw(t, "region"), urls.Draw(t, "URL")) },
			"row": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "its URL") {
					s.row.BaseURL = urls.Draw(t, "URL")
				} else {
					s.row.BedrockRegion = regions.Draw(t, "region")
				}
			},
			"observed": func(*rapid.T) {
				if o := drift.Compare(hasher, s.env, s.storedRow(), false); o.Kind == drift.InSync {
					s.agree()
				}
			},
			"accepted": func(*rapid.T) { s.agree() },
			"applied":  func(t *rapid.T) { s.apply(t) },
		})
	})
}

// apply applies the environment as a transaction would, and checks what that writes.
func (s *sides) apply(t *rapid.T) {
	moved, before := s.row != s.agreedRow, s.row
	got := stepOf(s.env, s.storedRow(), s.base, s.accepted).Apply()
	want := s.env.Canonical()
	if got.Verdict != drift.ApplyUpdate {
		differs := drift.Compare(hasher, s.env, s.storedRow(), false).Kind == drift.Changed
		covered := got.Renewed.Covers(drift.Compare(hasher, s.env, s.storedRow(), false)) || s.accepted.Covers(drift.Compare(hasher, s.env, s.storedRow(), false))
		if got.Verdict == drift.ApplyNothing {
			require.True(t, !differs || covered, "what differs still was accepted")
		} else {
			require.Equal(t, drift.ApplyRefused, got.Verdict)
			require.True(t, moved, "only a row that has moved is refused: %v", got.Why)
		}
		if got.Renewed != nil {
			s.base, s.accepted, s.agreedEnv, s.agreedRow = &got.NewBase, got.Renewed, want, s.row
		}
		return
	}
	require.False(t, moved, "a row that has moved is not written")
	if got.Writes(drift.BaseURLField) {
		require.NotEqual(t, s.agreedEnv.BaseURL, want.BaseURL)
		s.row.BaseURL = want.BaseURL
	}
	if got.Writes(drift.RegionField) {
		require.NotEqual(t, s.agreedEnv.BedrockRegion, want.BedrockRegion)
		s.row.BedrockRegion = want.BedrockRegion
	}
	require.NotEqual(t, before, s.row)
	after := drift.Compare(hasher, s.env, s.storedRow(), false)
	require.Equal(t, after.Base(), got.NewBase, "the base is the pair after the apply")
	require.Equal(t, after.Kind == drift.Changed, got.Renewed != nil)
	if got.Renewed != nil {
		require.True(t, got.Renewed.Holds(after))
	}
	s.base, s.accepted, s.agreedEnv, s.agreedRow = &got.NewBase, got.Renewed, want, s.row
}
