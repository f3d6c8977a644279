package environment_test

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
