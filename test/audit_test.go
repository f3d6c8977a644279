//go:build e2e

package test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	t.Run("KilledBeforeDelivery", testAuditKilledBeforeDelivery)
	t.Run("KilledDuringDelivery", testAuditKilledDuringDelivery)
	t.Run("OperatorCommands", testAuditOperatorCommands)
}

func testAuditKilledBeforeDelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 0, w.run(nil, "migrate").Code)
	env := w.twoProviders()

	unlock := w.lock("provwatch.audit_log", "EXCLUSIVE")
	p := w.start(env, "run")
	// The seed has committed and its delivery waits.
	eventually(t, func() bool { return w.waiting("provwatch.audit_log") }, "the delivery waits")
	require.Equal(t, 4, w.count(`SELECT count(*) FROM provwatch.audit_outbox`))
	p.kill9()
	unlock()
	require.Zero(t, w.count(`SELECT count(*) FROM provwatch.audit_log`))
	require.Equal(t, 4, w.count(`SELECT count(*) FROM provwatch.audit_outbox`))

	w.start(env, "run").ready()
	w.expectAuditOfTwoProviders()
}

func testAuditKilledDuringDelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 0, w.run(nil, "migrate").Code)
	env := w.twoProviders()

	// The delivery writes to the log and waits to number its entries.
	unlockLog := w.lock("provwatch.audit_log", "EXCLUSIVE")
	p := w.start(env, "run")
	eventually(t, func() bool { return w.waiting("provwatch.audit_log") }, "the delivery waits")
	p.kill9()
	// The server goes on with the statement of a worker that is gone.
	unlockLog()
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'provwatch%'`) == 0
	}, "the killed worker's sessions end")
	require.Equal(t, 4, w.count(`SELECT (SELECT count(*) FROM provwatch.audit_outbox) + (SELECT count(*) FROM provwatch.audit_log)`))

	w.start(env, "run").ready()
	w.expectAuditOfTwoProviders()
	require.Equal(t, 4, w.count(`SELECT last_seq FROM provwatch.audit_counter`))
}

// testAuditOperatorCommands runs commands whose role cannot deliver,
// with no worker and then with one.
func testAuditOperatorCommands(t *testing.T) {
	t.Parallel()
	bothSourcesOf(t, newBareWorld, func(t *testing.T, w *world) {
		const staged = "Audit entries are staged. No worker runs; the next one delivers them.\n"
		env := w.twoProviders()
		require.Equal(t, 0, w.run(env, "seed").Code)
		disable := func() { w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`) }

		disable()
		r := w.run(env, "resolve", "openai", "--take", "env")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.True(t, strings.HasSuffix(r.Stdout, staged), r.Stdout)
		disable()
		r = w.run(env, "resolve", "openai", "--take", "db", "-o", "json")
		require.Contains(t, r.Stdout, `"audit": "staged"`)
		r = w.run(env, "resolve", "openai", "--take", "db")
		require.NotContains(t, r.Stdout, "staged", "nothing was written")
		want := []string{"provider.update", "drift.accept"}
		require.Equal(t, want, w.strings(`SELECT action FROM provwatch.audit_outbox ORDER BY seq`))
		require.Equal(t, 4, w.count(`SELECT count(*) FROM provwatch.audit_log`), "those of the seed")

		// The resync is not waited for.
		p := w.start(env, "run", "--resync=1h").ready()
		entries := func() []string {
			return w.delivered(`SELECT action FROM provwatch.audit_log WHERE actor <> 'system' ORDER BY seq`)
		}
		require.Equal(t, want, entries())
		disable()
		for _, side := range []string{"db", "env"} {
			r = w.run(env, "resolve", "openai", "--take", side, "-o", "json")
			require.Equal(t, 0, r.Code, r.Stderr)
			require.NotContains(t, r.Stdout, `"audit"`)
		}
		want = append(want, "provider.update")
		require.Equal(t, want, entries(), "it was accepted before")
		require.Equal(t, w.count(`SELECT max(seq) FROM provwatch.audit_log`), w.count(`SELECT last_seq FROM provwatch.audit_counter`))
		p.stop()
	})
}

func TestSeed(t *testing.T) {
	t.Parallel()
	t.Run("KilledBeforeCommitLeavesNothing", testSeedKilledBeforeCommitLeavesNothing)
	t.Run("OnceBySixteenWorkers", testSeedOnceBySixteenWorkers)
	t.Run("KeepsRotatedKeys", testSeedKeepsRotatedKeys)
	t.Run("PrintsAndRepeatsNothing", testSeedPrintsAndRepeatsNothing)
	t.Run("DryRunOnAnEmptyDatabase", testSeedDryRunOnAnEmptyDatabase)
	t.Run("DryRunFieldByField", testSeedDryRunFieldByField)
}

func testSeedKilledBeforeCommitLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	require.Equal(t, 0, w.run(nil, "migrate").Code)
	env := w.twoProviders()
	unlock := w.lock("provwatch.audit_outbox", "EXCLUSIVE")
	p := w.start(env, "run")
	eventually(t, func() bool { return w.waiting("provwatch.audit_outbox") }, "the seed waits to stage its entries")
	p.kill9()
	unlock()
	require.Zero(t, w.count(`SELECT (SELECT count(*) FROM ai_providers) + (SELECT count(*) FROM provwatch.audit_outbox)`))
	require.Empty(t, w.published(pubsub.Seeds))

	w.start(env, "run").ready()
	w.expectAuditOfTwoProviders()
	require.Len(t, w.published(pubsub.Seeds), 2)
}

func testSeedOnceBySixteenWorkers(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	env := w.twoProviders()
	var workers []*worker
	for range 16 {
		workers = append(workers, w.start(env, "run"))
	}
	var ready sync.WaitGroup
	for _, p := range workers {
		ready.Go(func() { p.ready() })
	}
	ready.Wait()
	require.Equal(t, []string{"anthropic", "openai"}, w.strings(`SELECT name FROM ai_providers ORDER BY name`))
	require.Equal(t, 2, w.count(`SELECT count(*) FROM ai_provider_keys`))
	w.expectAuditOfTwoProviders()
	require.Len(t, w.published(pubsub.Seeds), 2)
	require.Empty(t, w.published(pubsub.ProvidersChanged), "a seed publishes nothing on the channel that it listens to")

	// All of them watch; each transition is alerted once all the same.
	w.exec(`UPDATE ai_providers SET enabled = false`)
	w.expectAlerts("disabled anthropic", "disabled openai")
	w.exec(`UPDATE ai_providers SET enabled = true`)
	w.expectAlerts("disabled anthropic", "disabled openai", "resolved anthropic", "resolved openai")
	for _, p := range workers {
		p.stop()
	}
}

func testSeedKeepsRotatedKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	w.start(env, "run").ready().stop()
	w.exec(`UPDATE ai_provider_keys SET api_key = $1`, w.secret("rotated-by-an-operator-0123456789"))
	before := w.strings(`SELECT to_jsonb(k)::text FROM ai_provider_keys k ORDER BY id`)
	w.start(env, "run").ready().stop()
	require.Equal(t, before, w.strings(`SELECT to_jsonb(k)::text FROM ai_provider_keys k ORDER BY id`))
	require.Empty(t, w.alerts())
}

// tryExec runs a statement that may fail because the server is being restarted.
func tryExec(ctx context.Context, url, query string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(ctx, query)
	return err
}
