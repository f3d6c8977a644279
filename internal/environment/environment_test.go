package environment_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/environment"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
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
		if len(p.Keys) > 0 {
			d.Keys = secret.RevealAll(p.Keys)
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
	skipped   = "the type is none that this version can seed (anthropic, azure, bedrock, copilot, google, openai, openai-compat, openrouter, vercel); its provider is skipped"
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

// Legacy variables.
var legacyCases = []environmentCase{
	{
		name: "no variables give no providers",
	},
	{
		name:      "a legacy OpenAI key makes the provider openai with the default base URL",
		env:       "@OPENAI_KEY=sk-1",
		providers: []desired{{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/", Keys: []string{"sk-1"}, Variables: "@OPENAI_*"}},
	},
	{
		name:      "a legacy OpenAI base URL replaces the default",
		env:       "@OPENAI_KEY=sk-1 @OPENAI_BASE_URL=http://proxy:8080/v1",
		providers: []desired{{Name: "openai", Type: "openai", BaseURL: "http://proxy:8080/v1", Keys: []string{"sk-1"}, Variables: "@OPENAI_*"}},
	},
	{
		name:      "a legacy Anthropic key makes the provider anthropic with the default base URL",
		env:       "@ANTHROPIC_KEY=sk-2",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://api.anthropic.com/", Keys: []string{"sk-2"}, Variables: "@ANTHROPIC_*"}},
	},
	{
		name: "providers are in name order",
		env:  "@OPENAI_KEY=sk-1 @ANTHROPIC_KEY=sk-2 @PROVIDER_0_TYPE=openai @PROVIDER_0_NAME=a",
		providers: []desired{
			{Name: "a", Type: "openai", Variables: "@PROVIDER_0_*"},
			{Name: "anthropic", Type: "anthropic", BaseURL: "https://api.anthropic.com/", Keys: []string{"sk-2"}, Variables: "@ANTHROPIC_*"},
			{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/", Keys: []string{"sk-1"}, Variables: "@OPENAI_*"},
		},
	},
	{
		name:     "a legacy OpenAI base URL without a key is ignored with a warning",
		env:      "@OPENAI_BASE_URL=https://h/",
		warnings: []string{"@OPENAI_BASE_URL: is ignored: no key; set @OPENAI_KEY, or remove this variable"},
	},
	{
		name:     "a legacy Anthropic base URL without a key is ignored with a warning",
		env:      "~ANTHROPIC_BASE_URL=https://h/",
		warnings: []string{"~ANTHROPIC_BASE_URL: is ignored: no key; set ~ANTHROPIC_KEY, or remove this variable"},
	},
	{
		name: "an empty value counts as not set",
		env:  "@OPENAI_KEY= @ANTHROPIC_KEY= @PROVIDER_0_TYPE= @PROVIDER_X_TYPE= @OPENAI_KYE= @PROVIDER_7= @BEDROCK_REGION=",
	},
	{
		name:      "a legacy key is kept verbatim, commas and spaces included",
		extra:     map[string]string{"@OPENAI_KEY": " a,b "},
		providers: []desired{{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/", Keys: []string{" a,b "}, Variables: "@OPENAI_*"}},
		warnings:  []string{"@OPENAI_KEY: " + blanks},
	},
	{
		name:      "the alias prefix means the same for legacy variables",
		env:       "~OPENAI_KEY=sk-1 @OPENAI_BASE_URL=https://h/",
		providers: []desired{{Name: "openai", Type: "openai", BaseURL: "https://h/", Keys: []string{"sk-1"}, Variables: "@OPENAI_*, ~OPENAI_*"}},
	},
	{
		name:      "a legacy field under both prefixes with one value is fine",
		env:       "@OPENAI_KEY=sk-1 ~OPENAI_KEY=sk-1",
		providers: []desired{{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/", Keys: []string{"sk-1"}, Variables: "@OPENAI_*, ~OPENAI_*"}},
	},
	{
		name:   "a legacy field under both prefixes with different values is an error",
		env:    "@OPENAI_KEY=sk-1 ~OPENAI_KEY=sk-2",
		errors: []string{"~OPENAI_KEY: is set to another value than @OPENAI_KEY, which means the same; remove one of them"},
	},
	{
		name:      "an empty value under one prefix leaves the other",
		env:       "@OPENAI_KEY= ~OPENAI_KEY=sk-2",
		providers: []desired{{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/", Keys: []string{"sk-2"}, Variables: "~OPENAI_*"}},
	},
	{
		name: "unknown names beginning like legacy ones are warned of with the nearest known one",
		env:  "@OPENAI_KYE=x @ANTHROPIC_BASEURL=x @BEDROCK_ACCESS_KEYS=x ~OPENAI_DUMP_DIRS=x",
		warnings: []string{
			"@ANTHROPIC_BASEURL: " + unknown + "ANTHROPIC_BASE_URL",
			"@BEDROCK_ACCESS_KEYS: " + unknown + "BEDROCK_ACCESS_KEY",
			"@OPENAI_KYE: " + unknown + "OPENAI_KEY",
			"~OPENAI_DUMP_DIRS: " + unknown + "OPENAI_DUMP_DIR",
		},
	},
	{
		name: "the gateway's own variables and those of others are passed over silently",
		env: "@ENABLED=true @OPENAI_DUMP_DIR=/x ~ANTHROPIC_DUMP_DIR=/x @BEDROCK_DUMP_DIR=/x @OPENAI=x @= @X=x " +
			"@PROVIDERX=x @PROVIDER=x @PROVIDERS_0_TYPE=x PATH=/bin AIBRIDGE_OPENAI_KEY=x XCODER_AIBRIDGE_OPENAI_KEY=x",
		extra: map[string]string{"@": "x"},
	},
	{
		name: "legacy field names are matched without regard to case, DUMP_DIR and misspelt ones included",
		env:  "@OpenAI_Key=sk-1 @openai_base_url=https://h/ ~bedrock_Region=r @OpenAI_Dump_Dir=/x @OpenAI_Kye=x",
		providers: []desired{
			{Name: "anthropic", Type: "anthropic", Variables: "~bedrock_*", Bedrock: &bedrock{"r", sonnet, haiku, "", ""}},
			{Name: "openai", Type: "openai", BaseURL: "https://h/", Keys: []string{"sk-1"}, Variables: "@OpenAI_*, @openai_*"},
		},
		warnings: []string{"@OpenAI_Kye: " + unknown + "OPENAI_KEY"},
	},
	{
		name: "a legacy field in two spellings is an error, whatever its values and prefixes",
		env:  "@OPENAI_KEY=sk-1 @OpenAI_KEY=sk-1 ~ANTHROPIC_Key=sk-2 @ANTHROPIC_KEY=sk-3",
		errors: []string{
			"@OpenAI_KEY: " + respelt("@OPENAI_KEY"),
			"~ANTHROPIC_Key: " + respelt("@ANTHROPIC_KEY"),
		},
	},
	{
		name:      "a second spelling that is empty counts as not set",
		env:       "@OPENAI_KEY=sk-1 @OPENAI_Key=",
		providers: []desired{{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/", Keys: []string{"sk-1"}, Variables: "@OPENAI_*"}},
	},
	{
		name:   "a base URL that is not absolute, not http or without a host is an error",
		env:    "@OPENAI_KEY=a @OPENAI_BASE_URL=ftp://host/ @ANTHROPIC_KEY=b @ANTHROPIC_BASE_URL=https:///path",
		errors: []string{"@ANTHROPIC_BASE_URL: " + badURL, "@OPENAI_BASE_URL: " + badURL},
	},
	{
		name:   "a base URL that does not parse is an error without the value",
		env:    "@OPENAI_KEY=a @OPENAI_BASE_URL=https://user:sk-pass%zz",
		errors: []string{"@OPENAI_BASE_URL: " + badURL},
	},
	{
		name:   "a key pasted as a base URL is an error without the value",
		env:    "@OPENAI_KEY=a @OPENAI_BASE_URL=sk-pasted",
		errors: []string{"@OPENAI_BASE_URL: " + badURL},
	},
	{
		name:   "a value that Postgres cannot store is an error",
		extra:  map[string]string{"@OPENAI_KEY": "a\x00b", "@OPENAI_BASE_URL": "https://h/\xff", "@ANTHROPIC_KEY": "\xff"},
		errors: []string{"@ANTHROPIC_KEY: " + badText, "@OPENAI_BASE_URL: " + badText, "@OPENAI_KEY: " + control},
	},
	{
		name:     "a value that is not stored may be anything without a control character",
		extra:    map[string]string{"@ANTHROPIC_BASE_URL": "ab", "@BEDROCK_MODEL": "\xff"},
		warnings: []string{"@ANTHROPIC_BASE_URL: is ignored: no key; set @ANTHROPIC_KEY, or remove this variable", "@BEDROCK_MODEL: " + modelOnly + "@BEDROCK_REGION, or remove this variable"},
	},
}

// Bedrock, legacy.
var legacyBedrockCases = []environmentCase{
	{
		name: "a legacy Bedrock provider with credentials has the Bedrock base URL and no keys",
		env:  "@BEDROCK_BASE_URL=https://b/ @BEDROCK_REGION=us-east-1 @BEDROCK_ACCESS_KEY=AK @BEDROCK_ACCESS_KEY_SECRET=SK @BEDROCK_MODEL=m @BEDROCK_SMALL_FAST_MODEL=s",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://b/", Variables: "@BEDROCK_*",
			Bedrock: &bedrock{"us-east-1", "m", "s", "AK", "SK"}}},
	},
	{
		name: "a legacy Bedrock provider without a Bedrock base URL has an empty one, and the default models",
		env:  "@BEDROCK_ACCESS_KEY=AK @BEDROCK_ACCESS_KEY_SECRET=SK",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@BEDROCK_*",
			Bedrock: &bedrock{"", sonnet, haiku, "AK", "SK"}}},
	},
	{
		name: "a legacy region alone makes a Bedrock provider without stored credentials",
		env:  "@BEDROCK_REGION=us-east-1",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@BEDROCK_*",
			Bedrock: &bedrock{"us-east-1", sonnet, haiku, "", ""}}},
	},
	{
		name: "a legacy Bedrock base URL alone makes a Bedrock provider without stored credentials",
		env:  "~BEDROCK_BASE_URL=https://b/",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://b/", Variables: "~BEDROCK_*",
			Bedrock: &bedrock{"", sonnet, haiku, "", ""}}},
	},
	{
		name: "legacy models alone make no provider and are ignored with a warning",
		env:  "@BEDROCK_MODEL=m ~BEDROCK_SMALL_FAST_MODEL=s",
		warnings: []string{
			"@BEDROCK_MODEL: " + modelOnly + "@BEDROCK_REGION, or remove this variable",
			"~BEDROCK_SMALL_FAST_MODEL: " + modelOnly + "@BEDROCK_REGION, or remove this variable",
		},
	},
	{
		name: "a legacy Anthropic key together with AWS credentials is ignored with a warning",
		env:  "@ANTHROPIC_KEY=sk-2 @ANTHROPIC_BASE_URL=https://a/ @BEDROCK_ACCESS_KEY=AK @BEDROCK_ACCESS_KEY_SECRET=SK",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@ANTHROPIC_*, @BEDROCK_*",
			Bedrock: &bedrock{"", sonnet, haiku, "AK", "SK"}}},
		warnings: []string{
			"@ANTHROPIC_BASE_URL: is ignored: @BEDROCK_ACCESS_KEY makes the provider a Bedrock one, whose base URL is @BEDROCK_BASE_URL; remove this variable",
			"@ANTHROPIC_KEY: is ignored: @BEDROCK_ACCESS_KEY makes the provider a Bedrock one; remove one of them",
		},
	},
	{
		name: "a legacy Anthropic key together with Bedrock metadata alone is a bearer provider, with warnings",
		env:  "@ANTHROPIC_KEY=sk-2 @BEDROCK_BASE_URL=https://b/ @BEDROCK_REGION=us-east-1 @BEDROCK_MODEL=m @BEDROCK_SMALL_FAST_MODEL=s",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://api.anthropic.com/", Keys: []string{"sk-2"},
			Variables: "@ANTHROPIC_*, @BEDROCK_*"}},
		warnings: []string{
			"@BEDROCK_BASE_URL: " + bearerWins("@ANTHROPIC_KEY", "@"),
			"@BEDROCK_MODEL: " + bearerWins("@ANTHROPIC_KEY", "@"),
			"@BEDROCK_REGION: " + bearerWins("@ANTHROPIC_KEY", "@"),
			"@BEDROCK_SMALL_FAST_MODEL: " + bearerWins("@ANTHROPIC_KEY", "@"),
		},
	},
	{
		name: "a legacy Anthropic key together with a model alone is a bearer provider, with a warning",
		env:  "@ANTHROPIC_KEY=sk-2 @BEDROCK_MODEL=m",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://api.anthropic.com/", Keys: []string{"sk-2"},
			Variables: "@ANTHROPIC_*, @BEDROCK_*"}},
		warnings: []string{"@BEDROCK_MODEL: " + bearerWins("@ANTHROPIC_KEY", "@")},
	},
	{
		name: "a legacy Anthropic base URL is ignored by a Bedrock provider without credentials",
		env:  "@ANTHROPIC_BASE_URL=https://a/ @BEDROCK_REGION=us-east-1",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@ANTHROPIC_*, @BEDROCK_*",
			Bedrock: &bedrock{"us-east-1", sonnet, haiku, "", ""}}},
		warnings: []string{"@ANTHROPIC_BASE_URL: is ignored: @BEDROCK_REGION makes the provider a Bedrock one, whose base URL is @BEDROCK_BASE_URL; remove this variable"},
	},
	{
		name:   "a legacy access key without its secret is an error",
		env:    "@BEDROCK_ACCESS_KEY=AK",
		errors: []string{"@BEDROCK_ACCESS_KEY: has no secret; set @BEDROCK_ACCESS_KEY_SECRET, or remove this variable"},
	},
	{
		name:   "a legacy secret without its access key is an error",
		env:    "@BEDROCK_ACCESS_KEY_SECRET=SK",
		errors: []string{"@BEDROCK_ACCESS_KEY_SECRET: has no access key; set @BEDROCK_ACCESS_KEY, or remove this variable"},
	},
	{
		name:   "a Bedrock base URL must be a URL as well",
		env:    "@BEDROCK_BASE_URL=bedrock.local",
		errors: []string{"@BEDROCK_BASE_URL: " + badURL},
	},
	{
		name:  "Bedrock fields that Postgres cannot store are errors",
		extra: map[string]string{"@BEDROCK_REGION": "\xff", "@BEDROCK_MODEL": "a\x00", "@BEDROCK_ACCESS_KEY": "\xfe", "@BEDROCK_ACCESS_KEY_SECRET": "\x00"},
		errors: []string{
			"@BEDROCK_ACCESS_KEY: " + badText, "@BEDROCK_ACCESS_KEY_SECRET: " + control,
			"@BEDROCK_MODEL: " + control, "@BEDROCK_REGION: " + badText,
		},
	},
}

func bearerWins(key, stem string) string {
	return "is ignored: with " + key + " and without AWS credentials the provider is not a Bedrock one; set " +
		stem + "BEDROCK_ACCESS_KEY and " + stem + "BEDROCK_ACCESS_KEY_SECRET instead of the key, or remove this variable"
}

func respelt(variable string) string {
	return "spells the field of " + variable + " in another way; remove one of them"
}

// Indexed variables.
var indexedCases = []environmentCase{
	{
		name: "an indexed provider has its fields, and no default base URL",
		env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_NAME=my-openai-2 @PROVIDER_0_BASE_URL=https://h/v1 @PROVIDER_0_KEY=sk-1 " +
			"@PROVIDER_1_TYPE=anthropic @PROVIDER_1_KEY=sk-2",
		providers: []desired{
			{Name: "anthropic", Type: "anthropic", Keys: []string{"sk-2"}, Variables: "@PROVIDER_1_*"},
			{Name: "my-openai-2", Type: "openai", BaseURL: "https://h/v1", Keys: []string{"sk-1"}, Variables: "@PROVIDER_0_*"},
		},
	},
	{
		name:      "an indexed provider without a name takes its type as name",
		env:       "@PROVIDER_0_TYPE=openai",
		providers: []desired{{Name: "openai", Type: "openai", Variables: "@PROVIDER_0_*"}},
	},
	{
		name:      "the alias prefix means the same for indexed variables",
		env:       "~PROVIDER_0_TYPE=openai @PROVIDER_0_KEY=sk-1",
		providers: []desired{{Name: "openai", Type: "openai", Keys: []string{"sk-1"}, Variables: "@PROVIDER_0_*, ~PROVIDER_0_*"}},
	},
	{
		name: "indices are compared as numbers",
		env: "@PROVIDER_0_TYPE=openai @PROVIDER_1_TYPE=cohere @PROVIDER_2_TYPE=x @PROVIDER_3_TYPE=x @PROVIDER_4_TYPE=x @PROVIDER_5_TYPE=x " +
			"@PROVIDER_6_TYPE=x @PROVIDER_7_TYPE=x @PROVIDER_8_TYPE=x @PROVIDER_9_TYPE=x @PROVIDER_10_TYPE=x",
		providers: []desired{{Name: "openai", Type: "openai", Variables: "@PROVIDER_0_*"}},
		warnings: []string{
			"@PROVIDER_1_TYPE: " + skipped, "@PROVIDER_2_TYPE: " + skipped, "@PROVIDER_3_TYPE: " + skipped, "@PROVIDER_4_TYPE: " + skipped,
			"@PROVIDER_5_TYPE: " + skipped, "@PROVIDER_6_TYPE: " + skipped, "@PROVIDER_7_TYPE: " + skipped, "@PROVIDER_8_TYPE: " + skipped,
			"@PROVIDER_9_TYPE: " + skipped, "@PROVIDER_10_TYPE: " + skipped,
		},
	},
	{
		name:      "an index may have leading zeros",
		env:       "@PROVIDER_00_TYPE=openai @PROVIDER_0_KEY=sk-1 @PROVIDER_000_BASE_URL=https://h/ @PROVIDER_0000000000000_NAME=n",
		providers: []desired{{Name: "n", Type: "openai", BaseURL: "https://h/", Keys: []string{"sk-1"}, Variables: "@PROVIDER_0000000000000_*, @PROVIDER_000_*, @PROVIDER_00_*, @PROVIDER_0_*"}},
	},
	{
		name:      "an index spelt in two ways with one value is fine",
		env:       "@PROVIDER_0_TYPE=openai @PROVIDER_00_TYPE=openai ~PROVIDER_0_TYPE=openai",
		providers: []desired{{Name: "openai", Type: "openai", Variables: "@PROVIDER_00_*, @PROVIDER_0_*, ~PROVIDER_0_*"}},
	},
	{
		name: "an index spelt in two ways with different values is an error",
		env:  "@PROVIDER_0_TYPE=openai @PROVIDER_1_TYPE=openai @PROVIDER_1_NAME=a @PROVIDER_01_NAME=b ~PROVIDER_1_NAME=c",
		errors: []string{
			"@PROVIDER_1_NAME: is set to another value than @PROVIDER_01_NAME, which means the same; remove one of them",
			"~PROVIDER_1_NAME: is set to another value than @PROVIDER_01_NAME, which means the same; remove one of them",
		},
	},
	{
		name:   "an indexed field under both prefixes with different values is an error",
		env:    "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEY=a ~PROVIDER_0_KEY=b",
		errors: []string{"~PROVIDER_0_KEY: is set to another value than @PROVIDER_0_KEY, which means the same; remove one of them"},
	},
	{
		name: "a type set to two values is an error, and only checks that need no type are made",
		env:  "@PROVIDER_0_TYPE=openai ~PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_REGION=r @PROVIDER_0_KEYS=a,a",
		errors: []string{
			"@PROVIDER_0_KEYS: element 1 repeats element 0",
			"~PROVIDER_0_TYPE: is set to another value than @PROVIDER_0_TYPE, which means the same; remove one of them",
		},
	},
	{
		name: "field names are matched without regard to case",
		env: "@PROVIDER_0_Type=openai @PROVIDER_0_Name=test @PROVIDER_0_keys=a,b @Provider_1_TYPE=bedrock @PROVIDER_1_Bedrock_Region=r " +
			"@PROVIDER_1_Dump_Dir=/x",
		providers: []desired{
			{Name: "bedrock", Type: "bedrock", Variables: "@PROVIDER_1_*, @Provider_1_*", Bedrock: &bedrock{"r", sonnet, haiku, "", ""}},
			{Name: "test", Type: "openai", Keys: []string{"a", "b"}, Variables: "@PROVIDER_0_*"},
		},
	},
	{
		name: "only the letters of ASCII have another case",
		env:  "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYſ=a",
		providers: []desired{
			{Name: "openai", Type: "openai", Variables: "@PROVIDER_0_*"},
		},
		warnings: []string{"@PROVIDER_0_KEYſ: " + unknown + "KEY"},
	},
	{
		name: "an indexed field in two spellings is an error, whatever its values, prefixes and zeros",
		env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_Type=openai @PROVIDER_1_TYPE=openai @PROVIDER_1_NAME=n @PROVIDER_01_Name=n " +
			"~PROVIDER_1_name=n @PROVIDER_1_KEY=a @PROVIDER_1_Key=b @PROVIDER_1_Kye=x @PROVIDER_1_kye=x",
		warnings: []string{"@PROVIDER_1_Kye: " + unknown + "KEY", "@PROVIDER_1_kye: " + unknown + "KEY"},
		errors: []string{
			"@PROVIDER_0_Type: " + respelt("@PROVIDER_0_TYPE"),
			"@PROVIDER_1_Key: " + respelt("@PROVIDER_1_KEY"),
			"@PROVIDER_1_NAME: " + respelt("@PROVIDER_01_Name"),
			"~PROVIDER_1_name: " + respelt("@PROVIDER_01_Name"),
		},
	},
	{
		name:   "the singular and the plural are two fields, in whatever case",
		env:    "@PROVIDER_0_TYPE=openai @PROVIDER_0_Key=a @PROVIDER_0_KEYS=b",
		errors: []string{"@PROVIDER_0_KEYS: cannot be combined with @PROVIDER_0_Key; remove one of them"},
	},
	{
		name:   "a skipped index is an error",
		env:    "@PROVIDER_0_TYPE=openai @PROVIDER_2_TYPE=anthropic",
		errors: []string{"@PROVIDER_2_TYPE: index 1 is skipped; " + noGap},
	},
	{
		name:   "indices that begin at 1 skip 0",
		env:    "@PROVIDER_1_NAME=a @PROVIDER_1_TYPE=openai",
		errors: []string{"@PROVIDER_1_TYPE: index 0 is skipped; " + noGap},
	},
	{
		name:   "a run of skipped indices is one error, however long",
		env:    "@PROVIDER_0_TYPE=openai @PROVIDER_1999999999_TYPE=anthropic",
		errors: []string{"@PROVIDER_1999999999_TYPE: indices 1 to 1999999998 are skipped; " + noGap},
	},
	{
		name: "every gap is reported",
		env:  "@PROVIDER_1_TYPE=openai @PROVIDER_3_TYPE=anthropic @PROVIDER_3_NAME=b @PROVIDER_2147483647_TYPE=cohere",
		warnings: []string{
			"@PROVIDER_2147483647_TYPE: " + skipped,
		},
		errors: []string{
			"@PROVIDER_1_TYPE: index 0 is skipped; " + noGap,
			"@PROVIDER_3_TYPE: index 2 is skipped; " + noGap,
			"@PROVIDER_2147483647_TYPE: indices 4 to 2147483646 are skipped; " + noGap,
		},
	},
	{
		name: "an index that is not a decimal number is an error",
		env:  "@PROVIDER_X_TYPE=openai @PROVIDER_-1_TYPE=openai @PROVIDER__TYPE=openai @PROVIDER_+1_TYPE=openai @PROVIDER_1e3_KEY=k @PROVIDER_٣_KEY=k @PROVIDER_=x @PROVIDER_Y=x",
		errors: []string{
			"@PROVIDER_: its index is not a decimal number" + form,
			"@PROVIDER_+1_TYPE: its index is not a decimal number" + form,
			"@PROVIDER_-1_TYPE: its index is not a decimal number" + form,
			"@PROVIDER_1e3_KEY: its index is not a decimal number" + form,
			"@PROVIDER_X_TYPE: its index is not a decimal number" + form,
			"@PROVIDER_Y: its index is not a decimal number" + form,
			"@PROVIDER__TYPE: its index is not a decimal number" + form,
			"@PROVIDER_٣_KEY: its index is not a decimal number" + form,
		},
	},
	{
		name: "an index that is too large is an error",
		env:  "@PROVIDER_2147483648_TYPE=openai @PROVIDER_99999999999999999999999999_TYPE=openai",
		errors: []string{
			"@PROVIDER_2147483648_TYPE: its index is too large" + form,
			"@PROVIDER_99999999999999999999999999_TYPE: its index is too large" + form,
		},
	},
	{
		name:   "an index without a field is an error",
		env:    "~PROVIDER_0=openai ~PROVIDER_0_=openai",
		errors: []string{"~PROVIDER_0: it names no field" + strings.Replace(form, "@", "~", 1), "~PROVIDER_0_: it names no field" + strings.Replace(form, "@", "~", 1)},
	},
	{
		name:   "an index without a type is an error",
		env:    "@PROVIDER_0_TYPE=openai ~PROVIDER_01_NAME=a ~PROVIDER_01_KEY=k",
		errors: []string{"~PROVIDER_01_KEY: its provider has no type; set ~PROVIDER_01_TYPE to " + anyType},
	},
	{
		name: "without a type the checks that need none are made",
		env: "@PROVIDER_0_NAME=No @PROVIDER_0_BASE_URL=x @PROVIDER_0_BEDROCK_BASE_URL=x @PROVIDER_0_KEYS=a,,a @PROVIDER_0_BEDROCK_ACCESS_KEY=k " +
			"@PROVIDER_0_APIKEY=x",
		warnings: []string{"@PROVIDER_0_APIKEY: " + unknown + "KEY"},
		errors: []string{
			"@PROVIDER_0_APIKEY: its provider has no type; set @PROVIDER_0_TYPE to " + anyType,
			"@PROVIDER_0_BASE_URL: " + badURL,
			"@PROVIDER_0_BEDROCK_ACCESS_KEY: has no secret; set @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET, or remove this variable",
			"@PROVIDER_0_BEDROCK_BASE_URL: " + badURL,
			"@PROVIDER_0_KEYS: element 1 is empty; remove it, or the comma before or after it",
			"@PROVIDER_0_KEYS: element 2 repeats element 0",
			"@PROVIDER_0_NAME: " + badName,
		},
	},
	{
		name: "an unknown field is warned of with the nearest known one, and makes the index exist",
		env:  "@PROVIDER_0_TYPE=openai @PROVIDER_0_KYE=x @PROVIDER_0_DUMPDIR=x @PROVIDER_0_TYPE_=x @PROVIDER_1_TYP=anthropic",
		warnings: []string{
			"@PROVIDER_0_DUMPDIR: " + unknown + "DUMP_DIR",
			"@PROVIDER_0_KYE: " + unknown + "KEY",
			"@PROVIDER_0_TYPE_: " + unknown + "TYPE",
			"@PROVIDER_1_TYP: " + unknown + "TYPE",
		},
		errors: []string{"@PROVIDER_1_TYP: its provider has no type; set @PROVIDER_1_TYPE to " + anyType},
	},
	{
		name:      "an indexed DUMP_DIR is passed over silently and does not make the index exist",
		env:       "@PROVIDER_0_TYPE=openai @PROVIDER_0_DUMP_DIR=/a ~PROVIDER_0_DUMP_DIR=/b @PROVIDER_7_DUMP_DIR=/x",
		providers: []desired{{Name: "openai", Type: "openai", Variables: "@PROVIDER_0_*"}},
	},
	{
		name:   "an index with DUMP_DIR alone is a gap",
		env:    "@PROVIDER_0_DUMP_DIR=/a @PROVIDER_1_TYPE=openai",
		errors: []string{"@PROVIDER_1_TYPE: index 0 is skipped; " + noGap},
	},
	{
		name: "an unknown type is skipped with a warning, its fields unseen, and is no gap",
		env: "@PROVIDER_0_TYPE=cohere @PROVIDER_0_NAME=NO @PROVIDER_0_KEY=a ~PROVIDER_0_KEY=b @PROVIDER_0_KEYS=,, @PROVIDER_0_BASE_URL=x " +
			"@PROVIDER_0_COLOUR=red @PROVIDER_0_BEDROCK_REGION=r @PROVIDER_1_TYPE=openai",
		providers: []desired{{Name: "openai", Type: "openai", Variables: "@PROVIDER_1_*"}},
		warnings:  []string{"@PROVIDER_0_TYPE: " + skipped},
	},
	{
		name:      "a provider of an unknown type does not take a name",
		env:       "@PROVIDER_0_TYPE=cohere @PROVIDER_0_NAME=a @PROVIDER_1_TYPE=openai @PROVIDER_1_NAME=a",
		providers: []desired{{Name: "a", Type: "openai", Variables: "@PROVIDER_1_*"}},
		warnings:  []string{"@PROVIDER_0_TYPE: " + skipped},
	},
	{
		name:     "a known type in another case is unknown, and the message says which it resembles",
		env:      "@PROVIDER_0_TYPE=OpenAI",
		warnings: []string{"@PROVIDER_0_TYPE: " + skipped + "; write openai in lower case"},
	},
	{
		name: "a misspelt type is told the one that is meant, and what resembles none is told nothing",
		env:  "@PROVIDER_0_TYPE=opneai @PROVIDER_1_TYPE=Antropic @PROVIDER_2_TYPE=sk-openai-0123456789",
		warnings: []string{
			"@PROVIDER_0_TYPE: " + skipped + "; it is most likely a misspelling of openai",
			"@PROVIDER_1_TYPE: " + skipped + "; it is most likely a misspelling of anthropic",
			"@PROVIDER_2_TYPE: " + skipped,
		},
	},
	{
		name: "a name that does not match the pattern is an error on the name",
		env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_NAME=Upper @PROVIDER_1_TYPE=openai @PROVIDER_1_NAME=-a @PROVIDER_2_TYPE=openai @PROVIDER_2_NAME=a--b " +
			"@PROVIDER_3_TYPE=openai @PROVIDER_3_NAME=a_b @PROVIDER_4_TYPE=openai @PROVIDER_4_NAME=a- @PROVIDER_5_TYPE=openai",
		extra:    map[string]string{"@PROVIDER_5_NAME": "a "},
		warnings: []string{"@PROVIDER_5_NAME: " + blanks},
		errors: []string{
			"@PROVIDER_0_NAME: " + badName, "@PROVIDER_1_NAME: " + badName, "@PROVIDER_2_NAME: " + badName,
			"@PROVIDER_3_NAME: " + badName, "@PROVIDER_4_NAME: " + badName, "@PROVIDER_5_NAME: " + badName,
		},
	},
	{
		name:   "an indexed name equal to that of a legacy provider is an error that says what to remove",
		env:    "~OPENAI_KEY=a @PROVIDER_0_TYPE=anthropic @PROVIDER_0_NAME=openai",
		errors: []string{`@PROVIDER_0_NAME: its provider has the name of the legacy provider "openai"; remove either ~OPENAI_KEY or the variables @PROVIDER_0_*`},
	},
	{
		name: "an indexed type that becomes the name of a legacy provider is an error too",
		env:  "@ANTHROPIC_KEY=a @BEDROCK_REGION=r @PROVIDER_0_TYPE=anthropic @PROVIDER_0_KEY=a",
		warnings: []string{
			"@BEDROCK_REGION: " + bearerWins("@ANTHROPIC_KEY", "@"),
		},
		errors: []string{`@PROVIDER_0_TYPE: its provider has the name of the legacy provider "anthropic"; remove either @ANTHROPIC_KEY, @BEDROCK_REGION or the variables @PROVIDER_0_*`},
	},
	{
		name: "an indexed name equal to that of a legacy provider is an error even without a type",
		env:  "@OPENAI_KEY=a @PROVIDER_0_NAME=openai",
		errors: []string{
			"@PROVIDER_0_NAME: its provider has no type; set @PROVIDER_0_TYPE to " + anyType,
			`@PROVIDER_0_NAME: its provider has the name of the legacy provider "openai"; remove either @OPENAI_KEY or the variables @PROVIDER_0_*`,
		},
	},
	{
		name:      "a legacy name is free when the legacy provider is not configured",
		env:       "@OPENAI_BASE_URL=https://h/ @PROVIDER_0_TYPE=openai",
		providers: []desired{{Name: "openai", Type: "openai", Variables: "@PROVIDER_0_*"}},
		warnings:  []string{"@OPENAI_BASE_URL: is ignored: no key; set @OPENAI_KEY, or remove this variable"},
	},
	{
		name: "two indexed providers of one name with different hashes are an error",
		env:  "@PROVIDER_0_TYPE=openai @PROVIDER_0_BASE_URL=https://a/ @PROVIDER_1_TYPE=openai @PROVIDER_1_NAME=openai @PROVIDER_1_BASE_URL=https://b/",
		errors: []string{
			"@PROVIDER_1_NAME: its provider has the name that @PROVIDER_0_TYPE gives to another one, and differs from it; give it another name, or remove one of the two",
		},
	},
	{
		name:      "two indexed providers of one name with equal hashes fold into the first",
		env:       "@PROVIDER_0_TYPE=openai @PROVIDER_0_NAME=a @PROVIDER_0_KEYS=k,l @PROVIDER_1_TYPE=openai @PROVIDER_1_NAME=a @PROVIDER_1_KEYS=l,k",
		providers: []desired{{Name: "a", Type: "openai", Keys: []string{"k", "l"}, Variables: "@PROVIDER_0_*, @PROVIDER_1_*"}},
		warnings:  []string{"@PROVIDER_1_NAME: its provider equals the one that @PROVIDER_0_NAME names and is folded into it"},
	},
	{
		name:      "folding says that keys differ and are ignored",
		env:       "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEY=k @PROVIDER_1_TYPE=openai @PROVIDER_1_KEY=l @PROVIDER_2_TYPE=openai",
		providers: []desired{{Name: "openai", Type: "openai", Keys: []string{"k"}, Variables: "@PROVIDER_0_*, @PROVIDER_1_*, @PROVIDER_2_*"}},
		warnings: []string{
			"@PROVIDER_1_TYPE: its provider equals the one that @PROVIDER_0_TYPE names and is folded into it; its keys differ and are ignored",
			"@PROVIDER_2_TYPE: its provider equals the one that @PROVIDER_0_TYPE names and is folded into it; its keys differ and are ignored",
		},
	},
	{
		name: "folding says that AWS credentials and models differ and are ignored",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_REGION=r @PROVIDER_1_TYPE=anthropic @PROVIDER_1_BEDROCK_REGION=r " +
			"@PROVIDER_1_BEDROCK_ACCESS_KEY=AK @PROVIDER_1_BEDROCK_ACCESS_KEY_SECRET=SK @PROVIDER_1_BEDROCK_MODEL=m",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@PROVIDER_0_*, @PROVIDER_1_*", Bedrock: &bedrock{"r", sonnet, haiku, "", ""}}},
		warnings: []string{
			"@PROVIDER_1_TYPE: its provider equals the one that @PROVIDER_0_TYPE names and is folded into it; its AWS credentials and models differ and are ignored",
		},
	},
	{
		name:  "findings are sorted: legacy ones, by index, those without an index, and within by variable",
		env:   "@PROVIDER_10_TYPE=openai @PROVIDER_2_NAME=a @PROVIDER_X_KEY=x @PROVIDER_2_KEYS=a,a @OPENAI_KEY=a ~OPENAI_KEY=b @ANTHROPIC_KEY=a ~ANTHROPIC_KEY=b",
		extra: nil,
		errors: []string{
			"~ANTHROPIC_KEY: is set to another value than @ANTHROPIC_KEY, which means the same; remove one of them",
			"~OPENAI_KEY: is set to another value than @OPENAI_KEY, which means the same; remove one of them",
			"@PROVIDER_2_KEYS: indices 0 to 1 are skipped; " + noGap,
			"@PROVIDER_2_KEYS: its provider has no type; set @PROVIDER_2_TYPE to " + anyType,
			"@PROVIDER_2_KEYS: element 1 repeats element 0",
			"@PROVIDER_10_TYPE: indices 3 to 9 are skipped; " + noGap,
			`@PROVIDER_10_TYPE: its provider has the name of the legacy provider "openai"; remove either @OPENAI_KEY or the variables @PROVIDER_10_*`,
			"@PROVIDER_X_KEY: its index is not a decimal number" + form,
		},
	},
	{
		name:   "a finding is one line, whatever the name of the variable",
		extra:  map[string]string{"@PROVIDER_X\ny_KEY": "k"},
		errors: []string{`"@PROVIDER_X\ny_KEY": its index is not a decimal number` + form},
	},
}

// Types, indexed.
var typeCases = []environmentCase{
	{
		name: "types with a public endpoint have it as their base URL, and openai and anthropic an empty one",
		env: "@PROVIDER_0_TYPE=google @PROVIDER_0_KEY=g @PROVIDER_1_TYPE=openrouter @PROVIDER_1_KEYS=o,p @PROVIDER_2_TYPE=vercel @PROVIDER_2_KEY=v " +
			"@PROVIDER_3_TYPE=copilot @PROVIDER_4_TYPE=openai @PROVIDER_5_TYPE=anthropic",
		providers: []desired{
			{Name: "anthropic", Type: "anthropic", Variables: "@PROVIDER_5_*"},
			{Name: "copilot", Type: "copilot", BaseURL: "https://api.individual.githubcopilot.com", Variables: "@PROVIDER_3_*"},
			{Name: "google", Type: "google", BaseURL: "https://generativelanguage.googleapis.com/v1beta/openai/", Keys: []string{"g"}, Variables: "@PROVIDER_0_*"},
			{Name: "openai", Type: "openai", Variables: "@PROVIDER_4_*"},
			{Name: "openrouter", Type: "openrouter", BaseURL: "https://openrouter.ai/api/v1/", Keys: []string{"o", "p"}, Variables: "@PROVIDER_1_*"},
			{Name: "vercel", Type: "vercel", BaseURL: "https://ai-gateway.vercel.sh/v1/", Keys: []string{"v"}, Variables: "@PROVIDER_2_*"},
		},
	},
	{
		name: "a base URL replaces that of any type",
		env: "@PROVIDER_0_TYPE=azure @PROVIDER_0_BASE_URL=https://r.openai.azure.com/openai/v1 @PROVIDER_0_KEY=a @PROVIDER_1_TYPE=openai-compat " +
			"@PROVIDER_1_BASE_URL=http://llm:8000/v1 @PROVIDER_2_TYPE=copilot @PROVIDER_2_BASE_URL=https://api.business.githubcopilot.com",
		providers: []desired{
			{Name: "azure", Type: "azure", BaseURL: "https://r.openai.azure.com/openai/v1", Keys: []string{"a"}, Variables: "@PROVIDER_0_*"},
			{Name: "copilot", Type: "copilot", BaseURL: "https://api.business.githubcopilot.com", Variables: "@PROVIDER_2_*"},
			{Name: "openai-compat", Type: "openai-compat", BaseURL: "http://llm:8000/v1", Variables: "@PROVIDER_1_*"},
		},
	},
	{
		name: "types without a public endpoint need a base URL, which is reported with all other errors",
		env:  "@PROVIDER_0_TYPE=azure @PROVIDER_0_KEYS=k,k ~PROVIDER_1_TYPE=openai-compat @PROVIDER_2_TYPE=azure @PROVIDER_2_NAME=a2 @PROVIDER_2_BASE_URL=x",
		errors: []string{
			"@PROVIDER_0_KEYS: element 1 repeats element 0",
			"@PROVIDER_0_TYPE: its provider has no base URL, and there is no usual one for the type azure; set @PROVIDER_0_BASE_URL",
			"~PROVIDER_1_TYPE: its provider has no base URL, and there is no usual one for the type openai-compat; set ~PROVIDER_1_BASE_URL",
			"@PROVIDER_2_BASE_URL: " + badURL,
		},
	},
	{
		name: "copilot has no keys, and like other types no Bedrock field",
		env:  "@PROVIDER_0_TYPE=copilot @PROVIDER_0_KEY=k @PROVIDER_1_TYPE=google @PROVIDER_1_BEDROCK_REGION=r",
		errors: []string{
			"@PROVIDER_0_KEY: a provider of type copilot has no keys: the gateway uses the token that each user sends; remove this variable",
			"@PROVIDER_1_BEDROCK_REGION: is only for providers of type anthropic or bedrock; remove it, or change @PROVIDER_1_TYPE",
		},
	},
	{
		name: "the type bedrock is a Bedrock provider whatever made it one, with the same settings as of type anthropic",
		env: "@PROVIDER_0_TYPE=bedrock @PROVIDER_0_BEDROCK_REGION=us-east-1 @PROVIDER_0_BEDROCK_ACCESS_KEYS=A,B @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=S,T " +
			"@PROVIDER_1_TYPE=bedrock @PROVIDER_1_NAME=vpc @PROVIDER_1_BEDROCK_BASE_URL=https://vpc/ @PROVIDER_1_BASE_URL=https://b/ @PROVIDER_1_BEDROCK_MODEL=m " +
			"@PROVIDER_2_TYPE=anthropic @PROVIDER_2_BEDROCK_REGION=us-east-1",
		providers: []desired{
			{Name: "anthropic", Type: "anthropic", Variables: "@PROVIDER_2_*", Bedrock: &bedrock{"us-east-1", sonnet, haiku, "", ""}},
			{Name: "bedrock", Type: "bedrock", Variables: "@PROVIDER_0_*", Bedrock: &bedrock{"us-east-1", sonnet, haiku, "A", "S"}},
			{Name: "vpc", Type: "bedrock", BaseURL: "https://vpc/", Variables: "@PROVIDER_1_*", Bedrock: &bedrock{"", "m", haiku, "", ""}},
		},
		warnings: []string{
			"@PROVIDER_0_BEDROCK_ACCESS_KEYS: only the first access key and its secret are stored; not stored: 1",
			"@PROVIDER_1_BASE_URL: is ignored: the base URL of a provider of type bedrock is @PROVIDER_1_BEDROCK_BASE_URL; remove this variable",
		},
	},
	{
		name: "the type bedrock needs more than models, and has no bearer keys",
		env:  "@PROVIDER_0_TYPE=bedrock @PROVIDER_0_BEDROCK_MODEL=m @PROVIDER_1_TYPE=bedrock @PROVIDER_1_BEDROCK_REGION=r @PROVIDER_1_KEYS=k,l @PROVIDER_1_NAME=b",
		errors: []string{
			"@PROVIDER_0_TYPE: its provider has neither a region nor a base URL nor AWS credentials; set @PROVIDER_0_BEDROCK_REGION",
			"@PROVIDER_1_KEYS: a provider of type bedrock has no keys: it uses AWS credentials (@PROVIDER_1_BEDROCK_ACCESS_KEY) or those of its surroundings; remove this variable",
		},
	},
}

// Keys and Bedrock, indexed.
var credentialCases = []environmentCase{
	{
		name:      "a singular key is kept verbatim, and the elements of a list are trimmed",
		extra:     map[string]string{"@PROVIDER_0_TYPE": "openai", "@PROVIDER_0_KEY": " a, b", "@PROVIDER_1_TYPE": "anthropic", "@PROVIDER_1_KEYS": " a,\u00a0b c ,d"},
		warnings:  []string{"@PROVIDER_0_KEY: " + blanks},
		providers: []desired{{Name: "anthropic", Type: "anthropic", Keys: []string{"a", "b c", "d"}, Variables: "@PROVIDER_1_*"}, {Name: "openai", Type: "openai", Keys: []string{" a, b"}, Variables: "@PROVIDER_0_*"}},
	},
	{
		name: "the singular and the plural of one field together are an error",
		env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEY=a ~PROVIDER_0_KEYS=b @PROVIDER_1_TYPE=anthropic @PROVIDER_1_BEDROCK_ACCESS_KEY=a " +
			"@PROVIDER_1_BEDROCK_ACCESS_KEYS=a @PROVIDER_1_BEDROCK_ACCESS_KEY_SECRET=s @PROVIDER_1_BEDROCK_ACCESS_KEY_SECRETS=s,t",
		errors: []string{
			"~PROVIDER_0_KEYS: cannot be combined with @PROVIDER_0_KEY; remove one of them",
			"@PROVIDER_1_BEDROCK_ACCESS_KEYS: cannot be combined with @PROVIDER_1_BEDROCK_ACCESS_KEY; remove one of them",
			"@PROVIDER_1_BEDROCK_ACCESS_KEY_SECRETS: cannot be combined with @PROVIDER_1_BEDROCK_ACCESS_KEY_SECRET; remove one of them",
		},
	},
	{
		name:  "empty and repeated keys in a list are errors, by their index",
		extra: map[string]string{"@PROVIDER_0_TYPE": "openai", "@PROVIDER_0_KEYS": "a, ,a ,b, a"},
		errors: []string{
			"@PROVIDER_0_KEYS: element 1 is empty; remove it, or the comma before or after it",
			"@PROVIDER_0_KEYS: element 2 repeats element 0",
			"@PROVIDER_0_KEYS: element 4 repeats element 0",
		},
	},
	{
		name:   "a list of blanks is an empty element",
		extra:  map[string]string{"@PROVIDER_0_TYPE": "openai", "@PROVIDER_0_KEYS": " "},
		errors: []string{"@PROVIDER_0_KEYS: element 0 is empty; remove it, or the comma before or after it"},
	},
	{
		name:      "five keys are allowed",
		env:       "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS=a,b,c,d,e",
		providers: []desired{{Name: "openai", Type: "openai", Keys: []string{"a", "b", "c", "d", "e"}, Variables: "@PROVIDER_0_*"}},
	},
	{
		name:   "more than five keys are an error",
		env:    "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS=a,b,c,d,e,f",
		errors: []string{"@PROVIDER_0_KEYS: holds 6 elements; at most 5 are allowed"},
	},
	{
		name: "more than five access keys are an error",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_ACCESS_KEYS=a,b,c,d,e,f " +
			"@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=1,2,3,4,5,6",
		warnings: []string{"@PROVIDER_0_BEDROCK_ACCESS_KEYS: only the first access key and its secret are stored; not stored: 5"},
		errors:   []string{"@PROVIDER_0_BEDROCK_ACCESS_KEYS: holds 6 elements; at most 5 are allowed"},
	},
	{
		name: "empty and repeated access keys are errors, and of secrets only empty ones",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_ACCESS_KEYS=a,a, " +
			"@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=1,1,",
		warnings: []string{"@PROVIDER_0_BEDROCK_ACCESS_KEYS: only the first access key and its secret are stored; not stored: 2"},
		errors: []string{
			"@PROVIDER_0_BEDROCK_ACCESS_KEYS: element 2 is empty; remove it, or the comma before or after it",
			"@PROVIDER_0_BEDROCK_ACCESS_KEYS: element 1 repeats element 0",
			"@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS: element 2 is empty; remove it, or the comma before or after it",
		},
	},
	{
		name: "of several pairs the first is stored, with a warning, and secrets may repeat",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_ACCESS_KEYS=a,b,c " +
			"@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=1,1,3",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@PROVIDER_0_*", Bedrock: &bedrock{"", sonnet, haiku, "a", "1"}}},
		warnings:  []string{"@PROVIDER_0_BEDROCK_ACCESS_KEYS: only the first access key and its secret are stored; not stored: 2"},
	},
	{
		name:      "a singular access key pairs with a list of one secret",
		env:       "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_ACCESS_KEY=a ~PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=1",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@PROVIDER_0_*, ~PROVIDER_0_*", Bedrock: &bedrock{"", sonnet, haiku, "a", "1"}}},
	},
	{
		name: "unequal counts of access keys and secrets are an error",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_ACCESS_KEYS=a,b " +
			"@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=1,2,3",
		errors: []string{"@PROVIDER_0_BEDROCK_ACCESS_KEYS: access keys and secrets do not pair: here are 2, in @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS are 3; give each access key one secret"},
	},
	{
		name: "access keys without secrets, and secrets without access keys, are errors",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_ACCESS_KEYS=a,b " +
			"@PROVIDER_1_TYPE=anthropic @PROVIDER_1_NAME=b @PROVIDER_1_BEDROCK_ACCESS_KEY_SECRET=s",
		errors: []string{
			"@PROVIDER_0_BEDROCK_ACCESS_KEYS: has no secret; set @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS, or remove this variable",
			"@PROVIDER_1_BEDROCK_ACCESS_KEY_SECRET: has no access key; set @PROVIDER_1_BEDROCK_ACCESS_KEY, or remove this variable",
		},
	},
	{
		name: "a Bedrock field on another type is an error, each",
		env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_BEDROCK_REGION=r @PROVIDER_0_BEDROCK_BASE_URL=x @PROVIDER_0_BEDROCK_ACCESS_KEY=a " +
			"@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=1, @PROVIDER_0_BEDROCK_MODEL=m @PROVIDER_0_BEDROCK_SMALL_FAST_MODEL=s",
		errors: []string{
			"@PROVIDER_0_BEDROCK_ACCESS_KEY: is only for providers of type anthropic or bedrock; remove it, or change @PROVIDER_0_TYPE",
			"@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS: is only for providers of type anthropic or bedrock; remove it, or change @PROVIDER_0_TYPE",
			"@PROVIDER_0_BEDROCK_BASE_URL: is only for providers of type anthropic or bedrock; remove it, or change @PROVIDER_0_TYPE",
			"@PROVIDER_0_BEDROCK_MODEL: is only for providers of type anthropic or bedrock; remove it, or change @PROVIDER_0_TYPE",
			"@PROVIDER_0_BEDROCK_REGION: is only for providers of type anthropic or bedrock; remove it, or change @PROVIDER_0_TYPE",
			"@PROVIDER_0_BEDROCK_SMALL_FAST_MODEL: is only for providers of type anthropic or bedrock; remove it, or change @PROVIDER_0_TYPE",
		},
	},
	{
		name: "bearer keys together with AWS credentials on one indexed provider are an error",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_KEYS=k,k @PROVIDER_0_BEDROCK_ACCESS_KEY=a " +
			"@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET=1",
		errors: []string{
			"@PROVIDER_0_KEYS: element 1 repeats element 0",
			"@PROVIDER_0_KEYS: cannot be combined with AWS credentials (@PROVIDER_0_BEDROCK_ACCESS_KEY); remove one of them",
		},
	},
	{
		name: "indexed bearer keys together with Bedrock metadata alone are a bearer provider, with warnings",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_KEY=k @PROVIDER_0_BASE_URL=https://a/ @PROVIDER_0_BEDROCK_REGION=r " +
			"@PROVIDER_0_BEDROCK_BASE_URL=not-looked-at @PROVIDER_0_BEDROCK_MODEL=m",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://a/", Keys: []string{"k"}, Variables: "@PROVIDER_0_*"}},
		warnings: []string{
			"@PROVIDER_0_BEDROCK_BASE_URL: " + bearerWins("@PROVIDER_0_KEY", "@PROVIDER_0_"),
			"@PROVIDER_0_BEDROCK_MODEL: " + bearerWins("@PROVIDER_0_KEY", "@PROVIDER_0_"),
			"@PROVIDER_0_BEDROCK_REGION: " + bearerWins("@PROVIDER_0_KEY", "@PROVIDER_0_"),
		},
	},
	{
		name: "indexed Bedrock metadata alone makes a Bedrock provider without stored credentials",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_REGION=r @PROVIDER_0_BEDROCK_BASE_URL=https://b/ @PROVIDER_0_BEDROCK_SMALL_FAST_MODEL=s " +
			"@PROVIDER_0_BASE_URL=https://a/",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://b/", Variables: "@PROVIDER_0_*",
			Bedrock: &bedrock{"r", sonnet, "s", "", ""}}},
		warnings: []string{"@PROVIDER_0_BASE_URL: is ignored: @PROVIDER_0_BEDROCK_REGION makes the provider a Bedrock one, whose base URL is @PROVIDER_0_BEDROCK_BASE_URL; remove this variable"},
	},
	{
		name:      "an indexed model alone does not make a Bedrock provider and is ignored with a warning",
		env:       "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_MODEL=m",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@PROVIDER_0_*"}},
		warnings:  []string{"@PROVIDER_0_BEDROCK_MODEL: " + modelOnly + "@PROVIDER_0_BEDROCK_REGION, or remove this variable"},
	},
	{
		name: "of a list the element that Postgres cannot store is named by its index",
		extra: map[string]string{
			"@PROVIDER_0_TYPE": "openai", "@PROVIDER_0_KEYS": "a,\xff,b\x00",
			"@PROVIDER_1_TYPE": "anthropic", "@PROVIDER_1_BEDROCK_ACCESS_KEYS": "a\x00,b", "@PROVIDER_1_BEDROCK_ACCESS_KEY_SECRETS": "a,\xff",
		},
		warnings: []string{"@PROVIDER_1_BEDROCK_ACCESS_KEYS: only the first access key and its secret are stored; not stored: 1"},
		errors: []string{
			"@PROVIDER_0_KEYS: element 2 " + control, "@PROVIDER_0_KEYS: element 1 " + badText,
			"@PROVIDER_1_BEDROCK_ACCESS_KEYS: element 0 " + control,
		},
	},
}

// Values of any field.
var valueCases = []environmentCase{
	{
		name: "a control character is an error, whatever the field, with no other error of the value",
		extra: map[string]string{
			"@OPENAI_KEY": "k\n", "@OPENAI_BASE_URL": "https://h/\r\n", "@BEDROCK_REGION": "us-east-1\n", "@BEDROCK_MODEL": "\tm",
			"@PROVIDER_0_TYPE": "azure", "@PROVIDER_0_NAME": "a\n", "@PROVIDER_0_BASE_URL": "x\x7f", "@PROVIDER_0_KEY": "k\u0085",
			"@PROVIDER_1_TYPE": "openai\n", "@PROVIDER_1_KEYS": "a,a",
		},
		errors: []string{
			"@BEDROCK_MODEL: " + control, "@BEDROCK_REGION: " + lineEnd, "@OPENAI_BASE_URL: " + lineEnd, "@OPENAI_KEY: " + lineEnd,
			"@PROVIDER_0_BASE_URL: " + control, "@PROVIDER_0_KEY: " + control, "@PROVIDER_0_NAME: " + lineEnd,
			"@PROVIDER_1_KEYS: element 1 repeats element 0", "@PROVIDER_1_TYPE: " + lineEnd,
		},
	},
	{
		name:     "a control character in a value that would be ignored is an error too",
		extra:    map[string]string{"@OPENAI_BASE_URL": "a\x00b", "@BEDROCK_SMALL_FAST_MODEL": "m\n"},
		warnings: []string{"@BEDROCK_SMALL_FAST_MODEL: " + modelOnly + "@BEDROCK_REGION, or remove this variable", "@OPENAI_BASE_URL: is ignored: no key; set @OPENAI_KEY, or remove this variable"},
		errors:   []string{"@BEDROCK_SMALL_FAST_MODEL: " + lineEnd, "@OPENAI_BASE_URL: " + control},
	},
	{
		name:     "what is not looked at may hold control characters: unknown fields, and those of an unknown type",
		extra:    map[string]string{"@PROVIDER_0_TYPE": "cohere", "@PROVIDER_0_KEY": "k\n", "@PROVIDER_0_CERT": "a\nb", "@OPENAI_CERTIFICATE": "a\nb"},
		warnings: []string{"@OPENAI_CERTIFICATE: " + unknown + "OPENAI_KEY", "@PROVIDER_0_TYPE: " + skipped},
	},
	{
		name: "of a list the element with a control character is named, also around the element",
		extra: map[string]string{
			"@PROVIDER_0_TYPE": "openai", "@PROVIDER_0_KEYS": "a,\tb,c\n",
			"@PROVIDER_1_TYPE": "anthropic", "@PROVIDER_1_BEDROCK_ACCESS_KEYS": "a\r,b", "@PROVIDER_1_BEDROCK_ACCESS_KEY_SECRETS": "a,b\x1bc",
		},
		warnings: []string{"@PROVIDER_1_BEDROCK_ACCESS_KEYS: only the first access key and its secret are stored; not stored: 1"},
		errors: []string{
			"@PROVIDER_0_KEYS: element 1 " + control, "@PROVIDER_0_KEYS: element 2 " + lineEnd,
			"@PROVIDER_1_BEDROCK_ACCESS_KEYS: element 0 " + lineEnd, "@PROVIDER_1_BEDROCK_ACCESS_KEY_SECRETS: element 1 " + control,
		},
	},
	{
		name: "surrounding quotes, spaces and references are warnings, and stored",
		extra: map[string]string{
			"@OPENAI_KEY": `"k"`, "@OPENAI_BASE_URL": "https://h/ ", "@ANTHROPIC_KEY": "${ANTHROPIC_KEY:-none}", "@ANTHROPIC_BASE_URL": "https://h/${PATH}",
			"@PROVIDER_0_TYPE": "anthropic", "@PROVIDER_0_NAME": "a", "@PROVIDER_0_BEDROCK_REGION": "\u200b'us-east-1' ", "@PROVIDER_0_BEDROCK_MODEL": "“m”",
			"@PROVIDER_0_BEDROCK_ACCESS_KEY": "$(AWS_KEY)", "@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET": "`s`",
		},
		providers: []desired{
			{Name: "a", Type: "anthropic", Variables: "@PROVIDER_0_*", Bedrock: &bedrock{"\u200b'us-east-1' ", "“m”", haiku, "$(AWS_KEY)", "`s`"}},
			{Name: "anthropic", Type: "anthropic", BaseURL: "https://h/${PATH}", Keys: []string{"${ANTHROPIC_KEY:-none}"}, Variables: "@ANTHROPIC_*"},
			{Name: "openai", Type: "openai", BaseURL: "https://h/ ", Keys: []string{`"k"`}, Variables: "@OPENAI_*"},
		},
		warnings: []string{
			"@ANTHROPIC_BASE_URL: " + reference, "@ANTHROPIC_KEY: " + reference, "@OPENAI_BASE_URL: " + blanks, "@OPENAI_KEY: " + quotes,
			"@PROVIDER_0_BEDROCK_ACCESS_KEY: " + reference, "@PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET: " + quotes,
			"@PROVIDER_0_BEDROCK_MODEL: " + quotes, "@PROVIDER_0_BEDROCK_REGION: " + blanks, "@PROVIDER_0_BEDROCK_REGION: " + quotes,
		},
	},
	{
		name: "the cause of a type that is skipped, and of an error, is a warning beside it",
		extra: map[string]string{
			"@PROVIDER_0_TYPE": `"openai"`, "@PROVIDER_1_TYPE": "openai ", "@PROVIDER_2_TYPE": "openai", "@PROVIDER_2_BASE_URL": `'https://h/'`,
			"@PROVIDER_2_NAME": "${NAME}",
		},
		warnings: []string{
			"@PROVIDER_0_TYPE: " + quotes, "@PROVIDER_0_TYPE: " + skipped + "; it is most likely a misspelling of openai",
			"@PROVIDER_1_TYPE: " + blanks, "@PROVIDER_1_TYPE: " + skipped + "; it is most likely a misspelling of openai",
			"@PROVIDER_2_BASE_URL: " + quotes, "@PROVIDER_2_NAME: " + reference,
		},
		errors: []string{"@PROVIDER_2_BASE_URL: " + badURL, "@PROVIDER_2_NAME: " + badName},
	},
	{
		name:  "of a list the element is named, and a list in quotes as a whole as such",
		extra: map[string]string{"@PROVIDER_0_TYPE": "openai", "@PROVIDER_0_KEYS": `"a", '${B}' ,c`, "@PROVIDER_1_TYPE": "google", "@PROVIDER_1_KEYS": ` "a,b" `, "@PROVIDER_2_TYPE": "vercel", "@PROVIDER_2_KEYS": `"a"`},
		providers: []desired{
			{Name: "google", Type: "google", BaseURL: "https://generativelanguage.googleapis.com/v1beta/openai/", Keys: []string{`"a`, `b"`}, Variables: "@PROVIDER_1_*"},
			{Name: "openai", Type: "openai", Keys: []string{`"a"`, `'${B}'`, "c"}, Variables: "@PROVIDER_0_*"},
			{Name: "vercel", Type: "vercel", BaseURL: "https://ai-gateway.vercel.sh/v1/", Keys: []string{`"a"`}, Variables: "@PROVIDER_2_*"},
		},
		warnings: []string{
			"@PROVIDER_0_KEYS: element 0 " + quotes, "@PROVIDER_0_KEYS: element 1 " + quotes, "@PROVIDER_0_KEYS: element 1 " + reference,
			"@PROVIDER_1_KEYS: is in quotes, which are taken for a part of its elements; remove them",
			"@PROVIDER_2_KEYS: element 0 " + quotes,
		},
	},
	{
		name:  "quotes, spaces and dollars inside a value, and quotes that do not match, are its own",
		extra: map[string]string{"@OPENAI_KEY": `a "b" c`, "@ANTHROPIC_KEY": `'$NAME$(id -u)${"`, "@PROVIDER_0_TYPE": "google", "@PROVIDER_0_KEY": `"`},
		providers: []desired{
			{Name: "anthropic", Type: "anthropic", BaseURL: "https://api.anthropic.com/", Keys: []string{`'$NAME$(id -u)${"`}, Variables: "@ANTHROPIC_*"},
			{Name: "google", Type: "google", BaseURL: "https://generativelanguage.googleapis.com/v1beta/openai/", Keys: []string{`"`}, Variables: "@PROVIDER_0_*"},
			{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/", Keys: []string{`a "b" c`}, Variables: "@OPENAI_*"},
		},
	},
}

// sentenceCases go through docs/specification.md, section 1. The tables above try its
// rules in depth.
var sentenceCases = []environmentCase{
	{
		name:   "CODER_AI_GATEWAY_ is an alias; the same field under both with different values is an error",
		env:    "~OPENAI_KEY=k @OPENAI_KEY=l",
		errors: []string{"~OPENAI_KEY: is set to another value than @OPENAI_KEY, which means the same; remove one of them"},
	},
	{
		name: "legacy defaults",
		env:  "@OPENAI_KEY=k @BEDROCK_REGION=r",
		providers: []desired{
			{Name: "anthropic", Type: "anthropic", Variables: "@BEDROCK_*", Bedrock: &bedrock{"r", sonnet, haiku, "", ""}},
			{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1/", Keys: []string{"k"}, Variables: "@OPENAI_*"},
		},
	},
	{
		name:      "default models alone never make a provider a Bedrock one",
		env:       "@ANTHROPIC_KEY=k",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://api.anthropic.com/", Keys: []string{"k"}, Variables: "@ANTHROPIC_*"}},
	},
	{name: "a skipped index", env: "@PROVIDER_1_TYPE=openai", errors: []string{"@PROVIDER_1_TYPE: index 0 is skipped; " + noGap}},
	{name: "a non-numeric index", env: "@PROVIDER_A_TYPE=openai", errors: []string{"@PROVIDER_A_TYPE: its index is not a decimal number" + form}},
	{name: "an index without TYPE", env: "@PROVIDER_0_KEY=k", errors: []string{"@PROVIDER_0_KEY: its provider has no type; set @PROVIDER_0_TYPE to " + anyType}},
	{
		name: "singular and plural of one field together", env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEY=k @PROVIDER_0_KEYS=l",
		errors: []string{"@PROVIDER_0_KEYS: cannot be combined with @PROVIDER_0_KEY; remove one of them"},
	},
	{
		name: "an empty or a repeated key, named by its index in the list", env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS=k,,k",
		errors: []string{"@PROVIDER_0_KEYS: element 1 is empty; remove it, or the comma before or after it", "@PROVIDER_0_KEYS: element 2 repeats element 0"},
	},
	{
		name: "more than 5 keys", env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS=1,2,3,4,5,6",
		errors: []string{"@PROVIDER_0_KEYS: holds 6 elements; at most 5 are allowed"},
	},
	{
		name:     "more than 5 access keys",
		env:      "@PROVIDER_0_TYPE=bedrock @PROVIDER_0_BEDROCK_ACCESS_KEYS=1,2,3,4,5,6 @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=1,2,3,4,5,6",
		warnings: []string{"@PROVIDER_0_BEDROCK_ACCESS_KEYS: only the first access key and its secret are stored; not stored: 5"},
		errors:   []string{"@PROVIDER_0_BEDROCK_ACCESS_KEYS: holds 6 elements; at most 5 are allowed"},
	},
	{
		name:   "unequal counts of access keys and secrets",
		env:    "@PROVIDER_0_TYPE=bedrock @PROVIDER_0_BEDROCK_ACCESS_KEYS=1,2 @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=1",
		errors: []string{"@PROVIDER_0_BEDROCK_ACCESS_KEYS: access keys and secrets do not pair: here are 2, in @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS are 1; give each access key one secret"},
	},
	{
		name: "a Bedrock field on a type that is neither anthropic nor bedrock", env: "@PROVIDER_0_TYPE=google @PROVIDER_0_BEDROCK_MODEL=m",
		errors: []string{"@PROVIDER_0_BEDROCK_MODEL: is only for providers of type anthropic or bedrock; remove it, or change @PROVIDER_0_TYPE"},
	},
	{
		name:   "bearer keys together with Bedrock credentials on one indexed provider",
		env:    "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_KEY=k @PROVIDER_0_BEDROCK_ACCESS_KEY=A @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET=S",
		errors: []string{"@PROVIDER_0_KEY: cannot be combined with AWS credentials (@PROVIDER_0_BEDROCK_ACCESS_KEY); remove one of them"},
	},
	{name: "a name that does not match", env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_NAME=a--b", errors: []string{"@PROVIDER_0_NAME: " + badName}},
	{
		name: "an indexed name equal to a configured legacy name, with what to remove", env: "@OPENAI_KEY=k @PROVIDER_0_TYPE=openai",
		errors: []string{`@PROVIDER_0_TYPE: its provider has the name of the legacy provider "openai"; remove either @OPENAI_KEY or the variables @PROVIDER_0_*`},
	},
	{
		name: "two indexed entries of one name with different hashes", env: "@PROVIDER_0_TYPE=openai @PROVIDER_1_TYPE=openai @PROVIDER_1_BASE_URL=https://h/",
		errors: []string{"@PROVIDER_1_TYPE: its provider has the name that @PROVIDER_0_TYPE gives to another one, and differs from it; give it another name, or remove one of the two"},
	},
	{
		name: "equal hashes fold into one", env: "@PROVIDER_0_TYPE=openai @PROVIDER_1_TYPE=openai",
		providers: []desired{{Name: "openai", Type: "openai", Variables: "@PROVIDER_0_*, @PROVIDER_1_*"}},
		warnings:  []string{"@PROVIDER_1_TYPE: its provider equals the one that @PROVIDER_0_TYPE names and is folded into it"},
	},
	{
		name: "an unknown field, with the nearest known one", env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_BASEURL=x",
		providers: []desired{{Name: "openai", Type: "openai", Variables: "@PROVIDER_0_*"}},
		warnings:  []string{"@PROVIDER_0_BASEURL: " + unknown + "BASE_URL"},
	},
	{name: "an unknown type is skipped, and startup goes on", env: "@PROVIDER_0_TYPE=cohere", warnings: []string{"@PROVIDER_0_TYPE: " + skipped}},
	{
		name: "DUMP_DIR is passed over silently", env: "@OPENAI_DUMP_DIR=/x @PROVIDER_0_DUMP_DIR=/x @PROVIDER_0_TYPE=openai",
		providers: []desired{{Name: "openai", Type: "openai", Variables: "@PROVIDER_0_*"}},
	},
	{
		name: "field names are matched without regard to case", env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_Name=test",
		providers: []desired{{Name: "test", Type: "openai", Variables: "@PROVIDER_0_*"}},
	},
	{
		name: "the same field in two spellings", env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_NAME=a @PROVIDER_0_Name=a",
		errors: []string{"@PROVIDER_0_Name: " + respelt("@PROVIDER_0_NAME")},
	},
	{
		name: "the same field, spelt in two ways before its index", env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_NAME=a @Provider_0_NAME=a",
		errors: []string{"@Provider_0_NAME: " + respelt("@PROVIDER_0_NAME")},
	},
	{
		name: "a variable set to the empty string counts as not set", env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEY= @PROVIDER_0_KEYS=k @PROVIDER_2_TYPE=",
		providers: []desired{{Name: "openai", Type: "openai", Keys: []string{"k"}, Variables: "@PROVIDER_0_*"}},
	},
	{
		name:      "a provider is Bedrock when its Bedrock base URL is not empty, and its base URL is that",
		env:       "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_BASE_URL=https://b/",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://b/", Variables: "@PROVIDER_0_*", Bedrock: &bedrock{"", sonnet, haiku, "", ""}}},
	},
	{
		name:      "a provider is Bedrock when its credentials are not empty, and its base URL is the Bedrock one even if that is empty",
		env:       "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_ACCESS_KEY=A @PROVIDER_0_BEDROCK_ACCESS_KEY_SECRET=S",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@PROVIDER_0_*", Bedrock: &bedrock{"", sonnet, haiku, "A", "S"}}},
	},
	{
		name: "a bedrock one must be", env: "@PROVIDER_0_TYPE=bedrock",
		errors: []string{"@PROVIDER_0_TYPE: its provider has neither a region nor a base URL nor AWS credentials; set @PROVIDER_0_BEDROCK_REGION"},
	},
	{
		name:      "an Anthropic key together with Bedrock metadata but no AWS credentials is a bearer provider, legacy",
		env:       "@ANTHROPIC_KEY=k @BEDROCK_REGION=r",
		providers: []desired{{Name: "anthropic", Type: "anthropic", BaseURL: "https://api.anthropic.com/", Keys: []string{"k"}, Variables: "@ANTHROPIC_*, @BEDROCK_*"}},
		warnings:  []string{"@BEDROCK_REGION: " + bearerWins("@ANTHROPIC_KEY", "@")},
	},
	{
		name:      "an Anthropic key together with Bedrock metadata but no AWS credentials is a bearer provider, indexed",
		env:       "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_KEY=k @PROVIDER_0_BEDROCK_BASE_URL=https://b/",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Keys: []string{"k"}, Variables: "@PROVIDER_0_*"}},
		warnings:  []string{"@PROVIDER_0_BEDROCK_BASE_URL: " + bearerWins("@PROVIDER_0_KEY", "@PROVIDER_0_")},
	},
	{
		name:      "a legacy Anthropic key together with AWS credentials is Bedrock, and the key is ignored",
		env:       "@ANTHROPIC_KEY=k @BEDROCK_ACCESS_KEY=A @BEDROCK_ACCESS_KEY_SECRET=S",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@ANTHROPIC_*, @BEDROCK_*", Bedrock: &bedrock{"", sonnet, haiku, "A", "S"}}},
		warnings:  []string{"@ANTHROPIC_KEY: is ignored: @BEDROCK_ACCESS_KEY makes the provider a Bedrock one; remove one of them"},
	},
}

// foldingCases are of [environment.RequireCredentials].
var foldingCases = []environmentCase{
	{
		name: "entries of one name with other keys, or other AWS credentials, are an error each",
		env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS=k,l @PROVIDER_1_TYPE=openai @PROVIDER_1_KEYS=k,m @PROVIDER_2_TYPE=openai " +
			"@PROVIDER_3_TYPE=anthropic @PROVIDER_3_BEDROCK_REGION=r @PROVIDER_4_TYPE=anthropic @PROVIDER_4_NAME=anthropic @PROVIDER_4_BEDROCK_REGION=r " +
			"@PROVIDER_4_BEDROCK_ACCESS_KEY=AK @PROVIDER_4_BEDROCK_ACCESS_KEY_SECRET=SK",
		errors: []string{
			"@PROVIDER_1_TYPE: " + differs("@PROVIDER_0_TYPE", "keys"),
			"@PROVIDER_2_TYPE: " + differs("@PROVIDER_0_TYPE", "keys"),
			"@PROVIDER_4_NAME: " + differs("@PROVIDER_3_TYPE", "AWS credentials"),
		},
	},
	{
		name: "entries of one name with equal credentials fold into one, whatever the order and the models",
		env: "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS=k,l @PROVIDER_1_TYPE=openai @PROVIDER_1_KEYS=l,k " +
			"@PROVIDER_2_TYPE=anthropic @PROVIDER_2_BEDROCK_REGION=r @PROVIDER_3_TYPE=anthropic @PROVIDER_3_BEDROCK_REGION=r @PROVIDER_3_BEDROCK_MODEL=m",
		providers: []desired{
			{Name: "anthropic", Type: "anthropic", Variables: "@PROVIDER_2_*, @PROVIDER_3_*", Bedrock: &bedrock{"r", sonnet, haiku, "", ""}},
			{Name: "openai", Type: "openai", Keys: []string{"k", "l"}, Variables: "@PROVIDER_0_*, @PROVIDER_1_*"},
		},
		warnings: []string{
			"@PROVIDER_1_TYPE: its provider equals the one that @PROVIDER_0_TYPE names and is folded into it",
			"@PROVIDER_3_TYPE: its provider equals the one that @PROVIDER_2_TYPE names and is folded into it; its models differ and are ignored",
		},
	},
	{
		name: "entries of one name with different hashes are told apart by these",
		env:  "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEY=k @PROVIDER_1_TYPE=openai @PROVIDER_1_KEY=l @PROVIDER_1_BASE_URL=https://h/",
		errors: []string{
			"@PROVIDER_1_TYPE: its provider has the name that @PROVIDER_0_TYPE gives to another one, and differs from it; give it another name, or remove one of the two",
		},
	},
}

func differs(variable, what string) string {
	return "its provider has the name that " + variable + " gives to another one, and its " + what + " differ; " +
		"with --compat=upstream-credentials they must agree: give it another name, or remove one of the two"
}

func TestParseEnvironment(t *testing.T) {
	for group, cases := range map[string][]environmentCase{
		"legacy": legacyCases, "legacy Bedrock": legacyBedrockCases, "indexed": indexedCases, "types": typeCases, "credentials": credentialCases,
		"values": valueCases, "the specification": sentenceCases, "folding where credentials must agree": foldingCases,
	} {
		var options []environment.Option
		if strings.HasPrefix(group, "folding") {
			options = append(options, environment.RequireCredentials())
		}
		for _, c := range cases {
			t.Run(group+"/"+c.name, func(t *testing.T) {
				variables := variables(c.env)
				for name, value := range c.extra {
					variables[spell(name)] = value
				}
				env, err := environment.Parse(variables, options...)
				require.Equal(t, spellAll(c.warnings), texts(env.Warnings), "warnings")

				var wrong *environment.Error
				if errors.As(err, &wrong) {
					require.Equal(t, spellAll(c.errors), texts(wrong.Findings), "errors")
				} else {
					require.NoError(t, err)
					require.Empty(t, c.errors, "errors that were not found")
				}
				want := c.providers
				for i := range want {
					want[i].Variables = spell(want[i].Variables)
				}
				require.Equal(t, want, plain(env.Providers), "providers")
			})
		}
	}
}

func TestABaseURLIsStoredVerbatim(t *testing.T) {
	const baseURL = "HTTPS://u:p%40@H:443?api-version=1#f"
	env, err := environment.Parse(map[string]string{"CODER_AIBRIDGE_OPENAI_KEY": "k", "CODER_AIBRIDGE_OPENAI_BASE_URL": baseURL})
	require.NoError(t, err)
	require.Len(t, env.Warnings, 1)
	require.Contains(t, env.Warnings[0].String(), "CODER_AIBRIDGE_OPENAI_BASE_URL: has userinfo, a query or a fragment")
	require.NotContains(t, env.Warnings[0].String(), "p%40")
	require.Equal(t, baseURL, env.Providers[0].BaseURL)
}

func TestAnEnvironmentErrorCountsAndListsItsFindings(t *testing.T) {
	_, err := environment.Parse(variables("@PROVIDER_0_NAME=a"))
	require.EqualError(t, err, spell("1 error in the environment:\n"+
		"  @PROVIDER_0_NAME: its provider has no type; set @PROVIDER_0_TYPE to "+anyType))

	_, err = environment.Parse(variables("@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS=a,a @OPENAI_KEY=k @OPENAI_BASE_URL=x @PROVIDER_0_NAME=n"))
	require.EqualError(t, err, spell("2 errors in the environment:\n"+
		"  @OPENAI_BASE_URL: "+badURL+"\n"+
		"  @PROVIDER_0_KEYS: element 1 repeats element 0"))
}

func TestADesiredProviderNamesTheVariableOfItsCredentials(t *testing.T) {
	env, err := environment.Parse(variables("@OPENAI_KEY=k @PROVIDER_0_TYPE=google ~PROVIDER_0_KEYS=a,b @PROVIDER_1_TYPE=bedrock " +
		"@PROVIDER_1_BEDROCK_ACCESS_KEY=A @PROVIDER_1_BEDROCK_ACCESS_KEY_SECRET=S @PROVIDER_2_TYPE=copilot"))
	require.NoError(t, err)
	origins := map[string]string{}
	for _, p := range env.Providers {
		origins[p.Name] = p.CredentialsOrigin
	}
	require.Equal(t, map[string]string{
		"bedrock": spell("@PROVIDER_1_BEDROCK_ACCESS_KEY"), "copilot": "", "google": spell("~PROVIDER_0_KEYS"), "openai": spell("@OPENAI_KEY"),
	}, origins)
}
