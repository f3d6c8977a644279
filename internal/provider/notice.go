package provider

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Notice says of an enabled provider that the gateway does not serve it, or serves it
// otherwise than its row suggests. It holds no secret.
type Notice struct {
	Provider string `json:"provider"`
	Problem  string `json:"problem"`
	Remedy   string `json:"remedy"`
}

// ServedRow is a live, enabled row, as far as it matters to how the gateway serves it.
type ServedRow struct {
	Row
	// HasKeys reports whether the provider has API keys, of which Keys need not be
	// loaded.
	HasKeys bool
}

// Notices returns what there is to notice about all live, enabled rows of a database,
// sorted by provider. Rows whose settings cannot be read are passed over.
func Notices(rows []ServedRow) []Notice {
	rows = slices.SortedFunc(slices.Values(rows), func(a, b ServedRow) int { return cmp.Compare(a.Name, b.Name) })
	var notices []Notice
	sharing := map[string][]string{} // names by host, in their order
	for _, row := range rows {
		settings := row.SettingsWithCredentials()
		if settings.Err != nil {
			continue
		}
		notices = append(notices, row.lacks(settings)...)
		if host := row.host(settings); host != "" {
			sharing[host] = append(sharing[host], row.Name)
		}
	}
	for host, names := range sharing {
		if len(names) > 1 {
			notices = append(notices, sharedHost(host, names))
		}
	}
	slices.SortStableFunc(notices, func(a, b Notice) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Problem, b.Problem))
	})
	return notices
}

// lacks returns a notice for each thing without which the gateway serves no requests
// to the provider.
func (r ServedRow) lacks(settings DecodedSettings) (notices []Notice) {
	notice := func(problem, remedy string) {
		notices = append(notices, Notice{Provider: r.Name, Problem: problem, Remedy: remedy})
	}
	if !IsBedrock(r.Type, settings.IsBedrock) {
		if UsesKeys(r.Type, false) && !r.HasKeys {
			notice("it has no API keys: the gateway skips it, unless users may bring their own",
				"add a key in the gateway, or disable the provider")
		}
		return notices
	}
	if settings.BedrockRegion == "" && !settings.AssumesRole && settings.AccessKey.IsZero() && settings.AccessKeySecret.IsZero() {
		notice("it has neither a region, a role nor AWS credentials: the gateway skips it",
			"set its region in the gateway, or disable the provider")
	}
	if !settings.HasModel {
		notice("it has no model: the gateway serves no requests to it", "set its model in the gateway, or disable the provider")
	}
	return notices
}

// vendorHosts are the hosts of providers whose base URL is empty. The gateway speaks
// OpenAI's API with many types, and takes an empty base URL of these for OpenAI's.
var vendorHosts = map[Type]string{
	Anthropic:    "api.anthropic.com",
	Azure:        openAIHost,
	Copilot:      "api.individual.githubcopilot.com",
	Google:       openAIHost,
	OpenAI:       openAIHost,
	OpenAICompat: openAIHost,
	OpenRouter:   openAIHost,
	Vercel:       openAIHost,
}

const openAIHost = "api.openai.com"

// host returns the host by which the gateway finds the provider of a request, empty
// where there is none: a Bedrock provider without a base URL has its region's.
func (r ServedRow) host(settings DecodedSettings) string {
	if r.BaseURL == "" {
		if IsBedrock(r.Type, settings.IsBedrock) {
			return ""
		}
		return vendorHosts[r.Type]
	}
	u, err := url.Parse(r.BaseURL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// maxSharing bounds how many of those that share a host are named.
const maxSharing = 3

func sharedHost(host string, names []string) Notice {
	others := names[1:]
	list := strings.Join(others[:min(len(others), maxSharing)], ", ")
	if more := len(others) - maxSharing; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return Notice{
		Provider: names[0],
		Problem:  fmt.Sprintf("it shares the host %s with %s: the gateway uses this one, the first by name", DisplayText(host), list),
		Remedy:   "disable all but one of them, or give each a host of its own",
	}
}
