package environment_test

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
			"@PROVIDER_1_TYPE: its provider equals the provider of @PROVIDER_0_TYPE and is folded into it",
			"@PROVIDER_3_TYPE: its provider equals the provider of @PROVIDER_2_TYPE and is folded into it; its models differ and are ignored",
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
