package environment_test

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
