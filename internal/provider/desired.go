package provider

import (
	"provwatch/internal/secret"
)

// MaxKeys is how many keys, or access keys, a provider can have.
const MaxKeys = 5

// All stands for all providers where a name is expected. No provider can have the name.
const All = "*"

// Desired is a provider as the environment asks for it.
type Desired struct {
	Name    string
	Type    Type
	BaseURL string
	// Keys are the bearer keys, in the order of the environment. A Bedrock
	// provider has none.
	Keys []secret.Text
	// Bedrock is nil unless the provider is a Bedrock one (docs/specification.md,
	// section 1).
	Bedrock *Bedrock
	// Variables are patterns of all environment variables that make the provider,
	// for messages: for example CODER_AIBRIDGE_PROVIDER_0_*.
	Variables string
	// CredentialsOrigin is the variable that holds the keys, or the access keys of
	// a Bedrock provider; empty without keys.
	CredentialsOrigin string
}

// Names returns the names of providers, in their order.
func Names(desired []Desired) []string {
	names := make([]string, len(desired))
	for i, d := range desired {
		names[i] = d.Name
	}
	return names
}

// Canonical returns the fields that the database must agree with.
func (d Desired) Canonical() Canonical {
	c := Canonical{Type: d.Type, BaseURL: d.BaseURL}
	if d.Bedrock != nil {
		c.BedrockRegion = d.Bedrock.Region
	}
	return c
}

// UsesKeys is [UsesKeys] of the provider's row.
func (d Desired) UsesKeys() bool { return UsesKeys(d.Type, d.Bedrock != nil) }

// DisplayRegion returns the Bedrock region as it may be shown.
func (d Desired) DisplayRegion() string { return DisplayText(d.Canonical().BedrockRegion) }

// CredentialVariables names the variables to look at for credentials, for messages.
func (d Desired) CredentialVariables() string {
	if d.CredentialsOrigin != "" {
		return d.CredentialsOrigin
	}
	return "none is set in the variables " + d.Variables
}

// Settings returns the text for the settings column, absent for a provider
// that is not a Bedrock one.
func (d Desired) Settings() secret.Text {
	if d.Bedrock == nil {
		return secret.Text{}
	}
	return d.Bedrock.Encode()
}

// WithoutCredentials returns the provider without its keys and access keys.
func (d Desired) WithoutCredentials() Desired {
	d.Keys = nil
	if b := d.Bedrock; b != nil {
		d.Bedrock = &Bedrock{Region: b.Region, Model: b.Model, SmallFastModel: b.SmallFastModel}
	}
	return d
}
