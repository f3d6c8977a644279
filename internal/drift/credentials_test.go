package drift_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func TestCredentialDrift(t *testing.T) {
	t.Run("Summary", testCredentialDriftSummary)
	t.Run("AnyOrder", testCredentialDriftAnyOrder)
	t.Run("LeftOut", testCredentialDriftLeftOut)
	t.Run("Digests", testCredentialDriftDigests)
}

func testCredentialDriftSummary(t *testing.T) {
	desired, row := bedrockAndRow()
	desired.Bedrock.AccessKey = secret.New("AK-2")
	row.Keys = stored("key-1")
	require.Equal(t, "api_keys: env 0, of these 0 not in the database; db 1, of these 1 not in the environment; "+
		"bedrock_credentials: env 2 of 2 set; db 2 of 2 set, 1 of 2 differ",
		drift.Compare(hasher, desired, row, true).Credentials)
	require.Empty(t, drift.Compare(hasher, desired, row, false).Credentials)
}

func testCredentialDriftAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.StringMatching(`[a-c]{1,2}`), 0, 6)
		desired, row := desiredAndRow()
		desired.Keys = secrets(plain.Draw(t, "environment")...)
		row.Keys = stored(plain.Draw(t, "database")...)
		before := drift.Compare(hasher, desired, row, true)

		desired.Keys = rapid.Permutation(desired.Keys).Draw(t, "environment, shuffled")
		row.Keys = rapid.Permutation(row.Keys).Draw(t, "database, shuffled")
		require.Equal(t, before, drift.Compare(hasher, desired, row, true))
	})
}

func testCredentialDriftLeftOut(t *testing.T) {
	changes := map[string]func(*provider.Desired, *provider.Row){
		"nothing":       func(*provider.Desired, *provider.Row) {},
		"keys":          func(_ *provider.Desired, r *provider.Row) { r.Keys = stored("key-3") },
		"Bedrock pair":  func(d *provider.Desired, _ *provider.Row) { d.Bedrock.AccessKey = secret.New("AK-2") },
		"base URL":      func(_ *provider.Desired, r *provider.Row) { r.BaseURL = "https://h/2" },
		"disabled":      func(_ *provider.Desired, r *provider.Row) { r.Enabled = false },
		"encrypted":     func(_ *provider.Desired, r *provider.Row) { r.Keys = []provider.StoredKey{{KeyID: "k"}} },
		"not decodable": func(_ *provider.Desired, r *provider.Row) { r.Settings = secret.New("x") },
	}
	for first, change := range changes {
		for second, changeToo := range changes {
			t.Run(first+" and "+second, func(t *testing.T) {
				desired, row := bedrockAndRow()
				change(&desired, row)
				changeToo(&desired, row)
				got, want := drift.Compare(hasher, desired, row, true).WithoutCredentials(), drift.Compare(hasher, desired, row, false)
				require.ElementsMatch(t, want.Fields, got.Fields)
				got.Fields, want.Fields = nil, nil
				require.Equal(t, want, got)
			})
		}
	}
}

// testCredentialDriftDigests compares with digests instead of credentials, as a
// verifier does, which keeps no credential.
func testCredentialDriftDigests(t *testing.T) {
	few := rapid.SampledFrom([]string{"", "a", "b", "ab"}) // so that equal ones occur
	rapid.Check(t, func(t *rapid.T) {
		by := secret.NewDigester()
		pair := func(label string) provider.Bedrock {
			return provider.Bedrock{AccessKey: secret.New(few.Draw(t, label+" key")), AccessKeySecret: secret.New(few.Draw(t, label+" secret"))}
		}
		keys := [2][]string{rapid.SliceOfN(few, 0, 3).Draw(t, "keys"), rapid.SliceOfN(few, 0, 3).Draw(t, "stored keys")}
		want, have := pair("environment"), pair("database")
		compare := func(of func(secret.Text) secret.Text) drift.Observation {
			desired := provider.Desired{Type: provider.Anthropic, Bedrock: &provider.Bedrock{AccessKey: of(want.AccessKey), AccessKeySecret: of(want.AccessKeySecret)}}
			row := provider.Row{Type: provider.Anthropic, Enabled: true, Decoded: &provider.DecodedSettings{
				IsBedrock: true, AccessKey: of(have.AccessKey), AccessKeySecret: of(have.AccessKeySecret),
			}}
			for _, key := range keys[0] {
				desired.Keys = append(desired.Keys, of(secret.New(key)))
			}
			for _, key := range keys[1] {
				row.Keys = append(row.Keys, provider.StoredKey{Key: of(secret.New(key))})
			}
			return drift.Compare(hasher, desired, &row, true)
		}
		plain := compare(func(t secret.Text) secret.Text { return t })
		require.Equal(t, plain, compare(by.Of))
		require.Equal(t, plain.Credentials == "", plain.CredentialsProblem() == nil)
	})
}

func TestCredentialMode(t *testing.T) {
	desired, row := desiredAndRow()
	row.Keys = nil
	for mode, kind := range map[drift.CredentialMode]drift.Kind{
		drift.IgnoreCredentials: drift.InSync, drift.WarnCredentials: drift.InSync, drift.AlertCredentials: drift.Changed,
	} {
		o := mode.Judged(drift.Compare(hasher, desired, row, mode.Compares()))
		require.Equal(t, kind, o.Kind, mode)
		require.Equal(t, kind == drift.InSync, o.CredentialsProblem() == nil, mode)
	}
}
