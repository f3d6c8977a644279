package provider_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/provider"
)

func TestShownURL(t *testing.T) {
	t.Run("Examples", testShownURLExamples)
	t.Run("AnyURL", testShownURLAnyURL)
}

func testShownURLExamples(t *testing.T) {
	const withheld = "(not a URL, withheld)"
	for raw, want := range map[string]string{
		"":                                   "",
		"https://api.openai.com/v1/":         "https://api.openai.com/v1/",
		"https://h":                          "https://h",
		"http://h:8080/a%2Fb":                "http://h:8080/a%2Fb",
		"http://[::1]:8080/v1":               "http://[::1]:8080/v1",
		"https://user:pw@h/v1":               "https://h/v1",
		"https://user@h/v1":                  "https://h/v1",
		"https://us%40er:p%2Fw@h/v1":         "https://h/v1",
		"https://h/v1?key=pw":                "https://h/v1",
		"https://h/v1?":                      "https://h/v1",
		"https://h?key=pw":                   "https://h",
		"https://h/v1#pw":                    "https://h/v1",
		"https://user:pw@h/v1?key=pw#pw":     "https://h/v1",
		"//user:pw@h/v1":                     "//h/v1",
		"https://h/a%40b":                    "https://h/a%40b",
		"user:pw@h":                          withheld,
		"user:pw@h:443/v1":                   withheld,
		"mailto:pw@h":                        withheld,
		"https:pw@h":                         withheld,
		"https:///pw":                        withheld,
		"sk-pw":                              withheld,
		"/pw":                                withheld,
		"https://user:p w@h":                 withheld,
		"https://user:pw@x@h/":               withheld,
		"https://user:pw/x@h/":               withheld,
		"https://sk-pw/x@h/":                 withheld,
		"https://user:1/pw@h/":               withheld,
		"https://sk-pw?x@h/":                 withheld,
		"https://sk-pw#x@h/":                 withheld,
		"https://pw%zz/":                     withheld,
		"https://h\n/pw":                     withheld,
		"://pw":                              withheld,
		"\xff":                               withheld,
		" https://user:pw@h/":                withheld,
		"https://u:pw@h/v1?x=a@b":            withheld,
		"postgres://user:pw@db/x?sslmode=on": "postgres://db/x",
	} {
		shown := provider.DisplayURL(raw)
		require.Equal(t, want, shown, "of %q", raw)
		require.NotContains(t, shown, "pw")
	}
}

func testShownURLAnyURL(t *testing.T) {
	const leak = "q7zleak"
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`[a-zA-Z0-9+/=:?#%@ .-]{0,6}`)
		raw := "https://" + part.Draw(t, "user") + ":" + leak + part.Draw(t, "password") + "@host/v1?k=" + leak + part.Draw(t, "query")
		shown := provider.DisplayURL(raw)
		require.False(t, strings.Contains(shown, leak), "%q is shown as %q", raw, shown)
	})
}
