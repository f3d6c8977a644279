package reconcile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
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

func jsonEqual(t require.TestingT, a, b any) bool {
	left, err := json.Marshal(a)
	require.NoError(t, err)
	right, err := json.Marshal(b)
	require.NoError(t, err)
	return string(left) == string(right)
}
