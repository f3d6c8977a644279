//go:build e2e

package reconcile_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
)

// TestGatewayDecoding resolves each row with each environment, with keys and without, live
// and soft-deleted, and a row that is missing.
func TestGatewayDecoding(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewGatewayPool(t)
	stored := storedProviders()
	stored["missing"] = storedProvider{}
	refused, written := 0, 0
	for from, row := range stored {
		for to, desired := range desiredProviders() {
			for _, way := range []struct{ withKeys, deleted bool }{{false, false}, {true, false}, {false, true}} {
				what := fmt.Sprintf("%s becomes %s: %+v", from, to, way)
				desired.Name, desired.Variables = "p", "X"
				storeOnly(t, pool, row, way.deleted)
				require.NoError(t, pgtest.DecodeGatewayRows(t.Context(), pool, notMade), what)
				_, err := takeEnv(t.Context(), pool, nil, desired, way.withKeys, drift.IgnoreCredentials)
				if err != nil {
					require.Regexp(t, `would remove|would be removed|would stay|would be lost`, err.Error(), what)
					refused++
					continue
				}
				written++
				// What was there before can be more than provwatch would write.
				made := notMade
				if from == "missing" {
					made = nil
				}
				require.NoError(t, pgtest.DecodeGatewayRows(t.Context(), pool, made), what)
			}
		}
	}
	t.Logf("%d resolved, %d refused", written, refused)
	require.Greater(t, written, refused)
}

// notMade is for rows that a gateway has made.
func notMade(string) bool { return false }
