package environment_test

import (
	"strings"

	"provwatch/internal/environment"
	"provwatch/internal/provider"
)

const (
	sonnet = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
	haiku  = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
)

// desired is a provider.Desired with its secrets in plain text, so that two can
// be compared.
type desired struct {
	Name, Type, BaseURL string
	Keys                []string
	Bedrock             *bedrock
	Variables           string
}

type bedrock struct{ Region, Model, SmallFastModel, AccessKey, AccessKeySecret string }

func plain(providers []provider.Desired) []desired {
	var all []desired
	for _, p := range providers {
		d := desired{Name: p.Name, Type: string(p.Type), BaseURL: p.BaseURL, Variables: p.Variables}
		for _, key := range p.Keys {
			d.Keys = append(d.Keys, key.Reveal())
		}
		if b := p.Bedrock; b != nil {
			d.Bedrock = &bedrock{b.Region, b.Model, b.SmallFastModel, b.AccessKey.Reveal(), b.AccessKeySecret.Reveal()}
		}
		all = append(all, d)
	}
	return all
}

func texts(findings []environment.Finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, f.String())
	}
	return all
}

// spell writes the prefixes out: @ is the usual one, ~ the alias.
func spell(s string) string {
	return strings.NewReplacer("@", "CODER_AIBRIDGE_", "~", "CODER_AI_GATEWAY_").Replace(s)
}

func spellAll(all []string) []string {
	var spelt []string
	for _, s := range all {
		spelt = append(spelt, spell(s))
	}
	return spelt
}

// variables is NAME=value, separated by spaces or line breaks.
func variables(s string) map[string]string {
	all := make(map[string]string)
	for _, pair := range strings.Fields(spell(s)) {
		name, value, _ := strings.Cut(pair, "=")
		all[name] = value
	}
	return all
}

const (
	form      = "; the form is @PROVIDER_<N>_<FIELD>, with N = 0, 1, 2, …"
	noGap     = "number the providers 0, 1, 2, … without a gap"
	badURL    = "is not an absolute http or https URL with a host; write it as https://HOST/PATH"
	badName   = "the name does not match ^[a-z0-9]+(-[a-z0-9]+)*$ (lower-case letters and digits, with single hyphens between)"
	badText   = "is not text that can be stored; it must be valid UTF-8"
	control   = "holds a control character, such as a line break or a tab; remove it"
	lineEnd   = "ends with a line break; set it without one"
	blanks    = "begins or ends with a space or an invisible character, which is taken for a part of it; remove it"
	quotes    = "is in quotes, which are taken for a part of it; remove them"
	reference = "holds a reference such as ${NAME}, which is taken literally: nothing is expanded; set the value that it stands for"
	modelOnly = "is ignored: a model alone does not make the provider a Bedrock one; set "
	skipped   = "the type is not a type that this version can seed (anthropic, azure, bedrock, copilot, google, openai, openai-compat, openrouter, vercel); its provider is skipped"
	anyType   = "anthropic, azure, bedrock, copilot, google, openai, openai-compat, openrouter or vercel"
	unknown   = "is not a known field and is ignored; the nearest known one is "
)

type environmentCase struct {
	name      string
	env       string
	extra     map[string]string // variables whose values hold spaces
	providers []desired         // none are expected with errors
	warnings  []string
	errors    []string
}

func bearerWins(key, stem string) string {
	return "is ignored: with " + key + " and without AWS credentials the provider is not a Bedrock one; set " +
		stem + "BEDROCK_ACCESS_KEY and " + stem + "BEDROCK_ACCESS_KEY_SECRET instead of the key, or remove this variable"
}

func respelt(variable string) string {
	return "spells the field of " + variable + " in another way; remove one of them"
}
