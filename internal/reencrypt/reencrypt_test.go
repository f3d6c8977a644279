package reencrypt_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/atrest"
	"provwatch/internal/atrest/atresttest"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/reencrypt"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// promoteAnother adds a key to the keyset and makes it the primary one.
func promoteAnother(t *testing.T, path string, keys *atrest.Keyset) {
	t.Helper()
	id, err := atrest.Add(path)
	require.NoError(t, err)
	require.NoError(t, atrest.Promote(path, id))
	require.NoError(t, keys.Reload())
	require.Equal(t, id, keys.Primary())
}

// seeded returns a database with n Bedrock providers and n that have two keys,
// stored with the keys given.
func seeded(t *testing.T, n int, keys seed.Keys) *pgxpool.Pool {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	var desired []provider.Desired
	for i := range n {
		desired = append(desired,
			provider.Desired{Name: fmt.Sprintf("aws-%d", i), Type: provider.Anthropic, Bedrock: &provider.Bedrock{
				Region: "eu-west-1", AccessKey: secret.New("AKIA-plain"), AccessKeySecret: secret.New(fmt.Sprintf("secret-%d", i)),
			}},
			provider.Desired{Name: fmt.Sprintf("gpt-%d", i), Type: provider.OpenAI, BaseURL: "https://h/",
				Keys: []secret.Text{secret.New(fmt.Sprintf("sk-plain-%d-a", i)), secret.New(fmt.Sprintf("sk-plain-%d-b", i))}})
	}
	_, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	exec(t, pool, `DELETE FROM provwatch.audit_outbox`)
	return pool
}

func exec(t *testing.T, pool *pgxpool.Pool, query string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), query, args...)
	require.NoError(t, err)
}

func count(t *testing.T, pool *pgxpool.Pool, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}

// contents returns everything that is stored as a secret, decrypted, by its row's
// id, and the ids of the keys that it is stored with.
func contents(t *testing.T, pool *pgxpool.Pool, keys *atrest.Keyset) (plain map[uuid.UUID]string, keyIDs map[string]int) {
	t.Helper()
	plain, keyIDs = map[uuid.UUID]string{}, map[string]int{}
	rows, err := pool.Query(t.Context(), `
		SELECT true, id, settings, coalesce(settings_key_id, '') FROM public.ai_providers WHERE settings IS NOT NULL
		UNION ALL SELECT false, id, api_key, coalesce(api_key_key_id, '') FROM public.ai_provider_keys`)
	require.NoError(t, err)
	var ofProvider bool
	var id uuid.UUID
	var stored secret.Text
	var keyID string
	_, err = pgx.ForEachRow(rows, []any{&ofProvider, &id, &stored, &keyID}, func() error {
		at := atrest.KeyOf(id)
		if ofProvider {
			at = atrest.SettingsOf(id)
		}
		opened, err := keys.Open(stored, keyID, at)
		plain[id] = string(opened)
		keyIDs[keyID]++
		return err
	})
	require.NoError(t, err)
	return plain, keyIDs
}

func TestRotatingReencryptsEverythingAndChangesNothingElse(t *testing.T) {
	t.Parallel()
	path, keys := atresttest.NewKeyset(t)
	none, err := atrest.Load("")
	require.NoError(t, err)
	// More than one batch.
	pool := seeded(t, 150, none)
	exec(t, pool, `UPDATE public.ai_providers SET deleted = true WHERE name = 'aws-7'`)
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false WHERE name = 'gpt-7'`)
	exec(t, pool, `UPDATE public.ai_providers SET settings = '' WHERE name = 'gpt-8'`)
	// An empty key id means plain text as well, here of nothing.
	exec(t, pool, `UPDATE public.ai_providers SET settings_key_id = '' WHERE name IN ('gpt-8', 'gpt-9')`)
	before, keyIDs := contents(t, pool, keys)
	require.Equal(t, map[string]int{"": 451}, keyIDs)
	const rest = `SELECT md5(string_agg(row::text, ' ' ORDER BY id)) FROM (
		SELECT id, to_jsonb(p) - '{settings,settings_key_id}'::text[] AS row FROM public.ai_providers p
		UNION ALL SELECT id, to_jsonb(k) - '{api_key,api_key_key_id}'::text[] FROM public.ai_provider_keys k) AS everything`
	var restBefore, restAfter string
	require.NoError(t, pool.QueryRow(t.Context(), rest).Scan(&restBefore))

	for i, stale := range []int{450, 450, 0} {
		if i == 1 {
			promoteAnother(t, path, keys)
		}
		summary, err := reencrypt.Rotate(t.Context(), pool, keys, "operator:test", quiet)
		require.NoError(t, err)
		require.NoError(t, summary.Err())
		require.Equal(t, stale, summary.Settings+summary.APIKeys)
		after, keyIDs := contents(t, pool, keys)
		require.Equal(t, before, after)
		require.Equal(t, map[string]int{keys.Primary(): 450, "": 1}, keyIDs)
		require.NoError(t, pool.QueryRow(t.Context(), rest).Scan(&restAfter))
		require.Equal(t, restBefore, restAfter, "updated_at and everything else stay")
		require.Equal(t, 300*min(i+1, 2), count(t, pool, `SELECT count(*) FROM provwatch.audit_outbox`))
		require.Equal(t, min(stale, 300), count(t, pool, `SELECT count(DISTINCT provider) FROM provwatch.audit_outbox
			WHERE action = 'provider.reencrypt' AND actor = 'operator:test' AND details = jsonb_build_object('encryption_key_id', $1::text)
				AND $2`, keys.Primary(), stale > 0), "an entry for each provider")
	}

	summary, err := reencrypt.Decrypt(t.Context(), pool, keys, "operator:test", quiet)
	require.NoError(t, err)
	require.Equal(t, 450, summary.Settings+summary.APIKeys)
	after, keyIDs := contents(t, pool, none)
	require.Equal(t, before, after)
	require.Equal(t, map[string]int{"": 451}, keyIDs)
	require.Equal(t, 300, count(t, pool, `SELECT count(*) FROM provwatch.audit_outbox WHERE action = 'provider.decrypt'`))
}

func TestWhatCannotBeDecryptedIsReportedAndLeftWhileTheRestIsDone(t *testing.T) {
	t.Parallel()
	path, keys := atresttest.NewKeyset(t)
	pool := seeded(t, 3, keys)
	former := keys.Primary()
	promoteAnother(t, path, keys)
	exec(t, pool, `UPDATE public.ai_providers SET settings = (SELECT settings FROM public.ai_providers WHERE name = 'aws-1') WHERE name = 'aws-0'`)
	exec(t, pool, `UPDATE public.ai_provider_keys SET api_key_key_id = '7' FROM public.ai_providers p WHERE p.id = provider_id AND name = 'gpt-0'`)
	exec(t, pool, `UPDATE public.ai_providers SET settings_key_id = 'gone' WHERE name = 'gpt-1'`) // without settings
	for range 2 {
		summary, err := reencrypt.Rotate(t.Context(), pool, keys, "operator:test", quiet)
		require.NoError(t, err)
		require.ErrorContains(t, summary.Err(), "3 providers cannot be decrypted")
		require.Len(t, summary.Failures, 3)
		require.Equal(t, "aws-0", summary.Failures[0].Provider)
		require.Contains(t, summary.Failures[0].Reason, former)
		require.Equal(t, "gpt-0", summary.Failures[1].Provider)
		require.Contains(t, summary.Failures[1].Reason, `"7" (api_key_key_id)`)
		require.Equal(t, "gpt-1", summary.Failures[2].Provider)
		require.Contains(t, summary.Failures[2].Reason, `"gone" (settings_key_id)`)
		require.Equal(t, 2, count(t, pool, `SELECT count(*) FROM public.ai_providers WHERE settings_key_id = $1`, keys.Primary()))
		require.Equal(t, 4, count(t, pool, `SELECT count(*) FROM public.ai_provider_keys WHERE api_key_key_id = $1`, keys.Primary()))
		require.Equal(t, 1, count(t, pool, `SELECT count(*) FROM public.ai_providers WHERE settings_key_id = $1`, former))
		require.Equal(t, 2, count(t, pool, `SELECT count(*) FROM public.ai_provider_keys WHERE api_key_key_id = '7'`))
	}
	require.Equal(t, 4, count(t, pool, `SELECT count(*) FROM provwatch.audit_outbox`), "no entry for what was not written")
}

// TestARowThatSomebodyHoldsIsNotWaitedFor also is the proof that nobody waits for
// a rotation that waits for somebody else.
func TestARowThatSomebodyHoldsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	_, keys := atresttest.NewKeyset(t)
	none, err := atrest.Load("")
	require.NoError(t, err)
	pool := seeded(t, 2, none)
	writer, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = writer.Exec(t.Context(), `UPDATE public.ai_providers SET base_url = 'https://writer/' WHERE name = 'aws-0'`)
	require.NoError(t, err)

	summary, err := reencrypt.Rotate(t.Context(), pool, keys, "operator:test", quiet)
	require.NoError(t, err)
	require.Equal(t, 1, summary.Left)
	require.ErrorContains(t, summary.Err(), "run it again")
	require.Equal(t, []int{1, 4}, []int{summary.Settings, summary.APIKeys})

	require.NoError(t, writer.Commit(t.Context()))
	summary, err = reencrypt.Rotate(t.Context(), pool, keys, "operator:test", quiet)
	require.NoError(t, err)
	require.NoError(t, summary.Err())
	require.Equal(t, 1, count(t, pool, `SELECT count(*) FROM public.ai_providers WHERE name = 'aws-0' AND base_url = 'https://writer/' AND settings_key_id IS NOT NULL`))
}

func TestWhatIsWrittenWithAnotherKeyBehindARotationIsFoundByIt(t *testing.T) {
	t.Parallel()
	_, keys := atresttest.NewKeyset(t)
	none, err := atrest.Load("")
	require.NoError(t, err)
	// Whenever keys are encrypted, another is stored in plain text where the rotation
	// has just been, until there are as many.
	const behind = `
		CREATE FUNCTION write_behind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'sk-late' FROM public.ai_providers
			WHERE name = 'gpt-0' AND (SELECT count(*) FROM public.ai_provider_keys) < %d;
			RETURN NULL;
		END $$;
		CREATE TRIGGER write_behind AFTER UPDATE ON public.ai_provider_keys FOR EACH STATEMENT EXECUTE FUNCTION write_behind()`
	for name, test := range map[string]struct {
		keys int
		err  string
	}{
		"a writer that stops":   {keys: 5},
		"a writer that goes on": {keys: 1000, err: "others are writing to 1 row, or have written with another key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := seeded(t, 1, none)
			exec(t, pool, fmt.Sprintf(behind, test.keys))
			summary, err := reencrypt.Rotate(t.Context(), pool, keys, "operator:test", quiet)
			require.NoError(t, err)
			plain := count(t, pool, `SELECT count(*) FROM public.ai_provider_keys WHERE api_key_key_id IS NULL`)
			if test.err != "" {
				require.ErrorContains(t, summary.Err(), test.err)
				require.Equal(t, 1, plain)
				return
			}
			require.NoError(t, summary.Err())
			require.Zero(t, plain)
			require.Equal(t, test.keys, summary.APIKeys)
		})
	}
}

// parameters is a tracer that notes the parameters of all statements.
type parameters struct{ text strings.Builder }

func (p *parameters) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	for _, arg := range q.Args {
		// Byte arrays are noted as text as well.
		_, _ = fmt.Fprintf(&p.text, "%v %q\n", arg, arg)
	}
	return ctx
}

func (p *parameters) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestARotationSendsNoPlainTextThatTheServerCouldLog(t *testing.T) {
	t.Parallel()
	_, keys := atresttest.NewKeyset(t)
	none, err := atrest.Load("")
	require.NoError(t, err)
	pool := seeded(t, 1, none)
	var sent parameters
	config := pool.Config()
	config.ConnConfig.Tracer = &sent
	config.MaxConns = 1
	traced, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer traced.Close()
	summary, err := reencrypt.Rotate(t.Context(), traced, keys, "operator:test", quiet)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, []int{summary.Settings, summary.APIKeys})
	require.NotContains(t, sent.text.String(), "plain")
	_, err = reencrypt.Decrypt(t.Context(), traced, keys, "operator:test", quiet)
	require.NoError(t, err)
	require.Contains(t, sent.text.String(), "sk-plain-0-a", "the tracer sees what is sent")
}

// gateway writes for as long as ctx lasts, as a gateway does that has the keyset,
// each statement with a lock_timeout: it fails if one has to wait for long.
type gateway struct {
	pool *pgxpool.Pool
	keys *atrest.Keyset

	writes   int
	keyOf    map[uuid.UUID]string // the plain text last written to each key's row
	settings map[uuid.UUID]string
	baseURLs map[uuid.UUID]string
}

func (g *gateway) run(ctx context.Context, providers, keyRows []uuid.UUID) error {
	conn, err := g.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SET lock_timeout = '10s'`); err != nil {
		return err
	}
	// A statement that has begun is finished: then it is known what is stored.
	whole := context.WithoutCancel(ctx)
	for n := 0; ctx.Err() == nil; n++ {
		id, key := providers[n%len(providers)], keyRows[n%len(keyRows)]
		plain := fmt.Sprintf("rotated-%d", n)
		stored, keyID, err := g.keys.SealKey(key, secret.New(plain))
		if err != nil {
			return err
		}
		if _, err := conn.Exec(whole, `UPDATE public.ai_provider_keys SET api_key = $2, api_key_key_id = $3 WHERE id = $1`, key, stored, keyID); err != nil {
			return err
		}
		g.keyOf[key] = plain
		settings := (provider.Bedrock{Region: "eu-west-1", AccessKeySecret: secret.New(plain)}).Encode()
		if stored, keyID, err = g.keys.SealSettings(id, settings); err != nil {
			return err
		}
		if _, err := conn.Exec(whole, `UPDATE public.ai_providers SET settings = $2, settings_key_id = $3 WHERE id = $1`, id, stored, keyID); err != nil {
			return err
		}
		g.settings[id] = settings.Reveal()
		other := providers[(n*7)%len(providers)]
		baseURL := fmt.Sprintf("https://h/%d", n)
		if _, err := conn.Exec(whole, `UPDATE public.ai_providers SET base_url = $2 WHERE id = $1`, other, baseURL); err != nil {
			return err
		}
		g.baseURLs[other] = baseURL
		g.writes += 3
	}
	return nil
}

func TestRotationsAndWritersAtOnceLoseNoUpdateAndMakeNobodyWait(t *testing.T) {
	t.Parallel()
	path, keys := atresttest.NewKeyset(t)
	pool := seeded(t, 150, keys)
	before, _ := contents(t, pool, keys)
	list := func(query string) []uuid.UUID {
		rows, err := pool.Query(t.Context(), query)
		require.NoError(t, err)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		require.NoError(t, err)
		return ids
	}
	providers, keyRows := list(`SELECT id FROM public.ai_providers WHERE settings IS NOT NULL ORDER BY name`), list(`SELECT id FROM public.ai_provider_keys ORDER BY id`)
	config := pool.Config()
	config.MaxConns = 8
	shared, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer shared.Close()

	g := &gateway{pool: shared, keys: keys, keyOf: map[uuid.UUID]string{}, settings: map[uuid.UUID]string{}, baseURLs: map[uuid.UUID]string{}}
	writing, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var failed error
	group.Go(func() { failed = g.run(writing, providers, keyRows) })
	for range 5 {
		promoteAnother(t, path, keys)
		var rotations sync.WaitGroup
		failed := make([]error, 2)
		for i := range failed {
			rotations.Go(func() {
				summary, err := reencrypt.Rotate(t.Context(), shared, keys, "operator:test", quiet)
				failed[i] = errors.Join(err, summary.Err())
			})
		}
		rotations.Wait()
		require.NoError(t, errors.Join(failed...))
	}
	stop()
	group.Wait()
	require.NoError(t, failed, "a writer waited for a lock")
	require.Greater(t, g.writes, 50)
	// The gateway may have written with the key that was the primary one when it
	// encrypted.
	_, err = reencrypt.Rotate(t.Context(), shared, keys, "operator:test", quiet)
	require.NoError(t, err)

	after, keyIDs := contents(t, pool, keys)
	require.Equal(t, map[string]int{keys.Primary(): 450}, keyIDs)
	for id, plain := range g.keyOf {
		before[id] = plain
	}
	for id, plain := range g.settings {
		before[id] = plain
	}
	require.Equal(t, before, after)
	for id, baseURL := range g.baseURLs {
		require.Equal(t, 1, count(t, pool, `SELECT count(*) FROM public.ai_providers WHERE id = $1 AND base_url = $2`, id, baseURL))
	}
}

func TestAWriterThatComesFirstIsNeverOverwritten(t *testing.T) {
	t.Parallel()
	_, keys := atresttest.NewKeyset(t)
	none, err := atrest.Load("")
	require.NoError(t, err)
	pool := seeded(t, 1, none)
	// Whatever a transaction sees by default.
	exec(t, pool, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$`)
	// The rotation has read, and waits for the seed lock, while the gateway writes.
	holder, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, seed.Lock)
	require.NoError(t, err)
	config := pool.Config()
	rotating, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer rotating.Close()
	done := make(chan error, 1)
	go func() {
		summary, err := reencrypt.Rotate(t.Context(), rotating, keys, "operator:test", quiet)
		done <- errors.Join(err, summary.Err())
	}()
	waittest.Until(t, func() bool {
		return count(t, pool, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	}, "the rotation waits for the lock")
	exec(t, pool, `UPDATE public.ai_provider_keys SET api_key = 'rotated by the gateway'`)
	exec(t, pool, `UPDATE public.ai_providers SET settings = '{"_type":"bedrock","_version":1,"region":"moved"}' WHERE settings IS NOT NULL`)
	require.NoError(t, holder.Commit(t.Context()))
	require.NoError(t, <-done)
	plain, keyIDs := contents(t, pool, keys)
	require.Equal(t, map[string]int{keys.Primary(): 3}, keyIDs)
	for _, text := range plain {
		require.Contains(t, []string{"rotated by the gateway", `{"_type":"bedrock","_version":1,"region":"moved"}`}, text)
	}
}
