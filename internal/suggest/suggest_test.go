package suggest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/suggest"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		word  string
		known []string
		want  string
	}{
		"NoneKnown":                     {"status", nil, ""},
		"Known":                         {"status", []string{"state", "status"}, "status"},
		"LeastDistance":                 {"statsu", []string{"seed", "status", "verify"}, "status"},
		"FarFromAll":                    {"kubernetes", []string{"seed", "kubectl"}, "kubectl"},
		"TieOfTheLongerCommonBeginning": {"kex", []string{"hex", "key"}, "key"},
		"TieInTheOtherOrder":            {"kex", []string{"key", "hex"}, "key"},
		"TieOfEqualBeginnings":          {"kex", []string{"ken", "key"}, "ken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, suggest.Nearest(c.word, c.known))
		})
	}
}

func TestMisspelt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		word  string
		known []string
		want  string
	}{
		"NoneKnown":             {"status", nil, ""},
		"NoneKnownToAShortWord": {"up", nil, ""},
		"Distance0":             {"verify", []string{"verify"}, "verify"},
		"Distance1":             {"verfy", []string{"seed", "verify"}, "verify"},
		"Distance2":             {"vrfy", []string{"seed", "verify"}, "verify"},
		"Distance3":             {"vrf", []string{"seed", "verify"}, ""},
		"Distance2OfRunes":      {"vérïfy", []string{"verify"}, "verify"},
		"TieAtDistance2":        {"abcd", []string{"xycd", "abxy"}, "abxy"},
		"OneOfTwoNearEnough":    {"vrfy", []string{"vrXYZ", "verify"}, "verify"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, suggest.Misspelt(c.word, c.known))
		})
	}
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	known := []string{"openai", "anthropic"}
	require.Equal(t, "; did you mean openai?", suggest.DidYouMean("opnai", known))
	require.Empty(t, suggest.DidYouMean("bedrock", known))
	require.Empty(t, suggest.DidYouMean("x", nil))
}
