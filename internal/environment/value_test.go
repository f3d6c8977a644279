package environment_test

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
		warnings: []string{"@OPENAI_CERTIFICATE: " + unknown + "OPENAI_KEY_FILE", "@PROVIDER_0_TYPE: " + skipped},
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
