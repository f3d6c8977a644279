package environment_test

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"provwatch/internal/environment"
	"provwatch/internal/provider"
)

// FuzzParseEnvironment parses arbitrary environments, one NAME=value a line.
//
// Whether a message holds a value cannot be told from arbitrary values: "key"
// is a word of many messages. So every environment is parsed a second time with
// its values marked, and then no message may hold the mark.
func FuzzParseEnvironment(f *testing.F) {
	for _, cases := range [][]environmentCase{legacyCases, legacyBedrockCases, indexedCases, typeCases, credentialCases, valueCases, foldingCases} {
		for _, c := range cases {
			lines := strings.Fields(spell(c.env))
			for _, name := range slices.Sorted(maps.Keys(c.extra)) {
				lines = append(lines, spell(name)+"="+c.extra[name])
			}
			f.Add(strings.Join(lines, "\n"))
		}
	}
	f.Add("CODER_AIBRIDGE_OPENAI_KEY_FILE=/nowhere/openai\nCODER_AIBRIDGE_PROVIDER_0_TYPE=bedrock\nCODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEYS_FILE=/\n" +
		"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_ACCESS_KEY_SECRETS=a,b\nCODER_AI_GATEWAY_OPENAI_KEY=k")
	f.Fuzz(func(t *testing.T, input string) {
		variables := make(map[string]string)
		marked := make(map[string]string)
		for line := range strings.Lines(input) {
			name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if !ok {
				continue
			}
			variables[name] = value
			// Names are shown, and must not hold the mark by themselves.
			if !strings.Contains(strings.ToLower(name), mark) {
				marked[name] = withMark(name, value)
			}
		}
		checkEnvironment(t, variables)
		for _, text := range checkEnvironment(t, marked) {
			if strings.Contains(strings.ToLower(text), mark) {
				t.Fatalf("a message holds a value: %q", text)
			}
		}
	})
}

const mark = "q7zleak"

// withMark puts the mark on both ends of the value, of each element of a list,
// so that any longer piece of it holds the mark. The environment keeps its
// meaning as far as possible: types and names stay what they are where that is
// one of the constants that messages may show, and URLs stay URLs.
func withMark(name, value string) string {
	field := strings.ToUpper(name[strings.LastIndex(name, "_")+1:])
	if value == "" || field == "TYPE" || field == "NAME" {
		if value == "" || slices.ContainsFunc(provider.Types(), func(t provider.Type) bool { return strings.EqualFold(value, string(t)) }) {
			return value
		}
	}
	if scheme, rest, ok := strings.Cut(value, "://"); ok && field == "URL" {
		return scheme + "://" + mark + rest + mark
	}
	elements := strings.Split(value, ",")
	for i, element := range elements {
		if trimmed := strings.TrimSpace(element); trimmed != "" {
			elements[i] = " " + mark + trimmed + mark
		}
	}
	// A name with a blank before it would never be valid.
	return strings.TrimSpace(strings.Join(elements, ","))
}

var validName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// checkEnvironment parses the variables, checks what holds for all of them, and
// returns every text that the result shows.
func checkEnvironment(t *testing.T, variables map[string]string) []string {
	env, err := environment.Parse(variables)
	again, errAgain := environment.Parse(maps.Clone(variables))
	require.Equal(t, plain(env.Providers), plain(again.Providers))
	require.Equal(t, env.Warnings, again.Warnings)
	require.Equal(t, err, errAgain)
	// What must agree besides can only add errors.
	strict, errStrict := environment.Parse(variables, environment.RequireCredentials())
	if errStrict == nil {
		require.NoError(t, err)
		require.Equal(t, plain(env.Providers), plain(strict.Providers))
	}

	shown := texts(env.Warnings)
	findings := env.Warnings
	if err != nil {
		var wrong *environment.Error
		require.True(t, errors.As(err, &wrong))
		require.NotEmpty(t, wrong.Findings)
		require.Empty(t, env.Providers)
		shown = append(shown, texts(wrong.Findings)...)
		shown = append(shown, err.Error())
		require.Equal(t, len(wrong.Findings), strings.Count(err.Error(), "\n"), "a finding is one line")
		findings = slices.Concat(findings, wrong.Findings)
	}
	for _, finding := range findings {
		require.Contains(t, variables, finding.Variable)
		require.NotEmpty(t, variables[finding.Variable], "an empty value counts as not set")
		require.NotEmpty(t, finding.Message)
	}

	before := ""
	for _, p := range env.Providers {
		require.Less(t, before, p.Name, "names are sorted and unique")
		before = p.Name
		require.Regexp(t, validName, p.Name)
		require.Contains(t, provider.Types(), p.Type)
		for pattern := range strings.SplitSeq(p.Variables, ", ") {
			begins, found := strings.CutSuffix(pattern, "*")
			require.True(t, found)
			require.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(variables)), func(name string) bool {
				return strings.HasPrefix(name, begins)
			}), pattern)
		}
		if p.CredentialsOrigin != "" {
			require.Contains(t, variables, p.CredentialsOrigin)
		}
		hasCredentials := len(p.Keys) > 0 || p.Bedrock != nil && !p.Bedrock.AccessKey.IsZero()
		require.Equal(t, hasCredentials, p.CredentialsOrigin != "")
		require.LessOrEqual(t, len(p.Keys), 5)
		if p.Bedrock != nil {
			require.Contains(t, []provider.Type{provider.Anthropic, provider.AmazonBedrock}, p.Type)
			require.Empty(t, p.Keys, "a Bedrock provider has no keys")
			require.Equal(t, p.Bedrock.AccessKey.IsZero(), p.Bedrock.AccessKeySecret.IsZero())
			require.NotEmpty(t, p.Bedrock.Model)
			require.NotEmpty(t, p.Bedrock.SmallFastModel)
		}
		switch p.Type {
		case provider.AmazonBedrock:
			require.NotNil(t, p.Bedrock)
		case provider.Copilot:
			require.Empty(t, p.Keys)
			require.NotEmpty(t, p.BaseURL)
		case provider.OpenAI, provider.Anthropic:
		default:
			require.NotEmpty(t, p.BaseURL, "only these types have a meaning without one")
		}
		requireStorable(t, p.BaseURL)
		if p.BaseURL != "" {
			require.True(t, strings.HasPrefix(strings.ToLower(p.BaseURL), "http"))
		}
		for _, key := range p.Keys {
			require.False(t, key.IsZero())
			requireStorable(t, key.Reveal())
		}
		if b := p.Bedrock; b != nil {
			for _, s := range []string{b.Region, b.Model, b.SmallFastModel, b.AccessKey.Reveal(), b.AccessKeySecret.Reveal()} {
				requireStorable(t, s)
			}
			decoded, err := provider.DecodeSettings(p.Settings(), "")
			require.NoError(t, err)
			require.Equal(t, b.Region, decoded.Region)
		}
	}
	return shown
}

func requireStorable(t *testing.T, s string) {
	require.True(t, utf8.ValidString(s), "Postgres cannot store it")
	require.False(t, strings.ContainsFunc(s, unicode.IsControl))
}
