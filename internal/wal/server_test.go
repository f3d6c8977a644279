package wal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// TestNotOrdinaryTable replaces the provider table while a worker runs: to give it another
// replica identity would not help.
func TestNotOrdinaryTable(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewGatewayPool(t)
	_, err := Inspect(t.Context(), pool)
	require.NoError(t, err)
	for _, c := range []struct{ change, want string }{
		{`ALTER TABLE public.ai_providers REPLICA IDENTITY NOTHING`, "the replica identity of the provider tables is not their primary key id"},
		{`ALTER TABLE public.ai_providers RENAME TO held; CREATE VIEW public.ai_providers AS SELECT * FROM public.held`, `"public"."ai_providers" is a view, not an ordinary table`},
		{`DROP VIEW public.ai_providers; CREATE TABLE public.ai_providers (LIKE public.held) PARTITION BY RANGE (id)`, `"public"."ai_providers" is a partitioned table, not an ordinary table`},
	} {
		_, err := pool.Exec(t.Context(), c.change)
		require.NoError(t, err)
		_, err = Inspect(t.Context(), pool)
		var unusable *UnusableError
		require.ErrorAs(t, err, &unusable)
		require.Contains(t, unusable.Reason, c.want)
		require.True(t, unusable.Unpublish, c.want)
	}
}
