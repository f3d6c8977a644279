package seed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func openAI(name, baseURL string, keys ...string) provider.Desired {
	d := provider.Desired{Name: name, Type: provider.OpenAI, BaseURL: baseURL, Variables: "CODER_AIBRIDGE_PROVIDER_0_*"}
	for _, key := range keys {
		d.Keys = append(d.Keys, secret.New(key))
	}
	return d
}

func anthropic(name, baseURL string) provider.Desired {
	d := openAI(name, baseURL)
	d.Type = provider.Anthropic
	return d
}

func bedrockIn(name, region string) provider.Desired {
	return provider.Desired{Name: name, Type: provider.Anthropic, Variables: "CODER_AIBRIDGE_PROVIDER_1_*", Bedrock: &provider.Bedrock{
		Region: region, Model: "m", SmallFastModel: "s", AccessKey: secret.New("AKIA-test"), AccessKeySecret: secret.New("aws-secret"),
	}}
}

func lines(t *testing.T, pool *pgxpool.Pool, query string) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), query)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// contents returns every row of every table that a seed can write.
func contents(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	return lines(t, pool, `
		SELECT 'provider ' || to_jsonb(r)::text FROM public.ai_providers r
		UNION ALL SELECT 'key ' || to_jsonb(r)::text FROM public.ai_provider_keys r
		UNION ALL SELECT 'outbox ' || to_jsonb(r)::text FROM provwatch.audit_outbox r
		UNION ALL SELECT 'state ' || to_jsonb(r)::text FROM provwatch.drift_state r
		UNION ALL SELECT 'alert ' || to_jsonb(r)::text FROM provwatch.drift_alerts r
		UNION ALL SELECT 'accepted ' || to_jsonb(r)::text FROM provwatch.accepted_drift r
		ORDER BY 1`)
}

// listen returns a function that gives all payloads that arrived on the channel
// up to its call.
func listen(t *testing.T, config *pgxpool.Config, channel pubsub.Channel) func() []string {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), "LISTEN "+string(channel))
	require.NoError(t, err)
	return func() []string {
		// What was committed before the marker is delivered before it.
		_, err := conn.Exec(t.Context(), "SELECT pg_notify($1, 'marker')", string(channel))
		require.NoError(t, err)
		var payloads []string
		for {
			n, err := conn.WaitForNotification(t.Context())
			require.NoError(t, err)
			if n.Payload == "marker" {
				return payloads
			}
			payloads = append(payloads, n.Payload)
		}
	}
}

func TestMissingProvidersAreInsertedWithTheirKeysAndAuditEntries(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	seeded := listen(t, config, pubsub.Seeds)
	desired := []provider.Desired{
		bedrockIn("aws", "us-east-1"),
		openAI("gpt", "https://user:pw@h/v1?q=1", "sk-0123456789abcdef-first", "sk-0123456789abcdef-other"),
	}
	plan, err := seed.Seed(t.Context(), pool, desired, false, quiet)
	require.NoError(t, err)
	require.Equal(t, 2, plan.Count(seed.Insert))

	require.Equal(t, []string{
		"aws anthropic  enabled live",
		"gpt openai https://user:pw@h/v1?q=1 enabled live",
	}, lines(t, pool, `SELECT name || ' ' || type || ' ' || base_url || CASE WHEN enabled THEN ' enabled' ELSE '' END
		|| CASE WHEN deleted THEN '' ELSE ' live' END FROM public.ai_providers ORDER BY name`))
	require.Equal(t, []string{
		`{"_type":"bedrock","_version":1,"region":"us-east-1","model":"m","small_fast_model":"s","access_key":"AKIA-test","access_key_secret":"aws-secret"}`,
	}, lines(t, pool, `SELECT settings FROM public.ai_providers WHERE settings IS NOT NULL`))
	require.Equal(t, []string{"sk-0123456789abcdef-first", "sk-0123456789abcdef-other"},
		lines(t, pool, `SELECT api_key FROM public.ai_provider_keys k JOIN public.ai_providers p ON p.id = k.provider_id WHERE p.name = 'gpt' ORDER BY 1`))

	require.Equal(t, []string{
		`provider.create aws system {"keys": 0, "type": "anthropic", "bedrock_region": "us-east-1"}`,
		`provider.create gpt system {"keys": 2, "type": "openai", "base_url": "https://h/v1"}`,
		`provider_key.create gpt system {"masked_key": "****irst"}`,
		`provider_key.create gpt system {"masked_key": "****ther"}`,
	}, lines(t, pool, `SELECT concat_ws(' ', action, provider, actor, details - 'key_id') FROM provwatch.audit_outbox ORDER BY seq`))

	var names []string
	for _, payload := range seeded() {
		var message pubsub.Seeded
		require.NoError(t, json.Unmarshal([]byte(payload), &message))
		names = append(names, fmt.Sprintf("%s %d %s", message.Provider, message.Keys, message.BaseURL))
	}
	require.Equal(t, []string{"aws 0 ", "gpt 2 https://h/v1"}, names)
}

func TestASecondSeedWritesNothingEvenWhenKeysAndModelsWereRotated(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrockIn("aws", "us-east-1"), openAI("gpt", "https://h/", "key-1")}, false, quiet)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_provider_keys SET api_key = 'rotated in the database'`)
	require.NoError(t, err)
	before := contents(t, pool)

	other := bedrockIn("aws", "us-east-1")
	other.Bedrock.Model, other.Bedrock.AccessKey = "another", secret.New("AKIA-rotated")
	plan, err := seed.Seed(t.Context(), pool, []provider.Desired{other, openAI("gpt", "https://h/", "key-2", "key-3")}, false, quiet)
	require.NoError(t, err)
	require.Equal(t, 2, plan.Count(seed.Unchanged))
	require.Equal(t, before, contents(t, pool))
}

func TestASeedPublishesNothingOnAIProvidersChanged(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	changed := listen(t, config, pubsub.ProvidersChanged)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://h/", "key-1", "key-2")}, false, quiet)
	require.NoError(t, err)
	require.Empty(t, changed())
	// The triggers are silent for the seed's transaction only.
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, err)
	require.Equal(t, lines(t, pool, `SELECT id::text FROM public.ai_providers`), changed())
}

func TestASeedThatInsertsIsAnnouncedWhereThatIsAskedFor(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	changed := listen(t, config, pubsub.ProvidersChanged)
	desired := []provider.Desired{openAI("gpt", "https://h/", "key-1"), openAI("other", "https://h/")}
	for range 2 { // the second one inserts nothing
		_, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.Announce())
		require.NoError(t, err)
	}
	require.Equal(t, []string{""}, changed())
}

// TestASeedAndAGatewayThatSeedsByItselfWaitForEachOther has a session that takes the
// gateway's lock, reads and inserts as a gateway does.
func TestASeedAndAGatewayThatSeedsByItselfWaitForEachOther(t *testing.T) {
	t.Parallel()
	desired := []provider.Desired{openAI("gpt", "https://h/")}
	waits := func(t *testing.T, db interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}) {
		t.Helper()
		waittest.Until(t, func() bool {
			var waiting bool
			require.NoError(t, db.QueryRow(context.WithoutCancel(t.Context()), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 10 AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waiting))
			return waiting
		}, "somebody waits for the gateway's lock")
	}
	// gateway returns how many rows the gateway finds.
	gateway := func(ctx context.Context, tx pgx.Tx) (found int, err error) {
		if _, err = tx.Exec(ctx, `SELECT pg_advisory_xact_lock(10)`); err == nil {
			err = tx.QueryRow(ctx, `SELECT count(*) FROM public.ai_providers WHERE name = 'gpt'`).Scan(&found)
		}
		return found, err
	}
	type result struct {
		plan seed.Plan
		err  error
	}
	start := func(t *testing.T, pool *pgxpool.Pool) <-chan result {
		ended := make(chan result, 1)
		go func() {
			plan, err := seed.Seed(t.Context(), pool, desired, false, quiet)
			ended <- result{plan, err}
		}()
		return ended
	}
	t.Run("TheGatewayIsFirst", func(t *testing.T) {
		t.Parallel()
		pool, _ := pgtest.NewPool(t)
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		found, err := gateway(t.Context(), tx)
		require.NoError(t, err)
		require.Zero(t, found)
		ended := start(t, pool)
		waits(t, tx)
		_, err = tx.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'gpt', 'https://h/')`)
		require.NoError(t, err)
		require.NoError(t, tx.Commit(t.Context()))
		seeded := waittest.Receive(t, ended, "the seed ends")
		require.NoError(t, seeded.err)
		require.Equal(t, 1, seeded.plan.Count(seed.Unchanged))
	})
	t.Run("TheSeedIsFirst", func(t *testing.T) {
		t.Parallel()
		pool, _ := pgtest.NewPool(t)
		// It stops at its insert.
		holder, err := pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = holder.Exec(t.Context(), `LOCK TABLE public.ai_providers IN SHARE MODE`)
		require.NoError(t, err)
		ended := start(t, pool)
		waittest.Until(t, func() bool {
			var holds bool
			require.NoError(t, holder.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 10 AND granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&holds))
			return holds
		}, "the seed holds the gateway's lock")
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		found := 0
		read := make(chan error, 1)
		go func() {
			var err error
			found, err = gateway(t.Context(), tx)
			read <- err
		}()
		waits(t, holder)
		require.NoError(t, holder.Commit(t.Context()))
		require.NoError(t, waittest.Receive(t, read, "the gateway has read"))
		require.Equal(t, 1, found, "it finds the row of the seed, and inserts none")
		require.NoError(t, tx.Rollback(t.Context()))
		seeded := waittest.Receive(t, ended, "the seed ends")
		require.NoError(t, seeded.err)
	})
}

func TestSixteenSeedsAtOnceInsertEachRowAndEachAuditEntryOnce(t *testing.T) {
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
			inserted[i], failed[i] = plan.Count(seed.Insert), err
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

func TestDriftFailsWithAllDriftsNamedAndWritesNothing(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("a", "https://a/"), bedrockIn("b", "us-east-1"), openAI("c", "https://c/")}, false, quiet)
	require.NoError(t, err)
	before := contents(t, pool)
	seeded := listen(t, config, pubsub.Seeds)

	plan, err := seed.Seed(t.Context(), pool, []provider.Desired{
		openAI("a", "https://user:pw@other/"), bedrockIn("b", "eu-west-1"), openAI("c", "https://c/"), openAI("new", "https://new/", "key"),
	}, false, quiet)
	var drift *seed.DriftError
	require.ErrorAs(t, err, &drift)
	require.True(t, drift.Comparable())
	require.Equal(t, 2, plan.Count(seed.Drifted))
	message := err.Error()
	for _, want := range []string{
		`AI provider "a" already exists in the database and differs from the current environment configuration`,
		`AI provider "b" already exists in the database and differs from the current environment configuration`,
		`base_url (environment "https://other/", database "https://a/")`,
		`bedrock_region (environment "eu-west-1", database "us-east-1")`,
		`worker resolve a --take env`, `worker resolve a --take db`, `worker resolve b --take db`,
	} {
		require.Contains(t, message, want)
	}
	require.NotContains(t, message, "pw")
	require.Equal(t, before, contents(t, pool), "nothing of this boot is written")
	require.Empty(t, seeded())

	plan, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("a", "https://other/"), openAI("new", "https://new/", "key")}, true, quiet)
	require.NoError(t, err, "drift is tolerated")
	require.Equal(t, 1, plan.Count(seed.Insert))
	require.Equal(t, []string{"https://a/", "https://new/"}, lines(t, pool, `SELECT base_url FROM public.ai_providers WHERE name IN ('a', 'new') ORDER BY 1`))
}

func TestARowThatCannotBeDecodedIsAnErrorForThatProviderAndNeverEqual(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"not JSON":                "not json, and a secret",
		"another version":         `{"_type":"bedrock","_version":2,"region":"us-east-1"}`,
		"an unknown type":         `{"_type":"vertex","_version":1}`,
		"a region with a NUL":     `{"_type":"bedrock","_version":1,"region":"us\u0000"}`,
		"the wrong type of value": `{"_type":"bedrock","_version":1,"region":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, _ := pgtest.NewPool(t)
			_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, settings) VALUES
				(gen_random_uuid(), 'anthropic', 'broken', 'https://h/', $1),
				(gen_random_uuid(), 'openai', 'without', 'https://h/', $1),
				(gen_random_uuid(), 'anthropic', 'not-ours', 'https://h/', $1)`, settings)
			require.NoError(t, err)
			before := contents(t, pool)
			desired := []provider.Desired{anthropic("broken", "https://h/"), openAI("new", "https://h/"), openAI("without", "https://h/")}
			_, err = seed.Seed(t.Context(), pool, desired, false, quiet)
			var drift *seed.DriftError
			require.ErrorAs(t, err, &drift)
			require.False(t, drift.Comparable())
			require.Len(t, drift.Steps, 1, "the hash of the type openai needs no settings")
			require.Contains(t, err.Error(), `AI provider "broken" already exists in the database and cannot be compared`)
			require.NotContains(t, err.Error(), "secret")
			require.NotContains(t, err.Error(), "not-ours")
			require.Equal(t, before, contents(t, pool))
		})
	}
	t.Run("an unknown key id", func(t *testing.T) {
		t.Parallel()
		pool, _ := pgtest.NewPool(t)
		_, err := pool.Exec(t.Context(), `INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES (1, 'key-7', '')`)
		require.NoError(t, err)
		_, err = pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, settings, settings_key_id) VALUES
			(gen_random_uuid(), 'anthropic', 'broken', 'https://h/', 'ciphertext', 'key-7'),
			(gen_random_uuid(), 'openai', 'without', 'https://h/', 'ciphertext', 'key-7')`)
		require.NoError(t, err)
		_, err = seed.Seed(t.Context(), pool, []provider.Desired{anthropic("broken", "https://h/"), openAI("without", "https://h/")}, false, quiet)
		require.Len(t, err.(*seed.DriftError).Steps, 1)
		require.ErrorIs(t, err.(*seed.DriftError).Steps[0].Observation.Unreadable, dbcrypt.ErrUnknownKey)
	})
}

func TestSoftDeletedStaysDeletedAndALiveRowBeatsIt(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, deleted) VALUES
		(gen_random_uuid(), 'openai', 'gone', 'https://h/', true),
		(gen_random_uuid(), 'openai', 'gone', 'https://older/', true),
		(gen_random_uuid(), 'openai', 'back', 'https://old/', true),
		(gen_random_uuid(), 'openai', 'back', 'https://h/', false)`)
	require.NoError(t, err)
	rows := lines(t, pool, `SELECT to_jsonb(r)::text FROM public.ai_providers r ORDER BY id`)
	for range 2 {
		plan, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("back", "https://h/"), openAI("gone", "https://h/", "key")}, false, quiet)
		require.NoError(t, err)
		require.Equal(t, seed.Unchanged, plan.Steps[0].Action)
		require.Equal(t, seed.StickyDeleted, plan.Steps[1].Action)
		require.Equal(t, rows, lines(t, pool, `SELECT to_jsonb(r)::text FROM public.ai_providers r ORDER BY id`))
		require.Empty(t, lines(t, pool, `SELECT id::text FROM public.ai_provider_keys UNION ALL SELECT id::text FROM provwatch.audit_outbox`))
	}
}

func TestARollbackLeavesNothing(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	seeded, changed := listen(t, config, pubsub.Seeds), listen(t, config, pubsub.ProvidersChanged)
	// The last thing that a seed writes fails: everything before it has been
	// written by then.
	_, err := pool.Exec(t.Context(), `
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused %', NEW; END $$;
		CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON public.ai_provider_keys DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION refuse()`)
	require.NoError(t, err)
	before := contents(t, pool)
	_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://h/", "key-of-the-failing-row")}, false, quiet)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "key-of-the-failing-row", "an error from a trigger can quote the row")
	require.Equal(t, before, contents(t, pool))
	require.Empty(t, seeded())
	require.Empty(t, changed())
}

func TestASeedWaitsForTheAdvisoryLock(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, seed.Lock)
	require.NoError(t, err)

	limited, cancel := context.WithCancel(t.Context())
	defer cancel()
	seeding := make(chan error, 1)
	go func() {
		_, err := seed.Seed(limited, pool, []provider.Desired{openAI("gpt", "https://h/")}, false, quiet)
		seeding <- err
	}()
	waittest.Until(t, func() bool {
		var waits bool
		require.NoError(t, tx.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waits))
		return waits
	}, "the seed waits")
	cancel()
	require.ErrorIs(t, waittest.Receive(t, seeding, "the seed ends"), context.Canceled)
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://h/")}, false, quiet)
	require.NoError(t, err)
}

func TestASeedOfManyProvidersIsPipelinedAndNotARoundTripARow(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	const providers = 12_000 // more than two chunks
	var desired []provider.Desired
	for i := range providers {
		desired = append(desired, openAI(fmt.Sprintf("p-%05d", i), "https://h/", fmt.Sprintf("key-%d", i)))
	}
	var statements int
	counting := pool.Config()
	counting.ConnConfig.Tracer = batchCounter{&statements}
	counted, err := pgxpool.NewWithConfig(t.Context(), counting)
	require.NoError(t, err)
	defer counted.Close()
	_, err = seed.Seed(t.Context(), counted, desired, false, quiet)
	require.NoError(t, err)
	require.Equal(t, []string{"12000 12000 24000"}, lines(t, pool, `SELECT concat_ws(' ', (SELECT count(*) FROM public.ai_providers),
		(SELECT count(*) FROM public.ai_provider_keys), (SELECT count(*) FROM provwatch.audit_outbox))`))
	require.Less(t, statements, 20, "round trips of a seed")
}

// batchCounter counts round trips: queries and batches.
type batchCounter struct{ n *int }

func (c batchCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	*c.n++
	return ctx
}
func (batchCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c batchCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	*c.n++
	return ctx
}
func (batchCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (batchCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func TestADatabaseWhoseEnumLacksATypeGetsTheOtherProvidersOnly(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := pool.Exec(t.Context(), `
		ALTER TYPE public.ai_provider_type RENAME TO former;
		CREATE TYPE public.ai_provider_type AS ENUM ('openai', 'copilot');
		ALTER TABLE public.ai_providers ALTER COLUMN type TYPE public.ai_provider_type USING type::text::public.ai_provider_type`)
	require.NoError(t, err)
	plan, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrockIn("aws", "us-east-1"), openAI("gpt", "https://h/")}, false, quiet)
	require.NoError(t, err)
	require.Equal(t, seed.Unsupported, plan.Steps[0].Action)
	require.Equal(t, []string{"gpt"}, lines(t, pool, `SELECT name FROM public.ai_providers`))
	require.Len(t, plan.Supported(), 1)
}

func TestADryRunOfAnEmptyDatabaseSkipsTheTypesThatTheMigrationDoesNotMake(t *testing.T) {
	t.Parallel()
	var desired []provider.Desired
	for _, kind := range provider.Types() {
		desired = append(desired, provider.Desired{Name: string(kind), Type: kind, BaseURL: "https://h/"})
	}
	config, err := postgres.ParseURL(pgtest.NewDatabase(t))
	require.NoError(t, err)
	empty, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer empty.Close()
	migrated, _ := pgtest.NewPool(t)
	foretold, err := seed.DryRun(t.Context(), empty, desired, false)
	require.NoError(t, err)
	done, err := seed.Seed(t.Context(), migrated, desired, false, quiet)
	require.NoError(t, err)
	var inserted []string
	for i, step := range done.Steps {
		require.Equal(t, step.Action, foretold.Steps[i].Action, step.Desired.Name)
		if step.Action == seed.Insert {
			inserted = append(inserted, step.Desired.Name)
		}
	}
	require.Equal(t, []string{"anthropic", "openai"}, inserted)
}

func TestAnAcceptedDriftHoldsOnlyWhileBothHashesStayAsTheyWere(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://h/")}, false, quiet)
	require.NoError(t, err)
	env, db := openAI("gpt", "https://env/").Canonical().Hash(), openAI("gpt", "https://h/").Canonical().Hash()
	_, err = pool.Exec(t.Context(), `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		VALUES ('gpt', 'changed', $1, $2, 'test')`, env, db)
	require.NoError(t, err)

	plan, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://env/")}, false, quiet)
	require.NoError(t, err)
	require.Equal(t, seed.Accepted, plan.Steps[0].Action)

	_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://env-2/")}, false, quiet)
	require.Error(t, err, "the environment changed")
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://db-2/'`)
	require.NoError(t, err)
	_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://env/")}, false, quiet)
	require.Error(t, err, "the database changed")
	require.True(t, strings.Contains(err.Error(), `"https://db-2/"`))
}

// TestTriggersOfAnotherProgramResolveNamesByTheSearchPath puts triggers on the tables
// whose functions name a table without its schema, one that is deferred included.
func TestTriggersOfAnotherProgramResolveNamesByTheSearchPath(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := pool.Exec(t.Context(), `
		CREATE TABLE public.written (by text);
		CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO written VALUES (TG_NAME); RETURN NEW; END $$;
		CREATE TRIGGER before_insert BEFORE INSERT ON public.ai_providers FOR EACH ROW EXECUTE FUNCTION public.note();
		CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON public.ai_provider_keys DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION public.note()`)
	require.NoError(t, err)
	_, err = seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://h/", "key")}, false, quiet)
	require.NoError(t, err)
	require.Equal(t, []string{"before_insert", "deferred"}, lines(t, pool, `SELECT by FROM public.written ORDER BY by`))
	require.Equal(t, []string{"pg_catalog, pg_temp"}, lines(t, pool, `SELECT current_setting('search_path')`))
}
