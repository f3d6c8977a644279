package wal

import (
	"testing"

	"github.com/google/uuid"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// TestObserve compares rows of the mirror with the environment.
func TestObserve(t *testing.T) {
	// The environment names a provider with another password in turn. The mirror has the row
	// of the second one, and does not keep its base URL.
	first := provider.Desired{Name: "aws", Type: provider.Anthropic, BaseURL: "https://svc:first@h/", Bedrock: &provider.Bedrock{Region: "us-east-1"}}
	second := provider.Desired{Name: "aws", Type: provider.AmazonBedrock, BaseURL: "https://svc:second@h/", Bedrock: &provider.Bedrock{Region: "us-east-1"}}
	row := mirrorRow{
		Canonical: provider.Canonical{Type: provider.AmazonBedrock, BedrockRegion: "us-east-1"}, column: provider.AmazonBedrock, bedrockSettings: true,
		id: uuid.New(), name: "aws", enabled: true, baseURLShown: provider.DisplayURL(second.BaseURL),
		hashes: hasher.RowHashes(provider.Canonical{Type: provider.AmazonBedrock, BaseURL: second.BaseURL, BedrockRegion: "us-east-1"}),
	}
	m := newMirror(hasher)
	m.put(&row)
	kinds := map[string]drift.Kind{
		hasher.Hash(first.Canonical()):  drift.Changed,
		hasher.Hash(second.Canonical()): drift.InSync,
	}
	t.Run("NotNamed", func(t *testing.T) {
		_, named := observe(newVerifier(nil), m, "aws")
		require.False(t, named)
	})
	t.Run("HashesOfTheMirror", func(t *testing.T) {
		for _, desired := range []provider.Desired{first, second} {
			o, named := observe(newVerifier(nil, desired), m, "aws")
			require.True(t, named)
			require.Equal(t, kinds[o.EnvHash], o.Kind)
			require.Equal(t, row.hashes.Against(desired), o.DBHash)
		}
	})
	t.Run("AReloadMeanwhile", func(t *testing.T) {
		environment := newVerifier(nil, first)
		var reloads conc.WaitGroup
		ended := make(chan struct{})
		reloads.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				default:
					environment.SetDesired([]provider.Desired{[]provider.Desired{first, second}[n%2]})
				}
			}
		})
		defer reloads.Wait()
		defer close(ended)
		seen := map[string]int{}
		for len(seen) < 2 || seen[hasher.Hash(first.Canonical())] < 500 || seen[hasher.Hash(second.Canonical())] < 500 {
			o, named := observe(environment, m, "aws")
			require.True(t, named)
			seen[o.EnvHash]++
			require.Equal(t, kinds[o.EnvHash], o.Kind, "row, hashes and comparison are of one provider")
			require.Equal(t, o.Kind == drift.InSync, o.EnvHash == o.DBHash)
		}
	})
}
