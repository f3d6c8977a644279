package environment_test

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
		warnings:  []string{"@PROVIDER_1_TYPE: its provider equals the provider of @PROVIDER_0_TYPE and is folded into it"},
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
