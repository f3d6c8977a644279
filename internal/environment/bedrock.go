package environment

import (
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// The models of a Bedrock provider, legacy or indexed, that sets none.
const (
	defaultBedrockModel          = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
	defaultBedrockSmallFastModel = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
)

// parseAnthropic decides whether a provider of type anthropic is a Bedrock one
// and parses it as what it is (docs/specification.md, section 1). The same rules
// hold for legacy and indexed providers, with group "ANTHROPIC_" and "" before the
// fields KEY and BASE_URL:
//
//   - with AWS credentials it is a Bedrock provider; a bearer key is then
//     ignored with a warning (legacy) or an error (indexed);
//   - without AWS credentials, but with a bearer key, it is a bearer provider;
//     Bedrock fields are ignored with a warning, since a row that has them would
//     look like a Bedrock one;
//   - with neither, a Bedrock base URL or region makes it a Bedrock provider
//     that takes its credentials from its surroundings; models alone do not.
func (p *parser) parseAnthropic(e *entry, d *provider.Desired, group, defaultBaseURL string) {
	bearer := e.firstSet(group+"KEY", group+"KEYS")
	credentials := e.firstSet("BEDROCK_ACCESS_KEY", "BEDROCK_ACCESS_KEYS", "BEDROCK_ACCESS_KEY_SECRET", "BEDROCK_ACCESS_KEY_SECRETS")
	metadata := e.firstSet("BEDROCK_REGION", "BEDROCK_BASE_URL")

	switch {
	case credentials == "" && bearer != "":
		p.parseBearer(e, d, group, defaultBaseURL)
		for _, field := range []string{"BEDROCK_BASE_URL", "BEDROCK_REGION", "BEDROCK_MODEL", "BEDROCK_SMALL_FAST_MODEL"} {
			if v, ok := e.set(field); ok {
				p.warnf(v.name, "is ignored: with %s and without AWS credentials the provider is not a Bedrock one; "+
					"set %s and %s instead of the key, or remove this variable",
					bearer, e.nameOf("BEDROCK_ACCESS_KEY"), e.nameOf("BEDROCK_ACCESS_KEY_SECRET"))
			}
		}
		return
	case credentials == "" && metadata == "":
		p.parseBearer(e, d, group, defaultBaseURL)
		p.warnModelsIgnored(e)
		return
	}

	if bearer != "" {
		if e.parsed.index == legacyIndex {
			p.warnf(bearer, "is ignored: %s makes the provider a Bedrock one; remove one of them", credentials)
		} else {
			p.parseKeys(e, group+"KEY", group+"KEYS")
			p.errorf(bearer, "cannot be combined with AWS credentials (%s); remove one of them", credentials)
		}
	}
	if v, ok := e.set(group + "BASE_URL"); ok {
		maker := credentials
		if maker == "" {
			maker = metadata
		}
		p.warnf(v.name, "is ignored: %s makes the provider a Bedrock one, whose base URL is %s; remove this variable",
			maker, e.nameOf("BEDROCK_BASE_URL"))
	}
	p.parseBedrock(e, d)
}

func (p *parser) warnModelsIgnored(e *entry) {
	for _, field := range []string{"BEDROCK_MODEL", "BEDROCK_SMALL_FAST_MODEL"} {
		if v, ok := e.set(field); ok {
			p.warnf(v.name, "is ignored: a model alone does not make the provider a Bedrock one; set %s, or remove this variable",
				e.nameOf("BEDROCK_REGION"))
		}
	}
}

// parseBearer parses the fields of a provider that is not a Bedrock one.
func (p *parser) parseBearer(e *entry, d *provider.Desired, group, defaultBaseURL string) {
	d.Keys, d.CredentialsOrigin = p.parseKeys(e, group+"KEY", group+"KEYS")
	d.BaseURL = p.parseBaseURL(e, group+"BASE_URL", defaultBaseURL)
}

// parseBedrock parses the fields of a Bedrock provider. Its base URL is the
// Bedrock base URL, even an empty one.
func (p *parser) parseBedrock(e *entry, d *provider.Desired) {
	d.BaseURL = p.parseBaseURL(e, "BEDROCK_BASE_URL", "")
	d.Bedrock = &provider.Bedrock{
		Region:         p.parseText(e, "BEDROCK_REGION", ""),
		Model:          p.parseText(e, "BEDROCK_MODEL", defaultBedrockModel),
		SmallFastModel: p.parseText(e, "BEDROCK_SMALL_FAST_MODEL", defaultBedrockSmallFastModel),
	}
	d.Bedrock.AccessKey, d.Bedrock.AccessKeySecret, d.CredentialsOrigin = p.parseAccessKey(e)
}

// parseAccessKey returns the first pair of access key and secret, since the
// settings hold one, and the variable of the access key. Every access key needs
// its secret, also those that are not stored.
func (p *parser) parseAccessKey(e *entry) (key, keySecret secret.Text, variable string) {
	keys := p.parseList(e, "BEDROCK_ACCESS_KEY", "BEDROCK_ACCESS_KEYS")
	p.checkCount(keys)
	p.checkRepeats(keys)
	secrets := p.parseList(e, "BEDROCK_ACCESS_KEY_SECRET", "BEDROCK_ACCESS_KEY_SECRETS")

	switch {
	case keys.ambiguous || secrets.ambiguous || keys.unread || secrets.unread:
		// There is no telling which pairs are meant.
	case keys.variable == "" && secrets.variable == "":
	case secrets.variable == "":
		p.errorf(keys.variable, "has no secret; set %s, or remove this variable", e.nameOf(counterpart(keys, "BEDROCK_ACCESS_KEY_SECRET")))
	case keys.variable == "":
		p.errorf(secrets.variable, "has no access key; set %s, or remove this variable", e.nameOf(counterpart(secrets, "BEDROCK_ACCESS_KEY")))
	case len(keys.elements) != len(secrets.elements):
		p.errorf(keys.variable, "access keys and secrets do not pair: here are %d, in %s are %d; give each access key one secret",
			len(keys.elements), secrets.variable, len(secrets.elements))
	default:
		p.checkStorable(keys, 0)
		p.checkStorable(secrets, 0)
		if more := len(keys.elements) - 1; more > 0 {
			p.warnf(keys.variable, "only the first access key and its secret are stored; not stored: %d", more)
		}
		return secret.New(keys.elements[0]), secret.New(secrets.elements[0]), keys.variable
	}
	return secret.Text{}, secret.Text{}, ""
}

// counterpart returns the field to be set besides l, in the same number.
func counterpart(l list, singular string) string {
	if l.plural {
		return singular + "S"
	}
	return singular
}
