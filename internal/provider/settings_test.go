package provider_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func plainBedrock(b provider.Bedrock) [5]string {
	return [5]string{b.Region, b.Model, b.SmallFastModel, b.AccessKey.Reveal(), b.AccessKeySecret.Reveal()}
}

// withoutNUL makes a text one that the database can hold.
func withoutNUL(s string) string { return strings.ReplaceAll(s, "\x00", "") }

func TestStoredSettings(t *testing.T) {
	t.Run("RoundTrip", testStoredSettingsRoundTrip)
	t.Run("Encoded", testStoredSettingsEncoded)
	t.Run("NotBedrock", testStoredSettingsNotBedrock)
	t.Run("Absent", testStoredSettingsAbsent)
	t.Run("UnknownMembers", testStoredSettingsUnknownMembers)
	t.Run("Undecodable", testStoredSettingsUndecodable)
	t.Run("ErrorsWithoutInput", testStoredSettingsErrorsWithoutInput)
	t.Run("RegionAlone", testStoredSettingsRegionAlone)
}

func testStoredSettingsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := bedrockOf(t, withoutNUL(text().Draw(t, "region")))
		decoded, err := provider.DecodeSettings(b.Encode(), "")
		require.NoError(t, err)
		require.Equal(t, plainBedrock(*b), plainBedrock(*decoded))
	})
}

func testStoredSettingsEncoded(t *testing.T) {
	b := provider.Bedrock{Region: "us-east-1", Model: "m", SmallFastModel: "s"}
	require.Equal(t, `{"_type":"bedrock","_version":1,"region":"us-east-1","model":"m","small_fast_model":"s"}`, b.Encode().Reveal(),
		"without credentials there is no trace of them")
	b.AccessKey, b.AccessKeySecret = secret.New("AK"), secret.New("SK")
	require.Equal(t, `{"_type":"bedrock","_version":1,"region":"us-east-1","model":"m","small_fast_model":"s","access_key":"AK","access_key_secret":"SK"}`,
		b.Encode().Reveal())
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", b, b, b.Encode()), "SK")
}

func testStoredSettingsNotBedrock(t *testing.T) {
	require.True(t, provider.Desired{Name: "a", Keys: []secret.Text{secret.New("k")}}.Settings().IsZero())
	require.False(t, provider.Desired{Name: "a", Bedrock: &provider.Bedrock{}}.Settings().IsZero())
}

func testStoredSettingsAbsent(t *testing.T) {
	for _, settings := range []string{"", " ", "null", "\n null\t", "{}", " { } "} {
		decoded, err := provider.DecodeSettings(secret.New(settings), "")
		require.NoError(t, err, "%q", settings)
		require.Nil(t, decoded, "%q", settings)
	}
}

func testStoredSettingsUnknownMembers(t *testing.T) {
	decoded, err := provider.DecodeSettings(secret.New(` {"_version":1, "new":[1], "region":"r", "model":null, "_type":"bedrock"} `), "")
	require.NoError(t, err)
	require.Equal(t, [5]string{"r"}, plainBedrock(*decoded))
}

func testStoredSettingsUndecodable(t *testing.T) {
	const leak = "q7zleak"
	for name, c := range map[string]struct {
		settings, keyID string
		want            error
	}{
		"not JSON":                             {leak, "", provider.ErrSettingsNotJSON},
		"a JSON string":                        {`"` + leak + `"`, "", provider.ErrSettingsNotJSON},
		"an array":                             {`["` + leak + `"]`, "", provider.ErrSettingsNotJSON},
		"a number":                             {"7", "", provider.ErrSettingsNotJSON},
		"cut off":                              {`{"_type":"bedrock","_version":1,"access_key":"` + leak, "", provider.ErrSettingsNotJSON},
		"with something after it":              {`{"_type":"bedrock","_version":1} ` + leak, "", provider.ErrSettingsNotJSON},
		"no type":                              {`{"_version":1,"region":"` + leak + `"}`, "", provider.ErrSettingsType},
		"another type":                         {`{"_type":"` + leak + `","_version":1}`, "", provider.ErrSettingsType},
		"a type in another case":               {`{"_type":"Bedrock","_version":1}`, "", provider.ErrSettingsType},
		"a type under a name in another case":  {`{"_TYPE":"bedrock","_version":1}`, "", provider.ErrSettingsType},
		"a type of another JSON type":          {`{"_type":{"` + leak + `":1},"_version":1}`, "", provider.ErrSettingsType},
		"a null type":                          {`{"_type":null,"_version":1}`, "", provider.ErrSettingsType},
		"another type with fields of its own":  {`{"_type":"vertex","_version":1,"region":["` + leak + `"]}`, "", provider.ErrSettingsType},
		"no version":                           {`{"_type":"bedrock","region":"` + leak + `"}`, "", provider.ErrSettingsVersion},
		"a later version":                      {`{"_type":"bedrock","_version":2}`, "", provider.ErrSettingsVersion},
		"a later version with other fields":    {`{"_type":"bedrock","_version":2,"region":["` + leak + `"]}`, "", provider.ErrSettingsVersion},
		"a null version":                       {`{"_type":"bedrock","_version":null}`, "", provider.ErrSettingsVersion},
		"a fraction as version":                {`{"_type":"bedrock","_version":1.5}`, "", provider.ErrSettingsVersion},
		"a version of another JSON type":       {`{"_type":"bedrock","_version":"` + leak + `"}`, "", provider.ErrSettingsVersion},
		"a version in quotes":                  {`{"_type":"bedrock","_version":"1"}`, "", provider.ErrSettingsBadShape},
		"two versions":                         {`{"_type":"bedrock","_version":1,"_version":2}`, "", provider.ErrSettingsVersion},
		"a field of another JSON type":         {`{"_type":"bedrock","_version":1,"region":{"` + leak + `":"` + leak + `"}}`, "", provider.ErrSettingsBadShape},
		"a credential of another JSON type":    {`{"_type":"bedrock","_version":1,"access_key":["` + leak + `"]}`, "", provider.ErrSettingsBadShape},
		"a credential that is one only later":  {`{"_type":"bedrock","_version":1,"access_key":7,"access_key":"` + leak + `"}`, "", provider.ErrSettingsBadShape},
		"encrypted":                            {leak, leak, provider.ErrSettingsKeyID},
		"encrypted, though it looks like JSON": {`{"_type":"bedrock","_version":1}`, leak, provider.ErrSettingsKeyID},
		"encrypted, though empty":              {"", leak, provider.ErrSettingsKeyID},
	} {
		t.Run(name, func(t *testing.T) {
			decoded, err := provider.DecodeSettings(secret.New(c.settings), c.keyID)
			require.Nil(t, decoded)
			require.ErrorIs(t, err, c.want)
			require.NotContains(t, err.Error(), leak)

			row := provider.Row{Type: provider.Anthropic, Settings: secret.New(c.settings), SettingsKeyID: c.keyID}
			_, err = row.Canonical()
			require.ErrorIs(t, err, c.want)
			row.Type = provider.OpenAICompat
			canonical, err := row.Canonical()
			require.NoError(t, err, "its hash needs no settings")
			require.Equal(t, provider.Canonical{Type: provider.OpenAICompat}, canonical)
		})
	}
}

func testStoredSettingsErrorsWithoutInput(t *testing.T) {
	const leak = "q7zleak"
	fragments := []string{`{`, `}`, `[`, `]`, `"`, `:`, `,`, `"_type":"bedrock"`, `"_version":1`, `"region":`, `"access_key":`, `"` + leak + `"`, leak, "1", "null"}
	rapid.Check(t, func(t *rapid.T) {
		settings := strings.Join(rapid.SliceOf(rapid.SampledFrom(fragments)).Draw(t, "settings"), "")
		keyID := rapid.SampledFrom([]string{"", "", leak}).Draw(t, "key id")
		if _, err := provider.DecodeSettings(secret.New(settings), keyID); err != nil {
			require.NotContains(t, err.Error(), leak)
		}
	})
}

func testStoredSettingsRegionAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := bedrockOf(t, withoutNUL(text().Draw(t, "region")))
		plain := []byte(b.Encode().Reveal())
		if rapid.Bool().Draw(t, "cut off") {
			plain = plain[:rapid.IntRange(0, len(plain)).Draw(t, "length")]
		}
		decoded, err := provider.ParseSettings(plain)
		region := provider.ParseRegion(plain)
		clear(plain)
		require.Equal(t, err, region.Err)
		require.True(t, region.AccessKey.IsZero() && region.AccessKeySecret.IsZero())
		if decoded != nil {
			require.Equal(t, plainBedrock(*b), plainBedrock(*decoded))
			require.Equal(t, b.Region, region.BedrockRegion)
		}
	})
}
