package environment

// Variable is a field of the environment's provider variables, for documentation
// (docs/specification.md, section 1).
type Variable struct {
	// Field follows the prefix, or the index of an indexed provider.
	Field   string
	Default string // empty for none
	Meaning string
}

// fieldMeanings says what each field is for. Legacy fields of one meaning share one.
var fieldMeanings = map[string]string{
	"TYPE":                       "type of the provider, " + anyType() + "; required",
	"NAME":                       "name of the provider, of lower-case letters and digits with single hyphens between; the type where it is not set",
	"BASE_URL":                   "base URL, an absolute http or https URL",
	"KEY":                        "API key",
	"KEYS":                       "API keys, separated by commas, at most 5; instead of `KEY`",
	"OPENAI_KEY":                 "API key; it makes the provider `openai`",
	"OPENAI_BASE_URL":            "base URL of the provider `openai`",
	"ANTHROPIC_KEY":              "API key; it makes the provider `anthropic`",
	"ANTHROPIC_BASE_URL":         "base URL of the provider `anthropic`, unless it is a Bedrock one",
	"BEDROCK_BASE_URL":           "base URL of Amazon Bedrock; it makes an anthropic provider without a key a Bedrock one",
	"BEDROCK_REGION":             "AWS region; it makes an anthropic provider without a key a Bedrock one",
	"BEDROCK_ACCESS_KEY":         "AWS access key; it makes an anthropic provider a Bedrock one",
	"BEDROCK_ACCESS_KEYS":        "access keys, separated by commas, at most 5; instead of `BEDROCK_ACCESS_KEY`",
	"BEDROCK_ACCESS_KEY_SECRET":  "the access key's secret",
	"BEDROCK_ACCESS_KEY_SECRETS": "the access keys' secrets, as many; instead of `BEDROCK_ACCESS_KEY_SECRET`",
	"BEDROCK_MODEL":              "model of a Bedrock provider; it alone does not make one",
	"BEDROCK_SMALL_FAST_MODEL":   "small model of a Bedrock provider; it alone does not make one",
}

var fieldDefaults = map[string]string{
	"OPENAI_BASE_URL":          defaultOpenAIBaseURL,
	"ANTHROPIC_BASE_URL":       defaultAnthropicBaseURL,
	"BEDROCK_MODEL":            defaultBedrockModel,
	"BEDROCK_SMALL_FAST_MODEL": defaultBedrockSmallFastModel,
}

// Variables returns the fields that the parser knows: those of one provider a
// type, and those of an indexed provider.
func Variables() (legacy, indexed []Variable) {
	describe := func(fields []string) (list []Variable) {
		for _, field := range fields {
			list = append(list, Variable{Field: field, Default: fieldDefaults[field], Meaning: fieldMeanings[field]})
		}
		return list
	}
	return describe(legacyFields), describe(indexedFields)
}

// Prefixes returns the prefix of all variables and its alias.
func Prefixes() (string, string) { return prefix, aliasPrefix }
