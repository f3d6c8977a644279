package drift_test

import (
	"strings"
	"unicode/utf8"

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
