package provider_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// hasher has a key as each database has one.
var hasher = provider.NewRandomHasher()

func TestHasher(t *testing.T) {
	t.Run("KeyedURLs", testHasherKeyedURLs)
	t.Run("Equality", testHasherEquality)
	t.Run("WithoutKey", testHasherWithoutKey)
	t.Run("EnvironmentDigest", testHasherEnvironmentDigest)
}

// testHasherEnvironmentDigest has environments that differ in what a digest is of, and in what
// it is not.
func testHasherEnvironmentDigest(t *testing.T) {
	a := provider.Desired{Name: "a", Type: provider.OpenAI, BaseURL: "https://h/?key=1"}
	b := provider.Desired{Name: "b", Type: provider.Anthropic, Bedrock: &provider.Bedrock{Region: "us-east-1"}}
	digest := hasher.EnvironmentDigest([]provider.Desired{a, b})
	require.Regexp(t, "^hmac:[0-9a-f]{64}$", digest)
	withKeys := a
	withKeys.Keys = []secret.Text{secret.New("key")}
	otherModel := b
	otherModel.Bedrock = &provider.Bedrock{Region: "us-east-1", Model: "m", AccessKey: secret.New("AKIA")}
	require.Equal(t, digest, hasher.EnvironmentDigest([]provider.Desired{otherModel, withKeys}), "in any order, with any credentials and models")

	renamed, moved, elsewhere := a, a, b
	renamed.Name, moved.BaseURL = "c", "https://h/?key=2"
	elsewhere.Bedrock = &provider.Bedrock{Region: "eu-west-1"}
	seen := map[string]bool{digest: true, provider.NewRandomHasher().EnvironmentDigest([]provider.Desired{a, b}): true}
	for _, other := range [][]provider.Desired{{renamed, b}, {moved, b}, {a, elsewhere}, {a}, {b}, nil} {
		seen[hasher.EnvironmentDigest(other)] = true
	}
	require.Len(t, seen, 8)
	require.Panics(t, func() { provider.Hasher{}.EnvironmentDigest(nil) })
}

func testHasherKeyedURLs(t *testing.T) {
	same, other := hasher, provider.NewRandomHasher()
	for baseURL, keyed := range map[string]bool{
		"": false, "https://h/": false, "https://h:8443/v1/%40": false, "https://[::1]/": false,
		"https://svc:Winter2026!@h/v1/": true, "https://svc@h/": true, "https://h/?key=1": true, "https://h/#key": true,
		"svc:Winter2026!@h": true, "https://svc:Winter2026!/": true, "Winter2026!": true, "https:///Winter2026!": true, "https://svc:1/2@h/%zz": true,
	} {
		c := provider.Canonical{Type: provider.OpenAI, BaseURL: baseURL}
		hash := hasher.Hash(c)
		require.Equal(t, keyed, provider.IsKeyed(hash), baseURL)
		require.Equal(t, keyed, provider.MayHoldCredentials(baseURL), baseURL)
		require.Equal(t, hash, same.Hash(c), baseURL)
		if keyed {
			require.Regexp(t, "^hmac:[0-9a-f]{64}$", hash)
			require.NotEqual(t, hash, other.Hash(c), baseURL)
			require.NotContains(t, hash, c.Hash(), baseURL)
		} else {
			require.Equal(t, c.Hash(), hash, baseURL)
		}
	}
}

func testHasherEquality(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) provider.Canonical {
			return provider.Canonical{
				Type:          rapid.SampledFrom([]provider.Type{provider.OpenAI, provider.Anthropic, provider.AmazonBedrock}).Draw(t, label+" type"),
				BaseURL:       rapid.SampledFrom([]string{"", "https://h/", "https://a:b@h/", "https://a:c@h/", "https://h/?a"}).Draw(t, label+" base URL"),
				BedrockRegion: rapid.SampledFrom([]string{"", "us-east-1"}).Draw(t, label+" region"),
			}
		}
		a, b := draw("a"), draw("b")
		require.Equal(t, a == b, hasher.Hash(a) == hasher.Hash(b))
		require.Equal(t, a == b, hasher.RowHashes(a).Alone == hasher.RowHashes(b).Alone)
	})
}

func testHasherWithoutKey(t *testing.T) {
	var none provider.Hasher
	require.True(t, none.IsZero())
	require.False(t, hasher.IsZero())
	for _, baseURL := range []string{"https://h/", "https://a:b@h/"} {
		require.Panics(t, func() { none.Hash(provider.Canonical{BaseURL: baseURL}) }, "whatever it would hash, so that no test passes by it")
	}
	require.False(t, provider.IsKeyed(strings.Repeat("0", 64)))
}
