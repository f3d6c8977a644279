//go:build e2e

package seed_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/seed"
)

// TestConcurrentSeeds checks that sixteen concurrent seeds insert each row and each audit
// entry once.
func TestConcurrentSeeds(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	seeded := listen(t, config, pubsub.Seeds)
	const seeds, providers = 16, 25
	var desired []provider.Desired
	for i := range providers {
		desired = append(desired, openAI(fmt.Sprintf("p-%02d", i), "https://h/", fmt.Sprintf("key-a-%d", i), fmt.Sprintf("key-b-%d", i)))
	}
	start := make(chan struct{})
	inserted := make([]int, seeds)
	failed := make([]error, seeds)
	var group sync.WaitGroup
	for i := range seeds {
		group.Go(func() {
			<-start
			plan, err := seed.Seed(t.Context(), pool, desired, false, quiet)
			inserted[i], failed[i] = plan.Count(drift.ActionInsert), err
		})
	}
	close(start)
	group.Wait()
	require.NoError(t, errors.Join(failed...))
	total := 0
	for _, n := range inserted {
		total += n
	}
	require.Equal(t, providers, total, "inserts claimed by all seeds")
	require.Equal(t, []string{"25 50 75 75"}, lines(t, pool, `SELECT concat_ws(' ',
		(SELECT count(*) FROM public.ai_providers), (SELECT count(*) FROM public.ai_provider_keys),
		(SELECT count(*) FROM provwatch.audit_outbox),
		(SELECT count(DISTINCT (action, provider, details->>'key_id')) FROM provwatch.audit_outbox))`))
	require.Len(t, seeded(), providers)
}
