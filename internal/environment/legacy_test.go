package environment_test

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
