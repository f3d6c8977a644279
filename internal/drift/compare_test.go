package drift_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

var rowID = uuid.MustParse("7c9e6679-7425-40de-944b-e07fc1f90ae7")

func secrets(plain ...string) []secret.Text {
	var all []secret.Text
	for _, p := range plain {
		all = append(all, secret.New(p))
	}
	return all
}

func stored(plain ...string) []provider.StoredKey {
	var all []provider.StoredKey
	for _, p := range plain {
		all = append(all, provider.StoredKey{Key: secret.New(p)})
	}
	return all
}

// desiredAndRow are in sync.
func desiredAndRow() (provider.Desired, *provider.Row) {
	return provider.Desired{Name: "a", Type: provider.OpenAI, BaseURL: "https://h/v1", Keys: secrets("key-1", "key-2")},
		&provider.Row{ID: rowID, Name: "a", Type: provider.OpenAI, BaseURL: "https://h/v1", Enabled: true, Keys: stored("key-1", "key-2")}
}

func bedrockAndRow() (provider.Desired, *provider.Row) {
	d := provider.Desired{Name: "b", Type: provider.Anthropic, Bedrock: &provider.Bedrock{
		Region: "us-east-1", Model: "m", AccessKey: secret.New("AK-1"), AccessKeySecret: secret.New("SK-1")}}
	return d, &provider.Row{ID: rowID, Name: "b", Type: provider.Anthropic, Enabled: true, Settings: d.Settings()}
}

var errNotDecrypted = errors.New("the reason")

func TestCompare(t *testing.T) {
	t.Run("Kinds", testCompareKinds)
	t.Run("BedrockTypes", testCompareBedrockTypes)
	t.Run("MissingRow", testCompareMissingRow)
	t.Run("LongValues", testCompareLongValues)
}

func testCompareKinds(t *testing.T) {
	type field = drift.Field
	for name, c := range map[string]struct {
		change      func(*provider.Desired, *provider.Row)
		bedrock     bool // begin with a Bedrock provider
		credentials bool
		kind        drift.Kind
		fields      []field
		hashDiffers bool
		dbHash      provider.Canonical // what DBHash is of, if that matters
		unreadable  error

		unreadableKeys error
	}{
		"an equal row is in sync": {
			change: func(*provider.Desired, *provider.Row) {},
			kind:   drift.InSync,
		},
		"an equal Bedrock row is in sync": {
			bedrock: true, credentials: true,
			change: func(*provider.Desired, *provider.Row) {},
			kind:   drift.InSync,
		},
		"models are not compared": {
			bedrock: true, credentials: true,
			change: func(d *provider.Desired, _ *provider.Row) { d.Bedrock.Model = "another" },
			kind:   drift.InSync,
		},
		"credentials are not compared unless asked for": {
			change: func(_ *provider.Desired, r *provider.Row) { r.Keys = nil },
			kind:   drift.InSync,
		},
		"every canonical field that differs is shown": {
			bedrock: true,
			change: func(d *provider.Desired, r *provider.Row) {
				r.Type, r.BaseURL, d.Bedrock.Region = provider.OpenAI, "https://h/", "eu-west-1"
			},
			kind: drift.Changed, hashDiffers: true,
			fields: []field{{"type", "anthropic", "openai"}, {"base_url", "", "https://h/"}, {"bedrock_region", "eu-west-1", ""}},
		},
		"settings that the hash does not need are not looked at, decoded or not": {
			credentials: true,
			change: func(_ *provider.Desired, r *provider.Row) {
				r.Settings = secret.New(`{"_type":"upstream-headers","headers":{"x":"pw"}}`)
				r.Decoded = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "r", AccessKey: secret.New("pw"), Err: provider.ErrSettingsType}
			},
			kind: drift.InSync,
		},
		"a Bedrock row that the gateway has rewritten is in sync": {
			bedrock: true, credentials: true,
			change: func(_ *provider.Desired, r *provider.Row) { r.Type = provider.AmazonBedrock },
			kind:   drift.InSync,
			dbHash: provider.Canonical{Type: provider.Anthropic, BedrockRegion: "us-east-1"},
		},
		"a Bedrock row from before the type was there is in sync": {
			bedrock: true, credentials: true,
			change: func(d *provider.Desired, _ *provider.Row) { d.Type = provider.AmazonBedrock },
			kind:   drift.InSync,
			dbHash: provider.Canonical{Type: provider.AmazonBedrock, BedrockRegion: "us-east-1"},
		},
		"another region is a drift whatever the labels": {
			bedrock: true,
			change: func(d *provider.Desired, r *provider.Row) {
				r.Type, d.Bedrock.Region = provider.AmazonBedrock, "eu-west-1"
			},
			kind: drift.Changed, hashDiffers: true,
			fields: []field{{"bedrock_region", "eu-west-1", "us-east-1"}},
			dbHash: provider.Canonical{Type: provider.Anthropic, BedrockRegion: "us-east-1"},
		},
		"a row of type bedrock without settings is a Bedrock one": {
			bedrock: true,
			change: func(d *provider.Desired, r *provider.Row) {
				r.Type, r.Settings, d.Bedrock.Region = provider.AmazonBedrock, secret.Text{}, ""
			},
			kind: drift.InSync,
		},
		"a Bedrock row is no bearer provider": {
			bedrock: true,
			change: func(d *provider.Desired, r *provider.Row) {
				r.Settings = provider.Bedrock{}.Encode()
				d.Bedrock = nil
			},
			kind: drift.Changed, hashDiffers: true,
			fields: []field{{"type", "anthropic", "anthropic (Bedrock)"}},
			dbHash: provider.Canonical{Type: provider.AmazonBedrock},
		},
		"a rewritten Bedrock row is no bearer provider": {
			bedrock: true,
			change: func(d *provider.Desired, r *provider.Row) {
				r.Type, r.Settings = provider.AmazonBedrock, provider.Bedrock{}.Encode()
				d.Bedrock = nil
			},
			kind: drift.Changed, hashDiffers: true,
			fields: []field{{"type", "anthropic", "bedrock"}},
			dbHash: provider.Canonical{Type: provider.AmazonBedrock},
		},
		"a bearer row is no Bedrock provider, though nothing else differs": {
			bedrock: true,
			change: func(d *provider.Desired, r *provider.Row) {
				d.Bedrock.Region, r.Settings = "", secret.Text{}
			},
			kind: drift.Changed, hashDiffers: true,
			fields: []field{{"type", "anthropic", "anthropic (not Bedrock)"}},
		},
		"a bearer row is no provider of type bedrock": {
			bedrock: true,
			change: func(d *provider.Desired, r *provider.Row) {
				d.Type, d.Bedrock.Region, r.Settings = provider.AmazonBedrock, "", secret.Text{}
			},
			kind: drift.Changed, hashDiffers: true,
			fields: []field{{"type", "bedrock", "anthropic"}},
			dbHash: provider.Canonical{Type: provider.Anthropic},
		},
		"whether settings that cannot be decoded make a Bedrock row is not guessed": {
			bedrock: true,
			change: func(d *provider.Desired, r *provider.Row) {
				d.Type, r.SettingsKeyID = provider.AmazonBedrock, "key"
			},
			kind: drift.NotComparable, hashDiffers: true, unreadable: provider.ErrSettingsKeyID,
			fields: []field{{"settings", "bedrock", "cannot be compared: " + provider.ErrSettingsKeyID.Error()}},
		},
		"a row of type bedrock with settings that cannot be decoded is a Bedrock one": {
			bedrock: true,
			change: func(_ *provider.Desired, r *provider.Row) {
				r.Type, r.Settings = provider.AmazonBedrock, secret.New("broken")
			},
			kind: drift.NotComparable, hashDiffers: true, unreadable: provider.ErrSettingsNotJSON,
			fields: []field{{"settings", "bedrock", "cannot be compared: " + provider.ErrSettingsNotJSON.Error()}},
		},
		"base URLs are shown without userinfo and query": {
			change: func(d *provider.Desired, r *provider.Row) {
				d.BaseURL, r.BaseURL = "https://u:pw@h/1?pw", "https://h/2#pw"
			},
			kind: drift.Changed, hashDiffers: true,
			fields: []field{{"base_url", "https://h/1", "https://h/2"}},
		},
		"base URLs that differ in a part that is not shown say so": {
			change: func(d *provider.Desired, _ *provider.Row) { d.BaseURL += "?key=pw" },
			kind:   drift.Changed, hashDiffers: true,
			fields: []field{{"base_url", "https://h/v1", "https://h/v1 (differs in a part that is not shown)"}},
		},
		"a disabled row is disabled": {
			change: func(_ *provider.Desired, r *provider.Row) { r.Enabled = false },
			kind:   drift.Disabled,
			fields: []field{{"enabled", "true", "false"}},
		},
		"a row both disabled and changed is disabled, with all differing fields": {
			change: func(_ *provider.Desired, r *provider.Row) { r.Enabled, r.BaseURL = false, "https://h/2" },
			kind:   drift.Disabled, hashDiffers: true,
			fields: []field{{"enabled", "true", "false"}, {"base_url", "https://h/v1", "https://h/2"}},
		},
		"a soft-deleted row is deleted": {
			change: func(_ *provider.Desired, r *provider.Row) { r.Deleted = true },
			kind:   drift.Deleted,
			fields: []field{{"deleted", "false", "true"}},
		},
		"a row both soft-deleted and disabled is deleted": {
			change: func(_ *provider.Desired, r *provider.Row) { r.Deleted, r.Enabled = true, false },
			kind:   drift.Deleted,
			fields: []field{{"deleted", "false", "true"}},
		},
		"settings that cannot be decoded are never taken for equal": {
			change: func(d *provider.Desired, r *provider.Row) {
				d.Type, r.Type, r.Settings = provider.Anthropic, provider.Anthropic, secret.New("pw")
			},
			kind: drift.NotComparable, hashDiffers: true, unreadable: provider.ErrSettingsNotJSON, credentials: true,
			fields: []field{{"settings", "none", "cannot be compared: settings are not a JSON object"}},
		},
		"of a row that cannot be decoded the other fields are compared": {
			bedrock: true,
			change: func(_ *provider.Desired, r *provider.Row) {
				r.SettingsKeyID, r.BaseURL = "pw", "https://h/"
			},
			kind: drift.NotComparable, hashDiffers: true, unreadable: provider.ErrSettingsKeyID,
			fields: []field{
				{"settings", "bedrock", "cannot be compared: settings are encrypted with a key that this worker does not have (settings_key_id)"},
				{"base_url", "", "https://h/"},
			},
		},
		"keys in another order are equal": {
			credentials: true,
			change:      func(_ *provider.Desired, r *provider.Row) { slices.Reverse(r.Keys) },
			kind:        drift.InSync,
		},
		"keys that differ are counted": {
			credentials: true,
			change:      func(_ *provider.Desired, r *provider.Row) { r.Keys = stored("pw-3", "key-2", "pw-4") },
			kind:        drift.Changed,
			fields:      []field{{"api_keys", "2, of these 1 not in the database", "3, of these 2 not in the environment"}},
		},
		"keys missing from the database are counted": {
			credentials: true,
			change:      func(_ *provider.Desired, r *provider.Row) { r.Keys = nil },
			kind:        drift.Changed,
			fields:      []field{{"api_keys", "2, of these 2 not in the database", "0, of these 0 not in the environment"}},
		},
		"an encrypted key makes credentials not comparable": {
			credentials: true,
			change: func(_ *provider.Desired, r *provider.Row) {
				r.Keys = append(r.Keys, provider.StoredKey{Key: secret.New("pw"), KeyID: "pw"})
			},
			kind: drift.NotComparable, unreadableKeys: provider.ErrAPIKeyID,
			fields: []field{{"api_keys", "2", "cannot be compared: " + provider.ErrAPIKeyID.Error()}},
		},
		"a key that does not decrypt says why": {
			credentials: true,
			change: func(_ *provider.Desired, r *provider.Row) {
				r.Keys = append(r.Keys, provider.StoredKey{Key: secret.New("pw"), KeyID: "pw", Err: errNotDecrypted})
			},
			kind: drift.NotComparable, unreadableKeys: errNotDecrypted,
			fields: []field{{"api_keys", "2", "cannot be compared: the reason"}},
		},
		"a key that does not decrypt hides no drift": {
			credentials: true,
			change: func(_ *provider.Desired, r *provider.Row) {
				r.Keys, r.BaseURL = []provider.StoredKey{{Key: secret.New("pw"), KeyID: "pw", Err: errNotDecrypted}}, "https://h/2"
			},
			kind: drift.Changed, hashDiffers: true, unreadableKeys: errNotDecrypted,
			fields: []field{{"base_url", "https://h/v1", "https://h/2"}, {"api_keys", "2", "cannot be compared: the reason"}},
		},
		"a disabled row that cannot be decoded cannot be compared": {
			bedrock: true,
			change:  func(_ *provider.Desired, r *provider.Row) { r.Settings, r.Enabled = secret.New("broken"), false },
			kind:    drift.NotComparable, hashDiffers: true, unreadable: provider.ErrSettingsNotJSON,
			fields: []field{{"settings", "bedrock", "cannot be compared: " + provider.ErrSettingsNotJSON.Error()}},
		},
		"a soft-deleted row is deleted, whatever its settings": {
			bedrock: true,
			change:  func(_ *provider.Desired, r *provider.Row) { r.Settings, r.Deleted = secret.New("broken"), true },
			kind:    drift.Deleted, hashDiffers: true, unreadable: provider.ErrSettingsNotJSON,
			fields: []field{{"deleted", "false", "true"}, {"settings", "bedrock", "cannot be compared: " + provider.ErrSettingsNotJSON.Error()}},
		},
		"the Bedrock pair is compared by counts": {
			bedrock: true, credentials: true,
			change: func(d *provider.Desired, _ *provider.Row) { d.Bedrock.AccessKeySecret = secret.New("pw") },
			kind:   drift.Changed,
			fields: []field{{"bedrock_credentials", "2 of 2 set", "2 of 2 set, 1 of 2 differ"}},
		},
		"an absent Bedrock pair differs from a stored one": {
			bedrock: true, credentials: true,
			change: func(d *provider.Desired, _ *provider.Row) {
				d.Bedrock.AccessKey, d.Bedrock.AccessKeySecret = secret.Text{}, secret.Text{}
			},
			kind:   drift.Changed,
			fields: []field{{"bedrock_credentials", "0 of 2 set", "2 of 2 set, 2 of 2 differ"}},
		},
		"credentials come after the canonical fields": {
			credentials: true,
			change: func(d *provider.Desired, r *provider.Row) {
				r.Enabled, r.BaseURL, r.Keys = false, "https://h/2", stored("key-1")
			},
			kind: drift.Disabled, hashDiffers: true,
			fields: []field{{"enabled", "true", "false"}, {"base_url", "https://h/v1", "https://h/2"},
				{"api_keys", "2, of these 1 not in the database", "1, of these 0 not in the environment"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			desired, row := desiredAndRow()
			if c.bedrock {
				desired, row = bedrockAndRow()
			}
			c.change(&desired, row)
			o := drift.Compare(hasher, desired, row, c.credentials)
			require.Equal(t, c.kind, o.Kind)
			require.Equal(t, c.fields, o.Fields)
			require.Equal(t, c.hashDiffers, o.HashDiffers())
			require.Equal(t, desired.Name, o.Provider)
			require.Equal(t, rowID, o.ProviderID)
			require.Equal(t, hasher.Hash(desired.Canonical()), o.EnvHash)
			require.Equal(t, c.unreadable, o.Unreadable)
			require.Equal(t, c.unreadableKeys, o.UnreadableCredentials)
			require.Equal(t, c.kind == drift.NotComparable, o.WhyNotComparable() != nil)
			require.Equal(t, drift.Compare(hasher, desired, row, false).Kind == drift.InSync, drift.IsInSync(desired, row))
			if c.unreadable != nil {
				require.Empty(t, o.DBHash)
			} else {
				require.Equal(t, o.DBHashes.Against(desired), o.DBHash)
			}
			if hash := c.dbHash; hash != (provider.Canonical{}) {
				require.Equal(t, hasher.Hash(hash), o.DBHash)
			}
			for _, f := range o.Fields {
				for _, plain := range []string{"pw", "key-", "AK-", "SK-"} {
					require.NotContains(t, f.Env+f.DB+o.Credentials, plain)
				}
			}
		})
	}
}

// testCompareBedrockTypes compares a Bedrock provider with a Bedrock row under
// each label that either side can have.
func testCompareBedrockTypes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := provider.Desired{Name: "aws", BaseURL: text().Draw(t, "base URL"), Bedrock: bedrockOf(t, withoutNUL(text().Draw(t, "region")))}
		settings := bedrockOf(t, withoutNUL(text().Draw(t, "stored region"))).Encode()
		if rapid.Bool().Draw(t, "same settings") {
			settings = d.Settings()
		}
		if rapid.Bool().Draw(t, "settings that cannot be decoded") {
			settings = secret.New(rapid.SampledFrom([]string{
				`{"_type":"bedrock","_version":2,"region":7}`, `{"_type":"bedrock","_version":1,"region":7}`, `{"_type":"other"}`, `broken`,
			}).Draw(t, "settings"))
		}
		row := provider.Row{
			ID: rowID, Settings: settings, BaseURL: rapid.SampledFrom([]string{d.BaseURL, "https://h/"}).Draw(t, "stored base URL"),
			SettingsKeyID: rapid.SampledFrom([]string{"", "", "key"}).Draw(t, "settings key id"),
			Enabled:       rapid.Bool().Draw(t, "enabled"), Deleted: rapid.Bool().Draw(t, "deleted"),
		}
		credentials := rapid.Bool().Draw(t, "credentials")
		var answers []drift.Observation
		for _, d.Type = range []provider.Type{provider.Anthropic, provider.AmazonBedrock} {
			hashes := map[string]bool{}
			for _, row.Type = range []provider.Type{provider.Anthropic, provider.AmazonBedrock} {
				o := drift.Compare(hasher, d, &row, credentials)
				require.Equal(t, hasher.Hash(d.Canonical()), o.EnvHash, "it is the environment's own")
				hashes[o.DBHash] = true
				o.EnvHash, o.DBHash, o.DBType, o.DBHashes = "", map[bool]string{true: "equal"}[o.DBHash == o.EnvHash], "", provider.RowHashes{}
				answers = append(answers, o.WithoutPair())
			}
			require.Len(t, hashes, 1, "it does not depend on the row's label")
		}
		for _, o := range answers[1:] {
			require.Equal(t, answers[0], o)
		}
	})
}

func testCompareMissingRow(t *testing.T) {
	desired, _ := desiredAndRow()
	o := drift.Compare(hasher, desired, nil, true)
	require.Equal(t, drift.Observation{Provider: "a", Kind: drift.Missing, EnvHash: hasher.Hash(desired.Canonical())}, o.WithoutPair())
	require.False(t, o.HashDiffers())
}

func testCompareLongValues(t *testing.T) {
	long := "https://proxy.example/" + strings.Repeat("a", 9<<20)
	row := &provider.Row{Type: provider.OpenAI, BaseURL: long + "b", Enabled: true, Decoded: &provider.DecodedSettings{IsBedrock: true, BedrockRegion: long}}
	for _, field := range drift.Compare(hasher, provider.Desired{Name: "openai", Type: provider.OpenAI, BaseURL: long + "a"}, row, false).Fields {
		require.LessOrEqual(t, len(field.Env)+len(field.DB), 2*provider.MaxShown+50, field.Name)
	}
	o := drift.Compare(hasher, provider.Desired{Name: "aws", Type: provider.Anthropic, Bedrock: &provider.Bedrock{Region: long + "a"}},
		&provider.Row{Type: provider.Anthropic, Enabled: true, Decoded: &provider.DecodedSettings{IsBedrock: true, BedrockRegion: long + "b"}}, false)
	require.Len(t, o.Fields, 1)
	require.NotEqual(t, o.Fields[0].Env, o.Fields[0].DB, "the two sides look different")
	require.Contains(t, o.Fields[0].DB, "differs in a part that is not shown")
	require.NotEqual(t, o.EnvHash, o.DBHash, "the hashes are of the whole")
	require.LessOrEqual(t, len(provider.DisplayURL(long)), provider.MaxShown)
}
