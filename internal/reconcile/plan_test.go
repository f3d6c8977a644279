package reconcile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/secret"
)

// theirs makes the provider tables those of a gateway that has more columns and
// types than provwatch knows, and records what is written to them: for each
// UPDATE the columns that it names, and every row that is inserted or deleted.
const theirs = `
	ALTER TABLE ai_providers ADD icon text NOT NULL DEFAULT '', ADD extra jsonb;
	ALTER TABLE ai_provider_keys ADD note text NOT NULL DEFAULT '';
	CREATE TABLE written (seq bigint GENERATED ALWAYS AS IDENTITY, what text NOT NULL);
	CREATE FUNCTION record_write() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.written (what) VALUES (TG_ARGV[0]);
		RETURN NULL;
	END $$;
	DO $$
	DECLARE
		named record;
	BEGIN
		FOR named IN SELECT attrelid::regclass AS of_table, attname AS column FROM pg_attribute
			WHERE attrelid IN ('ai_providers'::regclass, 'ai_provider_keys'::regclass) AND attnum > 0 AND NOT attisdropped
		LOOP
			EXECUTE format('CREATE TRIGGER %I AFTER UPDATE OF %I ON %s FOR EACH ROW EXECUTE FUNCTION record_write(%L)',
				'write_' || named.column, named.column, named.of_table, named.of_table || '.' || named.column);
		END LOOP;
	END $$;
	CREATE TRIGGER write_row AFTER INSERT OR DELETE ON ai_providers FOR EACH ROW EXECUTE FUNCTION record_write('row');
	CREATE TRIGGER write_row AFTER INSERT OR DELETE ON ai_provider_keys FOR EACH ROW EXECUTE FUNCTION record_write('key');`

// newGateway returns a database with a gateway's tables.
func newGateway(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, config := pgtest.NewPool(t)
	// As the gateway, which has a search path of its own.
	plain := config.ConnConfig.Copy()
	plain.AfterConnect = nil
	plain.RuntimeParams["search_path"] = "public"
	gateway, err := pgx.ConnectConfig(t.Context(), plain)
	require.NoError(t, err)
	for _, kind := range []string{"azure", "bedrock", "google", "openai-compat", "openrouter", "vercel", "copilot"} {
		_, err := gateway.Exec(t.Context(), `ALTER TYPE ai_provider_type ADD VALUE '`+kind+`'`)
		require.NoError(t, err)
	}
	_, err = gateway.Exec(t.Context(), theirs)
	require.NoError(t, err)
	require.NoError(t, gateway.Close(t.Context()))
	return pool
}

func list(t require.TestingT, pool *pgxpool.Pool, query string, args ...any) []string {
	rows, err := pool.Query(context.Background(), query, args...)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

// rawValues are JSON values that decoding and encoding would change.
var rawValues = []string{
	`1.0`, `1e400`, `-0`, `123456789012345678901234567890`, `"\u00e9\ud83d\ude00 <&>"`, `"é"`, `null`, `true`,
	`{"b": 1,"a":[ 1 ,2.50 ], "a":{}}`, `[ ]`, `"arn:aws:iam::123456789012:role/B"`, `""`,
}

// drawSettings draws stored settings, as a gateway or anybody else may have
// written them.
func drawSettings(t *rapid.T) string {
	if rapid.IntRange(0, 5).Draw(t, "settings") == 0 {
		return rapid.SampledFrom([]string{"", "null", "{}", " { } "}).Draw(t, "absent settings")
	}
	members := []string{`"_type":"bedrock"`, `"_version": 1`}
	for _, name := range []string{"region", "model", "small_fast_model", "access_key", "access_key_secret"} {
		for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "times "+name) {
			written := rapid.SampledFrom([]string{name, name, strings.ToUpper(name), strings.Replace(name, "s", `\u0073`, 1)}).Draw(t, "name")
			value := rapid.SampledFrom([]string{`"us-east-1"`, `"eu-west-1"`, `"stored"`, `""`, `null`, `"\u0065u-west-1"`}).Draw(t, "value")
			members = append(members, fmt.Sprintf(`"%s" :%s`, written, value))
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "unknown members") {
		name := rapid.SampledFrom([]string{"role_arn", "external_id", "protocol", "", "regions", "_Type_", `\u0072egion2`, "é"}).Draw(t, "unknown name")
		members = append(members, fmt.Sprintf("\"%s\": %s", name, rapid.SampledFrom(rawValues).Draw(t, "unknown value")))
	}
	space := rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(t, "space")
	return space + "{" + space + strings.Join(rapid.Permutation(members).Draw(t, "order"), space+","+space) + space + "}" + space
}

// member is a member of a JSON object, with the text of its value.
type member struct{ name, raw string }

// membersOf asks PostgreSQL, which keeps the text of a json value unchanged, for
// the members of settings that provwatch may write, and for all others.
func membersOf(t require.TestingT, pool *pgxpool.Pool, settings string) (writable, others []member) {
	if settings == "" {
		return nil, nil
	}
	rows, err := pool.Query(context.Background(),
		`SELECT key, value::text FROM json_each(CASE WHEN json_typeof($1::text::json) = 'object' THEN $1::text::json ELSE '{}' END)`, settings)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m member, err error) {
		err = row.Scan(&m.name, &m.raw)
		return m, err
	})
	require.NoError(t, err)
	for _, m := range all {
		if slices.ContainsFunc([]string{"region", "access_key", "access_key_secret"}, func(name string) bool { return strings.EqualFold(name, m.name) }) {
			writable = append(writable, m)
		} else {
			others = append(others, m)
		}
	}
	return writable, others
}

// drawDesired draws what the environment asks for.
func drawDesired(t *rapid.T, name string) provider.Desired {
	d := provider.Desired{
		Name: name, Variables: "X", Type: rapid.SampledFrom([]provider.Type{provider.Anthropic, provider.AmazonBedrock, provider.OpenAI}).Draw(t, "type"),
		BaseURL: rapid.SampledFrom([]string{"", "https://h/"}).Draw(t, "base URL"),
	}
	if d.Type == provider.AmazonBedrock || d.Type == provider.Anthropic && rapid.Bool().Draw(t, "Bedrock") {
		d.Bedrock = &provider.Bedrock{Region: rapid.SampledFrom([]string{"", "us-east-1", "eu-west-1"}).Draw(t, "region"), Model: "m", SmallFastModel: "s"}
		if rapid.Bool().Draw(t, "with credentials") {
			d.Bedrock.AccessKey = secret.New(rapid.SampledFrom([]string{"stored", "AKIA-env"}).Draw(t, "access key"))
			d.Bedrock.AccessKeySecret = secret.New("secret-env")
		}
		return d
	}
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"k1", "k2", "k3"}), 0, 3, rapid.ID).Draw(t, "keys") {
		d.Keys = append(d.Keys, secret.New(key))
	}
	return d
}

// TestTakeEnv resolves arbitrary rows with arbitrary environments.
func TestTakeEnv(t *testing.T) {
	t.Parallel()
	t.Run("WritesWhatDiffersAndNothingElse", func(t *testing.T) {
		t.Parallel()
		pool := newGateway(t)
		n := 0
		rapid.Check(t, func(t *rapid.T) {
			n++
			resolveArbitrary(t, pool, nil, dbcrypt.NewRing(dbcrypt.Keys{}), fmt.Sprintf("p%d", n))
		})
	})
	t.Run("EncryptsWhatItWrites", func(t *testing.T) {
		t.Parallel()
		pool := newGateway(t)
		key := dbcrypttest.NewKey()
		dbcrypttest.Register(t, pool, key)
		keys := dbcrypttest.NewRing(t, key)
		n := 0
		rapid.Check(t, func(t *rapid.T) {
			n++
			resolveArbitrary(t, pool, &key, keys, fmt.Sprintf("p%d", n))
		})
	})
}

// resolveArbitrary resolves a row whose secrets are encrypted with the key, nil for none.
func resolveArbitrary(t *rapid.T, pool *pgxpool.Pool, key *dbcrypttest.Key, keys *dbcrypt.Ring, name string) {
	ctx := context.Background()
	sealed := func(plain string) (stored, keyID string) {
		if key == nil || plain == "" {
			return plain, ""
		}
		return key.Encrypt(plain), key.Digest()
	}
	exec := func(query string, args ...any) {
		_, err := pool.Exec(ctx, query, args...)
		require.NoError(t, err)
	}
	id := uuid.New()
	rowType := rapid.SampledFrom([]provider.Type{provider.Anthropic, provider.Anthropic, provider.AmazonBedrock, provider.OpenAI, provider.OpenAICompat}).Draw(t, "row type")
	settings := drawSettings(t)
	foreign := !rowType.HashNeedsSettings() && rapid.Bool().Draw(t, "settings of another kind")
	if foreign {
		settings = rapid.SampledFrom([]string{`{"_type":"upstream-headers","headers":{"x": "stored"}}`, `{"_version":7}`, "no JSON"}).Draw(t, "foreign settings")
	}
	stored, keyID := sealed(settings)
	null := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	exec(`INSERT INTO public.ai_providers (id, type, name, base_url, enabled, deleted, settings, settings_key_id, display_name, icon, extra, created_at, updated_at)
		VALUES ($1, $2::text::public.ai_provider_type, $3, $4, $5, $6, $7, $8, 'Shown', '/icon.svg', '{"a": 1.0}', '2020-01-01', '2020-01-02')`,
		id, string(rowType), name,
		rapid.SampledFrom([]string{"", "https://h/"}).Draw(t, "row base URL"), rapid.Bool().Draw(t, "enabled"),
		rapid.Bool().Draw(t, "deleted"), null(stored), null(keyID))
	for _, plain := range rapid.SliceOfN(rapid.SampledFrom([]string{"k1", "k2", "k4"}), 0, 3).Draw(t, "stored keys") {
		keyRow := uuid.New()
		stored, keyID := sealed(plain)
		exec(`INSERT INTO public.ai_provider_keys (id, provider_id, api_key, api_key_key_id, note, created_at, updated_at)
			VALUES ($1, $2, $3, $4, 'theirs', '2020-01-01', '2020-01-02')`, keyRow, id, stored, null(keyID))
	}
	desired := drawDesired(t, name)
	withKeys := rapid.Bool().Draw(t, "with keys")

	row := func() (columns map[string]any) {
		var text string
		require.NoError(t, pool.QueryRow(ctx, `SELECT to_jsonb(p)::text FROM public.ai_providers p WHERE id = $1`, id).Scan(&text))
		require.NoError(t, json.Unmarshal([]byte(text), &columns))
		return columns
	}
	plainSettings := func() string {
		var stored, keyID *string
		require.NoError(t, pool.QueryRow(ctx, `SELECT settings, settings_key_id FROM public.ai_providers WHERE id = $1`, id).Scan(&stored, &keyID))
		if stored == nil {
			return ""
		}
		if keyID == nil {
			return *stored
		}
		text, err := key.Decrypt(*stored)
		require.NoError(t, err)
		return text
	}
	keyRows := func() []string {
		return list(t, pool, `SELECT to_jsonb(k)::text FROM public.ai_provider_keys k WHERE provider_id = $1 ORDER BY id`, id)
	}
	everything := func() []string {
		return append(append(list(t, pool, `SELECT to_jsonb(p)::text FROM public.ai_providers p WHERE id = $1`, id), keyRows()...),
			list(t, pool, `SELECT to_jsonb(o)::text FROM provwatch.audit_outbox o WHERE provider = $1 ORDER BY seq`, name)...)
	}
	written := func() []string {
		what := list(t, pool, `WITH gone AS (DELETE FROM public.written RETURNING what) SELECT what FROM gone ORDER BY what`)
		return slices.Compact(what)
	}
	written()
	all, before, keysBefore := everything(), row(), keyRows()

	outcome, err := reconcile.TakeEnv(ctx, pool, keys, desired, withKeys, false, "operator:test")
	if err != nil {
		require.Regexp(t, `would be removed|would remove|would be lost|would stay`, err.Error())
		if strings.Contains(err.Error(), "would be lost") {
			require.True(t, foreign && desired.Type.HashNeedsSettings(), "%v", err)
			require.Equal(t, all, everything(), "all or nothing")
			written()
			return
		}
		require.NotRegexp(t, `k[124]|arn:aws|us-east-1|eu-west-1|AKIA|secret-env`, strings.ReplaceAll(err.Error(), name, ""))
		require.True(t, withKeys || desired.Bedrock == nil || strings.Contains(err.Error(), "would stay"), "credentials are written only with keys")
		require.Equal(t, all, everything(), "all or nothing")
		written()
		return
	}

	after := row()
	var changed []string
	for column, value := range after {
		if !jsonEqual(t, value, before[column]) {
			changed = append(changed, "ai_providers."+column)
		}
	}
	names := written()
	require.ElementsMatch(t, changed, slices.DeleteFunc(slices.Clone(names), func(what string) bool { return what == "key" }), "each column that is named changes")
	for _, column := range []string{"name", "display_name", "icon", "extra", "created_at"} {
		require.NotContains(t, names, "ai_providers."+column)
	}
	if !withKeys {
		require.Equal(t, keysBefore, keyRows())
	}
	inEnv := map[string]bool{}
	for _, key := range desired.Keys {
		inEnv[key.Reveal()] = true
	}
	for _, keyRow := range keysBefore {
		var k struct {
			ID     uuid.UUID `json:"id"`
			APIKey string    `json:"api_key"`
			KeyID  *string   `json:"api_key_key_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(keyRow), &k))
		opened := provider.Row{Keys: []provider.StoredKey{{ID: k.ID, Key: secret.New(k.APIKey)}}}
		if k.KeyID != nil {
			opened.Keys[0].KeyID = *k.KeyID
		}
		keys.OpenRow(&opened, true)
		require.Equal(t, !withKeys || inEnv[opened.Keys[0].Key.Reveal()], slices.Contains(keyRows(), keyRow), "a key row that is equal stays")
	}

	if !rowType.HashNeedsSettings() && !desired.Type.HashNeedsSettings() {
		require.Equal(t, before["settings"], after["settings"], "nobody has looked at them")
	}
	if foreign {
		require.Equal(t, settings, plainSettings())
		settings = ""
	}
	_, othersBefore := membersOf(t, pool, settings)
	kept := plainSettings()
	if foreign {
		kept = ""
	}
	_, othersAfter := membersOf(t, pool, kept)
	switch {
	case foreign:
	case after["settings"] == nil: // removed, or never there
		for _, m := range othersBefore {
			require.Contains(t, []string{"_type", "_version", "model", "small_fast_model"}, strings.ToLower(m.name))
		}
	case len(othersBefore) == 0 && after["settings"] != nil && len(othersAfter) > 0: // made
		require.Equal(t, []member{{"_type", `"bedrock"`}, {"_version", "1"}, {"model", `"m"`}, {"small_fast_model", `"s"`}}, othersAfter)
	default:
		require.Equal(t, othersBefore, othersAfter, "in their order, byte for byte, models too")
	}

	// Both sides agree now, and there is nothing left to write.
	var now provider.Row
	var kind string
	require.NoError(t, pool.QueryRow(ctx, `SELECT type::text, base_url, enabled, deleted FROM public.ai_providers WHERE id = $1`, id).
		Scan(&kind, &now.BaseURL, &now.Enabled, &now.Deleted))
	now.Type, now.Settings = provider.Type(kind), secret.New(plainSettings())
	require.True(t, drift.IsInSync(desired, &now), "%s", plainSettings())
	all = everything()
	again, err := reconcile.TakeEnv(ctx, pool, keys, desired, withKeys, false, "operator:test")
	require.NoError(t, err)
	require.Equal(t, drift.InSync, again.Kind)
	require.Equal(t, all, everything())
	require.Empty(t, written())
	require.Equal(t, outcome.Kind == drift.InSync, len(outcome.Fields) == 0)
	require.Equal(t, outcome.Kind == drift.InSync, len(names) == 0)
}

func jsonEqual(t require.TestingT, a, b any) bool {
	left, err := json.Marshal(a)
	require.NoError(t, err)
	right, err := json.Marshal(b)
	require.NoError(t, err)
	return string(left) == string(right)
}
