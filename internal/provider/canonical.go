package provider

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Canonical is the part of a provider that the environment and the database
// must agree on. Credentials and models are left out on purpose: operators
// rotate them without a restart (docs/specification.md, section 2).
type Canonical struct {
	Type          Type   `json:"type"`
	BaseURL       string `json:"base_url"`
	BedrockRegion string `json:"bedrock_region"`
}

// Hash returns the canonical hash: SHA-256, in lower-case hexadecimal, of the
// compact JSON of c in its field order. It is computed on demand and never stored
// with the provider. What is stored and published elsewhere is what a [Hasher]
// makes of it.
func (c Canonical) Hash() string {
	sum := sha256.Sum256(c.encode())
	return hex.EncodeToString(sum[:])
}

func (c Canonical) encode() []byte {
	encoded, err := json.Marshal(c)
	if err != nil {
		panic("provider: a struct of strings always marshals: " + err.Error())
	}
	return encoded
}

// IsBedrock reports whether a row is that of a Bedrock provider, by its type and
// by whether its settings are of "_type" bedrock. The gateway rewrites the type of
// such rows from anthropic to bedrock when it starts.
func IsBedrock(column Type, bedrockSettings bool) bool {
	return column == AmazonBedrock || column == Anthropic && bedrockSettings
}

// UsesKeys reports whether the gateway authenticates a provider by API keys of its own:
// a Bedrock one has AWS credentials, and of copilot each user has a token.
func UsesKeys(column Type, bedrock bool) bool {
	return column != Copilot && !IsBedrock(column, bedrock)
}

// CanonicalOfRow returns the canonical fields of a row by itself. The type of a
// Bedrock row is bedrock, whatever its column says. Settings count only where
// [Type.HashNeedsSettings].
func CanonicalOfRow(column Type, baseURL string, settings DecodedSettings) Canonical {
	c := Canonical{Type: column, BaseURL: baseURL}
	if column.HashNeedsSettings() {
		c.BedrockRegion = settings.BedrockRegion
	}
	if IsBedrock(column, settings.IsBedrock) {
		c.Type = AmazonBedrock
	}
	return c
}
