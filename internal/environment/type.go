package environment

import (
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/provider"
	"provwatch/internal/suggest"
)

// indexedBaseURLs are the base URLs of indexed providers that set none. Those of
// type openai and anthropic then have an empty one, as the gateway itself stores
// it and reads as their vendor's. It knows no such meaning for these: an empty
// base URL would send their requests, with their keys, to OpenAI. For copilot it
// is the one that the gateway uses by itself.
var indexedBaseURLs = map[provider.Type]string{
	provider.Copilot:    "https://api.individual.githubcopilot.com",
	provider.Google:     "https://generativelanguage.googleapis.com/v1beta/openai/",
	provider.OpenRouter: "https://openrouter.ai/api/v1/",
	provider.Vercel:     "https://ai-gateway.vercel.sh/v1/",
}

// endpointTypes are the types without an endpoint that all customers share.
var endpointTypes = []provider.Type{provider.Azure, provider.OpenAICompat}

// parseTyped parses the fields of an indexed provider whose type is known.
func (p *parser) parseTyped(e *entry, d *provider.Desired) {
	switch d.Type {
	case provider.Anthropic:
		p.parseAnthropic(e, d, "", "")
	case provider.AmazonBedrock:
		p.parseAmazonBedrock(e, d)
	case provider.Copilot:
		p.rejectBedrock(e)
		p.rejectKeys(e, d.Type, "the gateway uses the token that each user sends")
		d.BaseURL = p.parseBaseURL(e, "BASE_URL", indexedBaseURLs[d.Type])
	default:
		p.rejectBedrock(e)
		p.parseBearer(e, d, "", indexedBaseURLs[d.Type])
		if _, ok := e.set("BASE_URL"); !ok && slices.Contains(endpointTypes, d.Type) {
			p.errorf(e.nameOf("TYPE"), "its provider has no base URL, and there is no usual one for the type %s; set %s", d.Type, e.nameOf("BASE_URL"))
		}
	}
}

// parseAmazonBedrock parses a provider of the type bedrock. It is what a Bedrock
// provider of the type anthropic is, with nothing to decide: it cannot have
// bearer keys, and without anything that makes a Bedrock provider it is an error.
func (p *parser) parseAmazonBedrock(e *entry, d *provider.Desired) {
	p.rejectKeys(e, d.Type, fmt.Sprintf("it uses AWS credentials (%s) or those of its surroundings", e.nameOf("BEDROCK_ACCESS_KEY")))
	if e.firstSet("BEDROCK_REGION", "BEDROCK_BASE_URL", "BEDROCK_ACCESS_KEY", "BEDROCK_ACCESS_KEYS",
		"BEDROCK_ACCESS_KEY_SECRET", "BEDROCK_ACCESS_KEY_SECRETS") == "" {
		p.errorf(e.nameOf("TYPE"), "its provider has neither a region nor a base URL nor AWS credentials; set %s", e.nameOf("BEDROCK_REGION"))
	}
	if v, ok := e.set("BASE_URL"); ok {
		p.warnf(v.name, "is ignored: the base URL of a provider of type %s is %s; remove this variable", d.Type, e.nameOf("BEDROCK_BASE_URL"))
	}
	p.parseBedrock(e, d)
}

// rejectKeys reports the bearer keys of a provider that has none.
func (p *parser) rejectKeys(e *entry, kind provider.Type, instead string) {
	for _, field := range []string{"KEY", "KEYS"} {
		if v, ok := e.set(field); ok {
			p.errorf(v.name, "a provider of type %s has no keys: %s; remove this variable", kind, instead)
		}
	}
}

// rejectBedrock reports every Bedrock field of a provider that cannot be one.
func (p *parser) rejectBedrock(e *entry) {
	for _, field := range indexedFields {
		if v, ok := e.set(field); ok && strings.HasPrefix(field, "BEDROCK_") {
			p.errorf(v.name, "is only for providers of type %s or %s; remove it, or change %s",
				provider.Anthropic, provider.AmazonBedrock, e.nameOf("TYPE"))
		}
	}
}

// unknownType names the type that the value is most likely a misspelling of, and
// never the value, which can be a key that is in the wrong place.
func unknownType(value string) string {
	message := "the type is not a type that this version can seed (" + strings.Join(typeNames(), ", ") + "); its provider is skipped"
	for _, name := range typeNames() {
		if strings.EqualFold(value, name) {
			return message + "; write " + name + " in lower case"
		}
	}
	if meant := suggest.Misspelt(strings.ToLower(value), typeNames()); meant != "" {
		message += "; it is most likely a misspelling of " + meant
	}
	return message
}

// anyType lists the types to choose from.
func anyType() string {
	names := typeNames()
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func typeNames() []string {
	var names []string
	for _, t := range provider.Types() {
		names = append(names, string(t))
	}
	return names
}
