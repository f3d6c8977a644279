package provider_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func secrets(plain ...string) (all []secret.Text) {
	for _, p := range plain {
		all = append(all, secret.New(p))
	}
	return all
}

func stored(plain ...string) (all []provider.StoredKey) {
	for _, p := range plain {
		all = append(all, provider.StoredKey{Key: secret.New(p)})
	}
	return all
}

// TestCredentialDigestsAreEqualExactlyWhenNoCredentialDiffers compares digests
// with the comparison that is shown.
func TestCredentialDigestsAreEqualExactlyWhenNoCredentialDiffers(t *testing.T) {
	few := rapid.SampledFrom([]string{"", "a", "b", "ab"}) // so that equal ones occur
	rapid.Check(t, func(t *rapid.T) {
		desired := provider.Desired{Type: provider.Anthropic, Keys: secrets(rapid.SliceOfN(few, 0, 3).Draw(t, "keys")...)}
		row := provider.Row{Type: provider.Anthropic, Enabled: true, Keys: stored(rapid.SliceOfN(few, 0, 3).Draw(t, "stored keys")...)}
		pair := func(label string) *provider.Bedrock {
			if !rapid.Bool().Draw(t, label) {
				return nil
			}
			return &provider.Bedrock{AccessKey: secret.New(few.Draw(t, label+" key")), AccessKeySecret: secret.New(few.Draw(t, label+" secret"))}
		}
		desired.Bedrock = pair("bedrock")
		if b := pair("stored bedrock"); b != nil {
			row.Settings = b.Encode()
		}
		by := secret.NewDigester()
		ofRow, err := row.CredentialDigest(by)
		if err != nil {
			t.Fatal(err)
		}
		shown := drift.Compare(hasher, desired, &row, true).Credentials
		if ofRow.Equal(desired.CredentialDigest(by)) != (shown == "") {
			t.Fatalf("the difference shown is %q", shown)
		}
	})
}

func TestCredentialsThatCannotBeDecryptedHaveNoDigest(t *testing.T) {
	row := provider.Row{Type: provider.OpenAI, Keys: stored("key-1", "key-2")}
	row.Keys[1].KeyID = "7"
	_, err := row.CredentialDigest(secret.NewDigester())
	require.ErrorIs(t, err, provider.ErrAPIKeyID)
	row.Keys[1].Err = errors.New("tried")
	_, err = row.CredentialDigest(secret.NewDigester())
	require.EqualError(t, err, "tried")
	row = provider.Row{Type: provider.Anthropic, Settings: provider.Bedrock{Region: "us-east-1"}.Encode()}
	row.SettingsKeyID = "7"
	_, err = row.CredentialDigest(secret.NewDigester())
	require.ErrorIs(t, err, provider.ErrSettingsKeyID)
}
