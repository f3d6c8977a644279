package provider

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestDisplayText(t *testing.T) {
	for name, value := range map[string]string{
		"ASCII": strings.Repeat("a", 9<<20), "two bytes": strings.Repeat("é", 9<<20), "four bytes": "a" + strings.Repeat("😀", MaxShown),
		"one too long": strings.Repeat("a", MaxShown+1), "no UTF-8": strings.Repeat("\x80", 3*MaxShown),
	} {
		t.Run(name, func(t *testing.T) {
			shown := DisplayText(value)
			require.LessOrEqual(t, len(shown), MaxShown)
			require.Regexp(t, `… \(cut, \d+ bytes in all\)$`, shown)
			kept, _, _ := strings.Cut(shown, "…")
			require.True(t, strings.HasPrefix(value, kept))
			require.Equal(t, utf8.ValidString(value), utf8.ValidString(shown))
			require.Greater(t, len(kept), MaxShown-50)
		})
	}
	for _, value := range []string{"", "a", strings.Repeat("a", MaxShown)} {
		require.Equal(t, value, DisplayText(value))
	}
}

func TestDisplayURL(t *testing.T) {
	t.Run("LongOnesAreCut", func(t *testing.T) {
		path := strings.Repeat("é/%20", 9<<20/6)
		for name, raw := range map[string]string{
			"path": "https://proxy.example/" + path, "half an escape": "https://proxy.example/" + strings.Repeat("a", 2*MaxShown-23) + path,
			"one too long": "https://proxy.example/" + strings.Repeat("a", 2*MaxShown),
		} {
			shown := DisplayURL(raw)
			require.LessOrEqual(t, len(shown), MaxShown, name)
			require.True(t, strings.HasPrefix(shown, "https://proxy.example/"), name)
			require.Regexp(t, `… \(cut, \d+ bytes in all\)$`, shown, name)
		}
		for name, raw := range map[string]string{
			"userinfo":             "https://user:secret@proxy.example/" + path,
			"userinfo with a path": "https://user:" + path + "secret@proxy.example/",
			"query":                "https://proxy.example/?key=secret" + path,
			"late query":           "https://proxy.example/" + path + "?key=secret",
			"fragment":             "https://proxy.example/#secret" + path,
		} {
			require.NotContains(t, DisplayURL(raw), "secret", name)
		}
		require.Equal(t, "https://proxy.example/", DisplayURL("https://proxy.example/?key=secret"+path))
	})
}
