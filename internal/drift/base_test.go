package drift_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func openAI(baseURL string) provider.Desired {
	return provider.Desired{Name: "a", Type: provider.OpenAI, BaseURL: baseURL}
}

func rowOf(d provider.Desired) *provider.Row {
	row := &provider.Row{ID: rowID, Name: d.Name, Type: d.Type, BaseURL: d.BaseURL, Enabled: true}
	if d.Bedrock != nil {
		row.Settings = d.Bedrock.Encode()
	}
	return row
}

// recordedInSync is what is recorded of a provider whose row was as the environment asked for.
func recordedInSync(d provider.Desired) drift.Recorded {
	r := drift.Recorded{}
	return r.After(r.Judge(drift.Compare(hasher, d, rowOf(d), false)))
}

func TestMoved(t *testing.T) {
	with := func(d provider.Desired, change func(*provider.Row)) *provider.Row {
		row := rowOf(d)
		change(row)
		return row
	}
	const a, b, c = "https://a/", "https://b/", "https://c/"
	bedrock := provider.Desired{Name: "a", Type: provider.Anthropic, Bedrock: &provider.Bedrock{Region: "us-east-1"}}
	other := bedrock
	other.Bedrock = &provider.Bedrock{Region: "eu-west-1"}
	rewritten := func(d provider.Desired) *provider.Row {
		return with(d, func(r *provider.Row) { r.Type = provider.AmazonBedrock })
	}
	disabled := with(openAI(a), func(r *provider.Row) { r.Enabled = false })
	for name, test := range map[string]struct {
		agreed, now provider.Desired
		row         *provider.Row
		want        drift.Moved
	}{
		"the environment":                  {openAI(a), openAI(b), rowOf(openAI(a)), drift.EnvironmentMoved},
		"the database":                     {openAI(a), openAI(a), rowOf(openAI(b)), drift.DatabaseMoved},
		"both":                             {openAI(a), openAI(b), rowOf(openAI(c)), drift.BothMoved},
		"the environment, keyed":           {openAI("https://u:1@a/"), openAI("https://u:2@a/"), rowOf(openAI("https://u:1@a/")), drift.EnvironmentMoved},
		"the database, keyed":              {openAI("https://u:1@a/"), openAI("https://u:1@a/"), rowOf(openAI("https://u:2@a/")), drift.DatabaseMoved},
		"the region of a Bedrock one":      {bedrock, other, rowOf(bedrock), drift.EnvironmentMoved},
		"its row, which has another label": {bedrock, bedrock, rewritten(other), drift.DatabaseMoved},
		"the label alone, and the region":  {bedrock, other, rewritten(bedrock), drift.EnvironmentMoved},
		"a row that is gone":               {openAI(a), openAI(a), nil, drift.DatabaseMoved},
		"a soft-deleted row":               {openAI(a), openAI(b), with(openAI(a), func(r *provider.Row) { r.Deleted = true }), drift.DatabaseMoved},
		"a disabled row":                   {openAI(a), openAI(b), disabled, drift.DatabaseMoved},
	} {
		t.Run(name, func(t *testing.T) {
			j := recordedInSync(test.agreed).Judge(drift.Compare(hasher, test.now, test.row, false))
			require.NotEmpty(t, j.Alert)
			require.Equal(t, test.want, j.Moved)
			require.Empty(t, j.How)
			require.Nil(t, j.NewBase)
		})
	}
	t.Run("WithoutBase", func(t *testing.T) {
		changed := drift.Compare(hasher, openAI(a), rowOf(openAI(b)), false)
		require.Equal(t, drift.UnknownMoved, drift.Recorded{}.Judge(changed).Moved)
		require.Equal(t, drift.EnvironmentMoved, drift.Recorded{}.Judge(drift.Compare(hasher, openAI(a), nil, false)).Moved, "the environment has begun to name it")
		require.Equal(t, drift.EnvironmentMoved, drift.Recorded{}.Judge(drift.Compare(hasher, openAI(b), disabled, false)).Moved)
	})
	t.Run("NamedAgain", func(t *testing.T) {
		r := recordedInSync(openAI(a))
		r.State = nil
		require.Equal(t, drift.DatabaseMoved, r.Judge(drift.Compare(hasher, openAI(a), nil, false)).Moved, "a seed has recorded the base and no leader a state yet")
		r.Base.Named = false
		require.Equal(t, drift.EnvironmentMoved, r.Judge(drift.Compare(hasher, openAI(a), nil, false)).Moved)
		require.Equal(t, drift.DatabaseMoved, r.Judge(drift.Compare(hasher, openAI(a), rowOf(openAI(b)), false)).Moved)
	})
	t.Run("AnotherKey", func(t *testing.T) {
		lost := provider.NewRandomHasher()
		keyed, plain := openAI("https://u:1@a/"), openAI(a)
		require.Equal(t, drift.UnknownMoved, recordedInSync(keyed).Judge(drift.Compare(lost, openAI("https://u:2@a/"), rowOf(keyed), false)).Moved)
		require.Equal(t, drift.EnvironmentMoved, recordedInSync(plain).Judge(drift.Compare(lost, openAI(b), rowOf(plain), false)).Moved)
	})
	t.Run("Credentials", func(t *testing.T) {
		d := openAI(a)
		d.Keys = []secret.Text{secret.New("key")}
		j := recordedInSync(openAI(a)).Judge(drift.Compare(hasher, d, rowOf(openAI(a)), true))
		require.Equal(t, drift.Changed, j.Alert)
		require.Equal(t, drift.UnknownMoved, j.Moved)
	})
}

func TestHow(t *testing.T) {
	const a, b = "https://a/", "https://b/"
	inSync := drift.Compare(hasher, openAI(a), rowOf(openAI(a)), false)
	changed := drift.Compare(hasher, openAI(a), rowOf(openAI(b)), false)
	drifting := recordedInSync(openAI(a))
	drifting = drifting.After(drifting.Judge(changed))
	drifting.AlertSeq = 7

	j := drifting.Judge(inSync)
	require.Equal(t, drift.Resolved, j.Alert)
	require.Equal(t, drift.Reverted, j.How)
	require.EqualValues(t, 7, j.AlertSeq)
	require.Empty(t, j.Moved)
	require.Nil(t, j.NewBase, "it is as before")

	j = drifting.Judge(drift.Compare(hasher, openAI(b), rowOf(openAI(b)), false))
	require.Equal(t, drift.EnvironmentChanged, j.How)
	require.NotNil(t, j.NewBase)

	j = drifting.Judge(drift.Compare(hasher, openAI("https://c/"), rowOf(openAI("https://c/")), false))
	require.Equal(t, drift.Reverted, j.How, "the row has moved to where the environment is")

	accepted := drifting
	accepted.Accepted = &drift.Acceptance{Kind: drift.Changed, EnvHash: changed.EnvHash, DBHash: changed.DBHash}
	base := changed.Base()
	accepted.Base = &base
	j = accepted.Judge(changed)
	require.Equal(t, drift.Accepted, j.How)
	require.Nil(t, j.NewBase)
	j = accepted.After(j).Judge(drift.Compare(hasher, openAI(a), rowOf(openAI("https://c/")), false))
	require.Equal(t, drift.DatabaseMoved, j.Moved, "since it was accepted")

	resolved := drifting
	base = drift.Agreement(hasher, openAI(a), drift.ByResolve)
	base.SetAt = "then"
	resolved.Base = &base
	j = resolved.Judge(inSync)
	require.Equal(t, drift.ResolvedByOperator, j.How)
	require.Equal(t, drift.ByAgreement, j.NewBase.Origin, "the next one that ends by itself does not count as the operator's")
	require.Equal(t, "then", j.NewBase.SetAt)

	require.Equal(t, drift.NoLongerNamed, drift.Unnamed("a", *drifting.State, 7).How)
}

// TestBaseProperty has both sides of a provider change in any order, and compares the
// answer with what has moved.
func TestBaseProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		desired, row := drawDesired(t), drawRow(t)
		var recorded drift.Recorded
		var agreedEnv, agreedRow provider.Canonical
		agreed := false
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "the environment changes") {
				desired = drawDesired(t)
			} else {
				row = drawRow(t)
			}
			o := drift.Compare(hasher, desired, row, false)
			j := recorded.Judge(o)
			stored, err := row.Canonical()
			if j.Alert == drift.Changed && err == nil {
				env, db := desired.Canonical() != agreedEnv, stored != agreedRow
				want := map[[2]bool]drift.Moved{{true, true}: drift.BothMoved, {true, false}: drift.EnvironmentMoved, {false, true}: drift.DatabaseMoved}[[2]bool{env, db}]
				if !agreed || want == "" {
					want = drift.UnknownMoved
				}
				require.Equal(t, want, j.Moved)
			}
			require.Equal(t, j.Alert == drift.Resolved, j.How != "")
			require.Equal(t, j.Alert != "" && j.Alert != drift.Resolved, j.Moved != "")
			if err == nil && !row.Deleted && stored.Against(desired) == desired.Canonical() {
				agreed, agreedEnv, agreedRow = true, desired.Canonical(), stored
			}
			recorded = recorded.After(j)
			if agreed {
				require.Equal(t, hasher.Hash(agreedEnv), recorded.Base.Env.Hash)
				require.Equal(t, hasher.Hash(agreedRow), recorded.Base.DB.Hash)
			}
			require.False(t, recorded.Judge(o).IsNews(), "what was recorded is no news")
		}
	})
}

// TestKeep requires that a base holds no URL that can hold credentials, and nothing long.
func TestKeep(t *testing.T) {
	secretURL, long := "https://user:Winter2026@h/v1/?key=Winter2026", "https://h/"+strings.Repeat("x", 5000)
	for _, baseURL := range []string{secretURL, long} {
		base := drift.Agreement(hasher, openAI(baseURL), drift.ByAgreement)
		for _, side := range []drift.Side{base.Env, base.DB} {
			require.True(t, provider.IsKeyed(side.BaseURL))
			require.Less(t, len(side.BaseURL), 100)
		}
		require.Equal(t, hasher.ID(), base.HashKey)
	}
	require.Empty(t, drift.Agreement(hasher, openAI("https://h/"), drift.ByAgreement).HashKey)
}
