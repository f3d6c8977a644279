//go:build e2e

package schema_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/schema"
)

// TestFormerSchema migrates a database whose schema has a function that runs as its owner,
// and whose audit entries are numbered by the outbox.
func TestFormerSchema(t *testing.T) {
	t.Parallel()
	conn := prepared(t, "gateway")
	former, err := os.ReadFile("testdata/before_migration_7.sql")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), string(former)+`
		CREATE TABLE public.of_another (seq bigint);
		CREATE TRIGGER hung AFTER DELETE ON public.of_another REFERENCING OLD TABLE AS pruned
			FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('drift');
		-- A gap is a transaction that was rolled back, and the last seq is no delivery's.
		INSERT INTO provwatch.audit_log (id, seq, occurred_at, actor, action, provider, details)
		SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, s, now(), 'a', 'b', 'p' || n, '{}'
		FROM unnest('{3, 4, 9, 9223372036854775807}'::bigint[]) WITH ORDINALITY AS u (s, n);
		INSERT INTO provwatch.sink_cursors (sink, stream, seq) VALUES ('webhook', 'audit', 5), ('webhook', 'drift', 5), ('nats', 'audit', 9223372036854775807);
		INSERT INTO provwatch.sink_dead_letters (sink, stream, seq, event_id, provider, reason, attempts)
		VALUES ('nats', 'audit', 9, '00000000-0000-0000-0000-000000000003', 'p3', 'x', 1), ('nats', 'audit', 1, gen_random_uuid(), 'gone', 'x', 1);
		-- Longer than what can be staged from now on: delivered before, and not yet.
		UPDATE provwatch.audit_log SET details = jsonb_build_object('a', repeat('x', 300000)) WHERE seq = 3;
		INSERT INTO provwatch.audit_outbox (id, occurred_at, actor, action, provider, details)
		VALUES (gen_random_uuid(), now(), 'a', 'b', 'staged', jsonb_build_object('a', repeat('x', 300000)))`)
	require.NoError(t, err)

	_, after, err := schema.Migrate(t.Context(), conn.Config(), schema.Needs{Triggers: true, Publication: true, Existing: true})
	require.NoError(t, err)
	require.Empty(t, after.Pending)
	require.Equal(t, []string{"ai_provider_keys_api_key_key_id_fkey", "ai_providers_settings_key_id_fkey"},
		lines(t, conn, `SELECT conname::text FROM pg_constraint WHERE confrelid = 'gateway.dbcrypt_keys'::regclass ORDER BY 1`))
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), string(script))
	require.NoError(t, err)

	require.Equal(t, listed(t), readCatalog(t, conn))
	require.Empty(t, lines(t, conn, `SELECT relname::text FROM pg_class WHERE relname = 'sink_gaps'`))
	require.Equal(t, []string{"1 p1", "2 p2", "3 p3", "4 p4"}, lines(t, conn, `SELECT seq || ' ' || provider FROM provwatch.audit_log ORDER BY seq`))
	require.Equal(t, []string{"p1"}, lines(t, conn, `SELECT provider FROM provwatch.audit_log WHERE length(details::text) > 300000`))
	require.Equal(t, []string{"staged {}"}, lines(t, conn, `SELECT provider || ' ' || details FROM provwatch.audit_outbox`), "it can be delivered")
	require.Equal(t, []string{"4"}, lines(t, conn, `SELECT last_seq::text FROM provwatch.audit_counter`))
	require.Equal(t, []string{"nats audit 4", "webhook audit 2", "webhook drift 5"}, lines(t, conn, `SELECT concat_ws(' ', sink, stream, seq) FROM provwatch.sink_cursors ORDER BY 1`))
	require.Equal(t, []string{"gone 1", "p3 3"}, lines(t, conn, `SELECT concat_ws(' ', provider, seq) FROM provwatch.sink_dead_letters ORDER BY 1`))
}
