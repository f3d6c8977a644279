package environment_test

import "strings"

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
		warnings:  []string{"@PROVIDER_1_NAME: its provider equals the provider of @PROVIDER_0_NAME and is folded into it"},
	},
	{
		name:      "folding says that keys differ and are ignored",
		env:       "@PROVIDER_0_TYPE=openai @PROVIDER_0_KEY=k @PROVIDER_1_TYPE=openai @PROVIDER_1_KEY=l @PROVIDER_2_TYPE=openai",
		providers: []desired{{Name: "openai", Type: "openai", Keys: []string{"k"}, Variables: "@PROVIDER_0_*, @PROVIDER_1_*, @PROVIDER_2_*"}},
		warnings: []string{
			"@PROVIDER_1_TYPE: its provider equals the provider of @PROVIDER_0_TYPE and is folded into it; its keys differ and are ignored",
			"@PROVIDER_2_TYPE: its provider equals the provider of @PROVIDER_0_TYPE and is folded into it; its keys differ and are ignored",
		},
	},
	{
		name: "folding says that AWS credentials and models differ and are ignored",
		env: "@PROVIDER_0_TYPE=anthropic @PROVIDER_0_BEDROCK_REGION=r @PROVIDER_1_TYPE=anthropic @PROVIDER_1_BEDROCK_REGION=r " +
			"@PROVIDER_1_BEDROCK_ACCESS_KEY=AK @PROVIDER_1_BEDROCK_ACCESS_KEY_SECRET=SK @PROVIDER_1_BEDROCK_MODEL=m",
		providers: []desired{{Name: "anthropic", Type: "anthropic", Variables: "@PROVIDER_0_*, @PROVIDER_1_*", Bedrock: &bedrock{"r", sonnet, haiku, "", ""}}},
		warnings: []string{
			"@PROVIDER_1_TYPE: its provider equals the provider of @PROVIDER_0_TYPE and is folded into it; its AWS credentials and models differ and are ignored",
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
