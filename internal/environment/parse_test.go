package environment_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/environment"
)

func TestParseEnvironment(t *testing.T) {
	t.Run("Cases", testParseEnvironmentCases)
	t.Run("VerbatimBaseURL", testParseEnvironmentVerbatimBaseURL)
	t.Run("ErrorText", testParseEnvironmentErrorText)
	t.Run("CredentialsOrigin", testParseEnvironmentCredentialsOrigin)
}

func testParseEnvironmentCases(t *testing.T) {
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

func testParseEnvironmentVerbatimBaseURL(t *testing.T) {
	const baseURL = "HTTPS://u:p%40@H:443?api-version=1#f"
	env, err := environment.Parse(map[string]string{"CODER_AIBRIDGE_OPENAI_KEY": "k", "CODER_AIBRIDGE_OPENAI_BASE_URL": baseURL})
	require.NoError(t, err)
	require.Len(t, env.Warnings, 1)
	require.Contains(t, env.Warnings[0].String(), "CODER_AIBRIDGE_OPENAI_BASE_URL: has userinfo, a query or a fragment")
	require.NotContains(t, env.Warnings[0].String(), "p%40")
	require.Equal(t, baseURL, env.Providers[0].BaseURL)
}

func testParseEnvironmentErrorText(t *testing.T) {
	_, err := environment.Parse(variables("@PROVIDER_0_NAME=a"))
	require.EqualError(t, err, spell("1 error in the environment:\n"+
		"  @PROVIDER_0_NAME: its provider has no type; set @PROVIDER_0_TYPE to "+anyType))

	_, err = environment.Parse(variables("@PROVIDER_0_TYPE=openai @PROVIDER_0_KEYS=a,a @OPENAI_KEY=k @OPENAI_BASE_URL=x @PROVIDER_0_NAME=n"))
	require.EqualError(t, err, spell("2 errors in the environment:\n"+
		"  @OPENAI_BASE_URL: "+badURL+"\n"+
		"  @PROVIDER_0_KEYS: element 1 repeats element 0"))
}

func testParseEnvironmentCredentialsOrigin(t *testing.T) {
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
