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

func TestCompare(t *testing.T) {
	t.Run("LongValuesAreCut", func(t *testing.T) {
		long := "https://proxy.example/" + strings.Repeat("a", 9<<20)
		row := &Row{Type: OpenAI, BaseURL: long + "b", Enabled: true, Decoded: &DecodedSettings{IsBedrock: true, BedrockRegion: long}}
		for _, field := range NewRandomHasher().Compare(Desired{Name: "openai", Type: OpenAI, BaseURL: long + "a"}, row, false).Fields {
			require.LessOrEqual(t, len(field.Env)+len(field.DB), 2*MaxShown+50, field.Name)
		}
		o := NewRandomHasher().Compare(Desired{Name: "aws", Type: Anthropic, Bedrock: &Bedrock{Region: long + "a"}},
			&Row{Type: Anthropic, Enabled: true, Decoded: &DecodedSettings{IsBedrock: true, BedrockRegion: long + "b"}}, false)
		require.Len(t, o.Fields, 1)
		require.NotEqual(t, o.Fields[0].Env, o.Fields[0].DB, "they are told apart")
		require.Contains(t, o.Fields[0].DB, "differs in a part that is not shown")
		require.NotEqual(t, o.EnvHash, o.DBHash, "the hashes are of the whole")
		require.LessOrEqual(t, len(DisplayURL(long)), MaxShown)
	})
}
