package environment

import "provwatch/internal/provider"

// The names of the legacy providers are constants, which is why messages may
// show them.
const (
	legacyOpenAI    = "openai"
	legacyAnthropic = "anthropic"
)

// Base URLs of legacy providers that set none; see indexedBaseURLs for indexed
// ones.
const (
	defaultOpenAIBaseURL    = "https://api.openai.com/v1/"
	defaultAnthropicBaseURL = "https://api.anthropic.com/"
)

// parseLegacy parses the variables that configure one provider of each type.
//
// The provider openai exists when OPENAI_KEY is set. The provider anthropic
// exists when ANTHROPIC_KEY or anything that makes a Bedrock provider is set;
// models alone do not (docs/specification.md, section 1).
func (p *parser) parseLegacy(e *entry) {
	for _, field := range legacyFields {
		p.reportDuplicates(e, field)
		p.readFile(e, field)
		p.checkValue(e, field)
	}
	p.reportUnknown(e)
	p.parseLegacyOpenAI(e)
	p.parseLegacyAnthropic(e)
}

func (p *parser) parseLegacyOpenAI(e *entry) {
	key, ok := e.set("OPENAI_KEY")
	if !ok {
		p.warnWithoutKey(e, "OPENAI_BASE_URL", "OPENAI_KEY")
		return
	}
	d := provider.Desired{Name: legacyOpenAI, Type: provider.OpenAI, Variables: e.variablesOf("_OPENAI_")}
	p.parseBearer(e, &d, "OPENAI_", defaultOpenAIBaseURL)
	p.add(namedProvider{desired: d, variables: []string{key.name}, legacy: true})
}

func (p *parser) parseLegacyAnthropic(e *entry) {
	var makers []string
	for _, field := range []string{
		"ANTHROPIC_KEY", "BEDROCK_ACCESS_KEY", "BEDROCK_ACCESS_KEY_SECRET", "BEDROCK_REGION", "BEDROCK_BASE_URL",
	} {
		if v, ok := e.set(field); ok {
			makers = append(makers, v.name)
		}
	}
	if len(makers) == 0 {
		p.warnWithoutKey(e, "ANTHROPIC_BASE_URL", "ANTHROPIC_KEY")
		p.warnModelsIgnored(e)
		return
	}

	d := provider.Desired{Name: legacyAnthropic, Type: provider.Anthropic, Variables: e.variablesOf("_ANTHROPIC_", "_BEDROCK_")}
	p.parseAnthropic(e, &d, "ANTHROPIC_", defaultAnthropicBaseURL)
	p.add(namedProvider{desired: d, variables: makers, legacy: true})
}

func (p *parser) warnWithoutKey(e *entry, field, keyField string) {
	if v, ok := e.set(field); ok {
		p.warnf(v.name, "is ignored: no key; set %s, or remove this variable", e.nameOf(keyField))
	}
}
