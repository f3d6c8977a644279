// Package provider holds what an AI provider is, apart from where it is
// stored: its type, its settings, its canonical hash, and the comparison of
// what the environment asks for with what the database holds.
package provider

// Type is the kind of API that a provider speaks, a value of the database's
// enum ai_provider_type (spec section 3).
type Type string

// The types that this version can seed.
const (
	OpenAI    Type = "openai"
	Anthropic Type = "anthropic"
)

// Types returns the types that this version can seed, in alphabetical order.
func Types() []Type { return []Type{Anthropic, OpenAI} }
