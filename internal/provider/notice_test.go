package provider_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func TestNotices(t *testing.T) {
	t.Parallel()
	const (
		noKeys   = "it has no API keys: the gateway skips it, unless users may bring their own"
		noModel  = "it has no model: the gateway serves no requests to it"
		noAccess = "it has neither a region, a role nor AWS credentials: the gateway skips it"
	)
	row := func(kind provider.Type, baseURL, settings string) provider.ServedRow {
		return provider.ServedRow{Row: provider.Row{Type: kind, BaseURL: baseURL, Settings: secret.New(settings), Enabled: true}}
	}
	withKeys := func(r provider.ServedRow) provider.ServedRow { r.HasKeys = true; return r }
	bedrock := func(members string) string { return `{"_type":"bedrock","_version":1` + members + `}` }
	for name, c := range map[string]struct {
		row  provider.ServedRow
		want []string
	}{
		"keys":                              {withKeys(row(provider.OpenAI, "https://h/", "")), nil},
		"no keys":                           {row(provider.OpenAI, "https://h/", ""), []string{noKeys}},
		"no keys, anthropic":                {row(provider.Anthropic, "https://h/", ""), []string{noKeys}},
		"no keys, a type of later":          {row("later", "https://h/", ""), []string{noKeys}},
		"copilot has none":                  {row(provider.Copilot, "https://h/", ""), nil},
		"settings that are not looked at":   {withKeys(row(provider.OpenAICompat, "https://h/", "no JSON")), nil},
		"settings that cannot be read":      {row(provider.Anthropic, "https://h/", "no JSON"), nil},
		"Bedrock by region":                 {row(provider.AmazonBedrock, "", bedrock(`,"region":"r","model":"m"`)), nil},
		"Bedrock by role":                   {row(provider.AmazonBedrock, "", bedrock(`,"role_arn":"arn","model":"m"`)), nil},
		"Bedrock by role, in capitals":      {row(provider.AmazonBedrock, "", bedrock(`,"Role_ARN":"arn","model":"m"`)), nil},
		"Bedrock by a role of another form": {row(provider.AmazonBedrock, "", bedrock(`,"role_arn":["arn"],"model":"m"`)), []string{noAccess}},
		"Bedrock by an empty role":          {row(provider.AmazonBedrock, "", bedrock(`,"role_arn":"","model":"m"`)), []string{noAccess}},
		"Bedrock by keys":                   {row(provider.Anthropic, "", bedrock(`,"access_key":"a","access_key_secret":"s","model":"m"`)), nil},
		"Bedrock by an empty key":           {row(provider.Anthropic, "", bedrock(`,"access_key":"","model":"m"`)), []string{noAccess}},
		"Bedrock by its base URL alone":     {row(provider.AmazonBedrock, "https://h/", bedrock(`,"region":"","model":"m"`)), []string{noAccess}},
		"Bedrock without a model":           {row(provider.Anthropic, "", bedrock(`,"region":"r"`)), []string{noModel}},
		"Bedrock without settings":          {row(provider.AmazonBedrock, "", ""), []string{noModel, noAccess}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.row.Name = "north"
			var problems []string
			for _, n := range provider.Notices([]provider.ServedRow{c.row}) {
				require.Equal(t, "north", n.Provider)
				require.NotEmpty(t, n.Remedy)
				problems = append(problems, n.Problem)
			}
			require.ElementsMatch(t, c.want, problems)
		})
	}
	t.Run("decoded elsewhere", func(t *testing.T) {
		t.Parallel()
		r := row(provider.AmazonBedrock, "", "ciphertext")
		r.SettingsKeyID = "a1b2c3d"
		require.Empty(t, provider.Notices([]provider.ServedRow{r}), "it cannot be read")
		r.Decoded = &provider.DecodedSettings{IsBedrock: true, HasModel: true, AssumesRole: true}
		require.Empty(t, provider.Notices([]provider.ServedRow{r}))
		r.Decoded = &provider.DecodedSettings{IsBedrock: true, HasModel: true}
		require.Len(t, provider.Notices([]provider.ServedRow{r}), 1)
	})
}

func TestNoticesOfSharedHosts(t *testing.T) {
	t.Parallel()
	rows := func(baseURLs ...string) (list []provider.ServedRow) {
		for i, baseURL := range baseURLs {
			list = append(list, provider.ServedRow{
				Row: provider.Row{Name: fmt.Sprintf("p%d", i), Type: provider.OpenAI, BaseURL: baseURL}, HasKeys: true,
			})
		}
		return list
	}
	shares := func(host, others string) []provider.Notice {
		return []provider.Notice{{
			Provider: "p0", Problem: "it shares the host " + host + " with " + others + ": the gateway uses this one, the first by name",
			Remedy: "disable all but one of them, or give each a host of its own",
		}}
	}
	require.Empty(t, provider.Notices(rows("https://a/", "https://b/", "https://c.a/")))
	require.Equal(t, shares("h.invalid", "p1"), provider.Notices(rows("https://u:pw@h.invalid/v1", "http://H.INVALID:8080/x?key=1")))
	require.Equal(t, shares("api.openai.com", "p1"), provider.Notices(rows("", "https://api.openai.com/v1/")), "an empty one is the vendor's")
	for kind, host := range map[provider.Type]string{
		provider.Anthropic: "api.anthropic.com", provider.Copilot: "api.individual.githubcopilot.com",
		provider.Azure: "api.openai.com", provider.Google: "api.openai.com", provider.OpenAICompat: "api.openai.com",
		provider.OpenRouter: "api.openai.com", provider.Vercel: "api.openai.com",
	} {
		two := rows("", "https://"+host+"/")
		two[0].Type = kind
		require.Equal(t, shares(host, "p1"), provider.Notices(two), "an empty one of type %s", kind)
	}
	require.Equal(t, shares("h", "p1, p2, p3 and 2 more"), provider.Notices(rows("https://h", "https://h", "https://h", "https://h", "https://h", "https://h")))
	require.Empty(t, provider.Notices(rows("%", "%")), "not a URL")

	// In whatever order they come, and with each type.
	two := rows("https://h", "https://h")
	two[0], two[1] = two[1], two[0]
	two[0].Type = provider.Copilot
	require.Equal(t, shares("h", "p1"), provider.Notices(two))
	long := rows("https://"+strings.Repeat("h", 9000), "https://"+strings.Repeat("h", 9000))
	require.Less(t, len(provider.Notices(long)[0].Problem), 3000)
	// Bedrock providers without a base URL have that of their region.
	aws := rows("", "")
	for i := range aws {
		aws[i].Type, aws[i].Settings = provider.AmazonBedrock, secret.New(`{"_type":"bedrock","_version":1,"region":"r","model":"m"}`)
	}
	require.Empty(t, provider.Notices(aws))
}
