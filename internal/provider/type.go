// Package provider holds what an AI provider is, apart from where it is
// stored: its type, its settings, its canonical hash, and the comparison of
// what the environment asks for with what the database holds.
package provider

// Type is the kind of API that a provider speaks, a value of the database's
// enum ai_provider_type (docs/specification.md, section 3).
type Type string

// The types that this version can seed, each where the database's enum has it.
const (
	Anthropic     Type = "anthropic"
	Azure         Type = "azure"
	AmazonBedrock Type = "bedrock"
	Copilot       Type = "copilot"
	Google        Type = "google"
	OpenAI        Type = "openai"
	OpenAICompat  Type = "openai-compat"
	OpenRouter    Type = "openrouter"
	Vercel        Type = "vercel"
)

// Types returns the types that this version can seed, in alphabetical order.
// Which of them a database can hold is looked up in its enum.
func Types() []Type {
	return []Type{Anthropic, Azure, AmazonBedrock, Copilot, Google, OpenAI, OpenAICompat, OpenRouter, Vercel}
}

// HashNeedsSettings reports whether the canonical hash of a row of this type depends
// on its settings. The settings of other rows are not decoded: whatever they hold, and
// whether they can be decoded, is the gateway's matter.
func (t Type) HashNeedsSettings() bool { return t == Anthropic || t == AmazonBedrock }
