package provider_test

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func TestCanonicalHash(t *testing.T) {
	t.Run("Specification", testCanonicalHashSpecification)
	t.Run("Equality", testCanonicalHashEquality)
	t.Run("AnyField", testCanonicalHashAnyField)
	t.Run("MovedText", testCanonicalHashMovedText)
	t.Run("CredentialsAndModels", testCanonicalHashCredentialsAndModels)
}

func testCanonicalHashSpecification(t *testing.T) {
	for _, vector := range []struct{ json, hash string }{
		{`{"type":"openai","base_url":"https://api.openai.com/v1/","bedrock_region":""}`, "cabd847272bab8fade7606c5259fb29ed03a0da450c7dfb684b5c0fb84010a07"},
		{`{"type":"anthropic","base_url":"","bedrock_region":"us-east-1"}`, "59c8fadf820004492d9dd9f85d704e452e251c143cd0fc7a66a111288f8f739b"},
		{`{"type":"openai","base_url":"https://h/?a=1\u0026b=\u003c2\u003e","bedrock_region":""}`, "cac0b2c673917f99234fb2e90b97d934ec9cfa3322712608545d35ab0c763b50"},
	} {
		var c provider.Canonical
		require.NoError(t, json.Unmarshal([]byte(vector.json), &c))
		encoded, err := json.Marshal(c)
		require.NoError(t, err)
		require.Equal(t, vector.json, string(encoded), "the canonical JSON")
		require.Equal(t, vector.hash, c.Hash(), "the hash of %s", vector.json)
	}
}

// text draws valid UTF-8: encoding/json replaces anything else, and Postgres
// does not store it.
func text() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-z<>&"\\/ ]{0,3}`), // short, so that equal and nearly equal ones occur
		rapid.String().Filter(utf8.ValidString),
	)
}

func secretText() *rapid.Generator[secret.Text] { return rapid.Map(text(), secret.New) }

func canonical() *rapid.Generator[provider.Canonical] {
	return rapid.Custom(func(t *rapid.T) provider.Canonical {
		return provider.Canonical{
			Type:          rapid.SampledFrom(provider.Types()).Draw(t, "type"),
			BaseURL:       text().Draw(t, "base URL"),
			BedrockRegion: text().Draw(t, "region"),
		}
	})
}

func testCanonicalHashEquality(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := canonical().Draw(t, "a"), canonical().Draw(t, "b")
		require.Equal(t, a == b, a.Hash() == b.Hash())
		copied := a
		require.Equal(t, a.Hash(), copied.Hash())
	})
}

func testCanonicalHashAnyField(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := canonical().Draw(t, "before")
		after := before
		switch rapid.IntRange(0, 2).Draw(t, "field") {
		case 0:
			after.Type = provider.Type(text().Filter(func(s string) bool { return s != string(before.Type) }).Draw(t, "type"))
		case 1:
			after.BaseURL = text().Filter(func(s string) bool { return s != before.BaseURL }).Draw(t, "base URL")
		case 2:
			after.BedrockRegion = text().Filter(func(s string) bool { return s != before.BedrockRegion }).Draw(t, "region")
		}
		require.NotEqual(t, before.Hash(), after.Hash())
	})
}

func testCanonicalHashMovedText(t *testing.T) {
	a := provider.Canonical{BaseURL: `x","bedrock_region":"y`}
	b := provider.Canonical{BaseURL: "x", BedrockRegion: "y"}
	require.NotEqual(t, a.Hash(), b.Hash())
}

func bedrockOf(t *rapid.T, region string) *provider.Bedrock {
	return &provider.Bedrock{
		Region:          region,
		Model:           text().Draw(t, "model"),
		SmallFastModel:  text().Draw(t, "small fast model"),
		AccessKey:       secretText().Draw(t, "access key"),
		AccessKeySecret: secretText().Draw(t, "access key secret"),
	}
}

func testCanonicalHashCredentialsAndModels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := canonical().Draw(t, "canonical")
		c.BedrockRegion = withoutNUL(c.BedrockRegion)
		if !c.Type.HashNeedsSettings() {
			c.BedrockRegion = ""
		}
		isBedrock := c.BedrockRegion != "" || c.Type.HashNeedsSettings() && rapid.Bool().Draw(t, "Bedrock")
		hashes := make(map[string]bool)
		for range 2 {
			d := provider.Desired{
				Name: text().Draw(t, "name"), Variables: text().Draw(t, "variables"),
				Type: c.Type, BaseURL: c.BaseURL, Keys: rapid.SliceOf(secretText()).Draw(t, "keys"),
			}
			if isBedrock {
				d.Bedrock = bedrockOf(t, c.BedrockRegion)
			}
			row := provider.Row{
				Name: text().Draw(t, "row name"), Type: c.Type, BaseURL: c.BaseURL, Settings: d.Settings(),
				Enabled: rapid.Bool().Draw(t, "enabled"), Deleted: rapid.Bool().Draw(t, "deleted"),
			}
			for _, key := range d.Keys {
				row.Keys = append(row.Keys, provider.StoredKey{Key: key, KeyID: text().Draw(t, "key id")})
			}
			if c.Type == provider.AmazonBedrock && !isBedrock {
				d.Bedrock = bedrockOf(t, "") // one of type bedrock always is
			}
			hashes[hasher.Hash(d.Canonical())] = true
			stored, err := row.Canonical()
			require.NoError(t, err)
			hashes[hasher.RowHashes(stored).Against(d)] = true
		}
		require.Equal(t, map[string]bool{hasher.Hash(c): true}, hashes)
	})
}
