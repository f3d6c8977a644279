//go:build e2e

package verify_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/verify"
)

// TestKeptDigests checks that a verifier keeps no credential, but digests where
// credentials are compared.
func TestKeptDigests(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	d := bedrock("aws", "plain-secret")
	d.Keys = openAI("x", "key-1").Keys
	for _, mode := range []drift.CredentialMode{drift.IgnoreCredentials, drift.WarnCredentials, drift.AlertCredentials} {
		v := verify.New(pool, []provider.Desired{d}, mode, quiet, &counter{})
		kept, named := v.Named("aws")
		require.True(t, named)
		require.Equal(t, d.Canonical(), kept.Canonical())
		if mode == drift.IgnoreCredentials {
			require.Empty(t, kept.Keys)
			require.True(t, kept.Bedrock.AccessKey.IsZero() && kept.Bedrock.AccessKeySecret.IsZero())
			continue
		}
		again, _ := verify.New(pool, []provider.Desired{d}, mode, quiet, &counter{}).Named("aws")
		for i, digest := range append(kept.Keys, kept.Bedrock.AccessKey, kept.Bedrock.AccessKeySecret) {
			require.Len(t, digest.Reveal(), 32)
			require.False(t, strings.Contains(digest.Reveal(), "plain") || strings.Contains(digest.Reveal(), "key"))
			other := append(again.Keys, again.Bedrock.AccessKey, again.Bedrock.AccessKeySecret)[i]
			require.False(t, digest.Equal(other), "the digests of another process are others")
		}
	}
	require.Equal(t, "key-1", d.Keys[0].Reveal(), "what was handed over stays as it was")
	require.Equal(t, "plain-secret", d.Bedrock.AccessKeySecret.Reveal())
}
