//go:build e2e

package test

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// withPath returns the database's URL with a search path, empty for the server's.
func withPath(t *testing.T, databaseURL, path string) string {
	t.Helper()
	if path == "" {
		return databaseURL
	}
	parsed, err := url.Parse(databaseURL)
	require.NoError(t, err)
	query := parsed.Query()
	query.Set("search_path", path)
	// A plus sign is one, as to libpq.
	parsed.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return parsed.String()
}

// arrayOf writes strings as an SQL array.
func arrayOf(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]::pg_catalog.text[]"
}

// usedNames returns what the SQL of the repository calls and reads, and some more
// that nothing but the libraries do.
func usedNames(t *testing.T) (functions, relations []string) {
	t.Helper()
	var text strings.Builder
	for _, pattern := range []string{"../sql/*.sql", "../sql/*/*.sql", "../internal/*/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			text.Write(content)
		}
	}
	for _, found := range regexp.MustCompile(`\b([a-z_0-9]+)\(`).FindAllStringSubmatch(text.String(), -1) {
		functions = append(functions, found[1])
	}
	for _, found := range regexp.MustCompile(`\b(pg_[a-z_]+)\b`).FindAllStringSubmatch(text.String(), -1) {
		relations = append(relations, found[1])
	}
	functions = append(functions, "version", "pg_is_in_recovery", "current_schema")
	slices.Sort(functions)
	slices.Sort(relations)
	functions, relations = slices.Compact(functions), append(slices.Compact(relations), "pg_tables")
	require.Contains(t, functions, "unnest")
	require.Contains(t, functions, "pg_notify")
	require.Contains(t, relations, "pg_locks")
	return functions, relations
}

// plant lets a role that may create in the schema public, and has a schema of its
// own, plant what the worker's statements could resolve to. It returns the schema.
func (w *world) plant() (schema string) {
	t := w.t
	t.Helper()
	// The test's own statements must not run what is planted either.
	w.exec(`SET search_path = pg_catalog, pg_temp`)
	mallory, malloryURL := w.role("mallory")
	w.exec(`CREATE SCHEMA ` + mallory + ` AUTHORIZATION ` + mallory)
	w.exec(`GRANT USAGE ON SCHEMA ` + mallory + ` TO PUBLIC`)
	w.exec(`GRANT CREATE ON SCHEMA public TO ` + mallory)
	w.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_functions = ''all''', current_database()); END $$`)
	functions, relations := usedNames(t)
	script, err := os.ReadFile("testdata/planted.sql")
	require.NoError(t, err)
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, withPath(t, malloryURL, "pg_catalog"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(ctx, `CREATE TABLE `+mallory+`.calls (what pg_catalog.text, by pg_catalog.text); GRANT INSERT ON `+mallory+`.calls TO PUBLIC`)
	require.NoError(t, err)
	for _, schema := range []string{"public", mallory} {
		text := strings.NewReplacer("{{schema}}", schema, "{{home}}", mallory, "{{functions}}", arrayOf(functions), "{{relations}}", arrayOf(relations),
			"{{operators}}", arrayOf([]string{"=", "<>", "<", ">", "<=", ">=", "||", "->>", "&&", "+", "-", ">>", "&", "~", "~~", "!~~"})).Replace(string(script))
		_, err := conn.Exec(ctx, text)
		require.NoError(t, err)
	}
	// What a plain search path would find is a trap indeed.
	victim, err := pgx.Connect(ctx, w.url+"&application_name=victim")
	require.NoError(t, err)
	_, err = victim.Exec(ctx, `SELECT unnest(ARRAY['x']::text[]), 'x'::text || 'x'::varchar`)
	require.NoError(t, err)
	require.NoError(t, victim.Close(ctx))
	eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'victim'`) == 0
	}, "the victim's session ends")
	require.Equal(t, []string{"text || varchar", "unnest(text[])"}, w.strings(`SELECT DISTINCT what FROM `+mallory+`.calls ORDER BY 1`))
	require.NotEmpty(t, w.strings(`SELECT funcname FROM pg_stat_user_functions`))
	w.exec(`TRUNCATE ` + mallory + `.calls`)
	w.exec(`SELECT pg_stat_reset()`)
	return mallory
}

// TestPlantedNames lets everything that there is run in a database in which
// another role has planted what names could resolve to, as the owner of everything.
func TestPlantedNames(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"notify", "wal"} {
		for _, first := range []bool{false, true} {
			name := source + ", on the default search path"
			if first {
				name = source + ", with hers first in the search path, even before pg_catalog"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newEmptyWorld(t)
				w.source = source
				mallory := w.plant()
				path := ""
				if first {
					// She lets the owner create in it, so that it is not what is used by that.
					path = mallory + ", pg_catalog, public"
				}
				w.beUsed(path)

				// Sessions report how often they called what when they end.
				eventually(t, func() bool {
					return w.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'provwatch%'`) == 0
				}, "the worker's sessions end")
				require.Empty(t, w.strings(`SELECT what || ' as ' || by FROM `+mallory+`.calls`))
				require.Empty(t, w.strings(`SELECT schemaname || '.' || funcname || ' ' || calls FROM pg_stat_user_functions WHERE calls > 0 AND schemaname IN ('public', $1)`, mallory))
			})
		}
	}
}

// beUsed runs what there is, with the search path, empty for the server's.
func (w *world) beUsed(path string) {
	t := w.t
	t.Helper()
	ctx := t.Context()
	databaseURL := withPath(t, w.url, path)
	env := w.twoProviders().With("DATABASE_URL", databaseURL).With("CODER_AIBRIDGE_PROVIDER_0_TYPE", "anthropic").
		With("CODER_AIBRIDGE_PROVIDER_0_NAME", "aws").With("CODER_AIBRIDGE_PROVIDER_0_BEDROCK_REGION", "us-east-1")
	ok := func(code int, args ...string) {
		t.Helper()
		r := w.run(env, args...)
		require.Equal(t, code, r.Code, "%s: %s%s", args, r.Stdout, r.Stderr)
	}
	ok(0, "migrate", "--dry-run")
	ok(0, "migrate", "--source="+w.source)
	w.runRoles(path)
	ok(0, "seed", "--dry-run")
	ok(0, "seed")
	home := w.strings(`SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'ai_providers'`)
	require.Len(t, home, 1)
	writer, err := pgx.Connect(ctx, databaseURL)
	require.NoError(t, err)
	defer func() { _ = writer.Close(context.Background()) }()
	write := func(query string) {
		t.Helper()
		// Qualified itself, so that only what its triggers run could be planted.
		_, err := writer.Exec(ctx, strings.ReplaceAll(query, "gateway.", pgx.Identifier{home[0]}.Sanitize()+"."))
		require.NoError(t, err)
	}

	hook := w.endpoint()
	sinks := env.With("", "")
	delete(sinks, "")
	maps.Copy(sinks, w.webhook(hook))
	sinks["DATABASE_URL"] = databaseURL
	p := w.start(sinks, "run", "--http-addr=127.0.0.1:0", "--credential-drift=alert").ready()
	watcher := w.start(env, "watch", "--since=0")
	write(`UPDATE gateway.ai_providers SET base_url = 'https://drifted.example/' WHERE name OPERATOR(pg_catalog.=) 'openai'`)
	w.expectAlerts("changed openai")
	write(`UPDATE gateway.ai_provider_keys SET updated_at = pg_catalog.now()`)
	ok(2, "verify", "--credential-drift=alert")
	ok(0, "status")
	for _, page := range []string{"/", "/readyz", "/metrics"} {
		code, body := p.get(page)
		require.Equal(t, http.StatusOK, code, "%s: %s", page, body)
	}
	ok(0, "resolve", "openai", "--take=env", "--with-keys")
	w.expectAlerts("changed openai", "resolved openai")
	write(`UPDATE gateway.ai_providers SET enabled = false WHERE name OPERATOR(pg_catalog.=) 'anthropic'`)
	w.expectAlerts("changed openai", "resolved openai", "disabled anthropic")
	ok(0, "resolve", "anthropic", "--take=db")
	w.expectAlerts("changed openai", "resolved openai", "disabled anthropic", "resolved anthropic")
	write(`DELETE FROM gateway.ai_providers WHERE name OPERATOR(pg_catalog.=) 'aws'`)
	w.expectAlerts("changed openai", "resolved openai", "disabled anthropic", "resolved anthropic", "missing aws")
	ok(0, "resolve", "aws", "--take=env", "--with-keys")
	w.expectAlerts("changed openai", "resolved openai", "disabled anthropic", "resolved anthropic", "missing aws", "resolved aws")
	eventually(t, func() bool { return len(hook.got("drift")) >= 6 && len(hook.got("audit")) > 0 }, "the webhook is sent alerts and audit entries")
	eventually(t, func() bool { return len(watcher.output()) >= 6 }, "the watcher prints the alerts")
	watcher.stop()
	ok(0, "sinks")
	ok(1, "sinks", "retry", "webhook", "--all") // there is no dead letter
	p.stop()
	ok(0, "verify")
	write(`TRUNCATE gateway.ai_provider_keys`)
}

// runRoles runs sql/roles.sql as documented, by psql and as a superuser.
func (w *world) runRoles(path string) {
	t := w.t
	t.Helper()
	psql := exec.Command("psql", "--set=ON_ERROR_STOP=1", "--no-psqlrc", "--file=../sql/roles.sql", "--dbname="+w.url)
	if psql.Env = os.Environ(); path != "" {
		psql.Env = append(psql.Env, "PGOPTIONS=-c search_path="+strings.ReplaceAll(path, " ", ""))
	}
	out, err := psql.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
