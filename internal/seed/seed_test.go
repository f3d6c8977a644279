package seed_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
)

func TestSeedRun(t *testing.T) {
	t.Parallel()
	t.Run("InsertsMissing", testSeedRunInsertsMissing)
	t.Run("SecondWritesNothing", testSeedRunSecondWritesNothing)
	t.Run("PublishesNothing", testSeedRunPublishesNothing)
	t.Run("Announced", testSeedRunAnnounced)
	t.Run("Rollback", testSeedRunRollback)
	t.Run("Pipelined", testSeedRunPipelined)
}

func testSeedRunInsertsMissing(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	seeded := listen(t, config, pubsub.Seeds)
	desired := []provider.Desired{
		bedrockIn("aws", "us-east-1"),
		openAI("gpt", "https://user:pw@h/v1?q=1", "sk-0123456789abcdef-first", "sk-0123456789abcdef-other"),
	}
	plan, err := seed.Seed(t.Context(), pool, desired, false, quiet)
	require.NoError(t, err)
	require.Equal(t, 2, plan.Count(drift.ActionInsert))

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

// testSeedRunSecondWritesNothing checks that a second seed writes nothing, though keys and
// models were rotated.
func testSeedRunSecondWritesNothing(t *testing.T) {
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
	require.Equal(t, 2, plan.Count(drift.ActionUnchanged))
	require.Equal(t, before, contents(t, pool))
}

// testSeedRunPublishesNothing checks that a seed publishes nothing on
// ai_providers_changed.
func testSeedRunPublishesNothing(t *testing.T) {
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

// testSeedRunAnnounced checks that a seed that inserts is announced on request.
func testSeedRunAnnounced(t *testing.T) {
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

func testSeedRunRollback(t *testing.T) {
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

// testSeedRunPipelined checks that a seed of many providers takes no round trip for each
// row.
func testSeedRunPipelined(t *testing.T) {
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
	require.Less(t, statements, 24, "round trips of a seed, a few for each 5,000 providers")
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

func (batchCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func TestSeedTypes(t *testing.T) {
	t.Parallel()
	t.Run("NotInTheEnum", testSeedTypesNotInTheEnum)
	t.Run("DryRunOfEmptyDatabase", testSeedTypesDryRunOfEmptyDatabase)
}

// testSeedTypesNotInTheEnum checks that a database whose enum lacks a type gets the other
// providers.
func testSeedTypesNotInTheEnum(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := pool.Exec(t.Context(), `
		ALTER TYPE public.ai_provider_type RENAME TO former;
		CREATE TYPE public.ai_provider_type AS ENUM ('openai', 'copilot');
		ALTER TABLE public.ai_providers ALTER COLUMN type TYPE public.ai_provider_type USING type::text::public.ai_provider_type`)
	require.NoError(t, err)
	plan, err := seed.Seed(t.Context(), pool, []provider.Desired{bedrockIn("aws", "us-east-1"), openAI("gpt", "https://h/")}, false, quiet)
	require.NoError(t, err)
	require.Equal(t, drift.ActionUnsupported, plan.Steps[0].Action)
	require.Equal(t, []string{"gpt"}, lines(t, pool, `SELECT name FROM public.ai_providers`))
	require.Len(t, plan.Supported(), 1)
}

// testSeedTypesDryRunOfEmptyDatabase checks that a dry run skips the types that the
// migration does not make.
func testSeedTypesDryRunOfEmptyDatabase(t *testing.T) {
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
	foretold, err := seed.DryRun(t.Context(), empty, desired)
	require.NoError(t, err)
	done, err := seed.Seed(t.Context(), migrated, desired, false, quiet)
	require.NoError(t, err)
	var inserted []string
	for i, step := range done.Steps {
		require.Equal(t, step.Action, foretold.Steps[i].Action, step.Desired.Name)
		if step.Action == drift.ActionInsert {
			inserted = append(inserted, step.Desired.Name)
		}
	}
	require.Equal(t, []string{"anthropic", "openai"}, inserted)
}

// TestForeignTriggers puts triggers on the tables whose functions name a table without its
// schema, a deferred trigger included.
func TestForeignTriggers(t *testing.T) {
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
