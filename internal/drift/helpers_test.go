package drift_test

import (
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// hasher has a key as each database has one.
var hasher = provider.NewRandomHasher()

// text draws valid UTF-8: encoding/json replaces anything else, and PostgreSQL
// does not store it.
func text() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-z<>&"\\/ ]{0,3}`), // short, so that equal and nearly equal ones occur
		rapid.String().Filter(utf8.ValidString),
	)
}

func withoutNUL(s string) string { return strings.ReplaceAll(s, "\x00", "") }

func bedrockOf(t *rapid.T, region string) *provider.Bedrock {
	credential := rapid.Map(text(), secret.New)
	return &provider.Bedrock{
		Region:          region,
		Model:           text().Draw(t, "model"),
		SmallFastModel:  text().Draw(t, "small fast model"),
		AccessKey:       credential.Draw(t, "access key"),
		AccessKeySecret: credential.Draw(t, "access key secret"),
	}
}

// drawPair draws a provider and its row, nil for none. The values are few, so that equal
// and nearly equal sides are frequent.
func drawPair(t *rapid.T) (provider.Desired, *provider.Row) {
	d := drawDesired(t)
	if rapid.IntRange(0, 9).Draw(t, "row is missing") == 0 {
		return d, nil
	}
	return d, drawRow(t)
}

func drawDesired(t *rapid.T) provider.Desired {
	d := provider.Desired{
		Name: "a", Type: rapid.SampledFrom(someTypes).Draw(t, "type"), BaseURL: rapid.SampledFrom(someURLs).Draw(t, "base URL"),
	}
	if d.Type == provider.AmazonBedrock || d.Type == provider.Anthropic && rapid.Bool().Draw(t, "Bedrock") {
		d.Bedrock = drawBedrock(t, "environment")
		return d
	}
	for _, key := range rapid.SliceOfN(someKeys, 0, 2).Draw(t, "keys") {
		d.Keys = append(d.Keys, secret.New(key))
	}
	return d
}

func drawRow(t *rapid.T) *provider.Row {
	row := &provider.Row{
		ID: uuid.UUID{rapid.Byte().Draw(t, "id") | 1}, Name: "a",
		Type: rapid.SampledFrom(someTypes).Draw(t, "stored type"), BaseURL: rapid.SampledFrom(someURLs).Draw(t, "stored base URL"),
		Enabled: rapid.IntRange(0, 3).Draw(t, "disabled") > 0, Deleted: rapid.IntRange(0, 3).Draw(t, "deleted") == 0,
	}
	switch rapid.IntRange(0, 5).Draw(t, "settings") {
	case 0, 1, 2:
		row.Settings = drawBedrock(t, "database").Encode()
	case 3:
		row.Settings = secret.New("broken")
	case 4:
		row.Settings, row.SettingsKeyID = secret.New("encrypted"), "k"
	}
	for _, key := range rapid.SliceOfN(someKeys, 0, 2).Draw(t, "stored keys") {
		row.Keys = append(row.Keys, provider.StoredKey{Key: secret.New(key)})
	}
	if len(row.Keys) > 0 && rapid.IntRange(0, 3).Draw(t, "encrypted key") == 0 {
		row.Keys[0].KeyID = "k"
	}
	return row
}

func drawBedrock(t *rapid.T, side string) *provider.Bedrock {
	return &provider.Bedrock{
		Region:    rapid.SampledFrom([]string{"", "us-east-1", "eu-west-1"}).Draw(t, side+" region"),
		AccessKey: secret.New(someKeys.Draw(t, side+" access key")),
	}
}

var (
	someTypes = []provider.Type{provider.OpenAI, provider.Anthropic, provider.AmazonBedrock}
	someURLs  = []string{"https://h/", "https://user:pw@h/", "https://other/"}
	someKeys  = rapid.SampledFrom([]string{"", "key-1", "key-2"})
)
