package provider

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Canonical is the part of a provider that the environment and the database
// must agree on. Credentials and models are left out on purpose: operators
// rotate them without a restart (spec section 2).
type Canonical struct {
	Type          Type   `json:"type"`
	BaseURL       string `json:"base_url"`
	BedrockRegion string `json:"bedrock_region"`
}

// Hash returns the canonical hash: SHA-256, in lower-case hexadecimal, of the
// compact JSON of c in its field order (spec section 2). It is computed on
// demand and never stored with the provider.
func (c Canonical) Hash() string {
	encoded, err := json.Marshal(c)
	if err != nil {
		panic("provider: a struct of strings always marshals: " + err.Error())
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}
