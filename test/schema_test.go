//go:build e2e

package test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// foreignSchema makes the tables of testdata/foreign_schema.sql, owned by a role
// of their own.
func (w *world) foreignSchema() (owner, ownerURL string) {
	w.t.Helper()
	owner, ownerURL = w.role("gateway")
	w.exec(`GRANT CREATE, USAGE ON SCHEMA public TO ` + owner)
	script, err := os.ReadFile("testdata/foreign_schema.sql")
	require.NoError(w.t, err)
	w.exec(strings.ReplaceAll(string(script), "{{owner}}", owner))
	w.secret("sk-of-the-other-program-0123456789")
	return owner, ownerURL
}

var objectHeader = regexp.MustCompile(`(?m)^-- Name: .*$`)

// schemaDump returns pg_dump's objects of the schema public, each with its
// header first. It skips the test when pg_dump is older than the server, which
// it refuses then.
func (w *world) schemaDump() []string {
	w.t.Helper()
	pgDump, err := exec.LookPath("pg_dump")
	require.NoError(w.t, err)
	var stderr strings.Builder
	command := exec.Command(pgDump, "--schema-only", "--schema=public", "--dbname", w.url)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil && pgtest.BinDir() != "" && strings.Contains(stderr.String(), "server version mismatch") {
		w.t.Skip(stderr.String())
	}
	require.NoError(w.t, err, stderr.String())
	// Newer versions of pg_dump put a random token into \restrict.
	text := regexp.MustCompile(`(?m)^\\(un)?restrict .*\n`).ReplaceAllString(string(out), "")
	text, _, _ = strings.Cut(text, "--\n-- PostgreSQL database dump complete")
	var objects []string
	starts := objectHeader.FindAllStringIndex(text, -1)
	for i, start := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		objects = append(objects, strings.Trim(text[start[0]:end], "-\n"))
	}
	require.NotEmpty(w.t, objects)
	return objects
}

// theirRows returns the rows of the other program's tables.
func (w *world) theirRows() []string {
	w.t.Helper()
	var rows []string
	for _, table := range []string{"organizations", "ai_providers", "ai_provider_keys"} {
		rows = append(rows, w.strings(`SELECT to_jsonb(r)::text FROM `+table+` r WHERE id::text ~ '^(.)\1{7}-' ORDER BY 1`)...)
	}
	require.Len(w.t, rows, 5)
	return rows
}

func TestForeignTables(t *testing.T) {
	t.Parallel()
	t.Run("OnlyTriggersAreAdded", testForeignTablesOnlyTriggersAreAdded)
	t.Run("OwnerRestoresATrigger", testForeignTablesOwnerRestoresATrigger)
	t.Run("UnusableAreLeftAlone", testForeignTablesUnusableAreLeftAlone)
	t.Run("AreNotMadeAnew", testForeignTablesAreNotMadeAnew)
}

func testForeignTablesOnlyTriggersAreAdded(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	owner, ownerURL := w.foreignSchema()
	// The worker is a third role, with no more rights than it needs.
	role, roleURL := w.role("worker")
	w.exec(`GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON ai_providers, ai_provider_keys TO ` + role)
	w.exec(`GRANT INSERT, UPDATE, SELECT ON ai_provider_writes TO ` + role)
	w.exec(`DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO ` + role + `', current_database()); END $$`)
	objects, rows := w.schemaDump(), w.theirRows()
	env := w.twoProviders().With("DATABASE_URL", roleURL).
		With("CODER_AIBRIDGE_PROVIDER_0_TYPE", "openai").With("CODER_AIBRIDGE_PROVIDER_0_NAME", "retired").
		With("CODER_AIBRIDGE_PROVIDER_0_BASE_URL", "https://retired.example/")

	r := w.run(env, "migrate", "--dry-run")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, "migrations applied: none\n  migrations pending: 2")
	require.Contains(t, r.Stdout, "provider tables created by: another program")
	require.Equal(t, 0, w.run(env, "seed", "--dry-run").Code)
	require.Equal(t, objects, w.schemaDump())

	p := w.start(env, "run").ready()
	p.waitFor("level=INFO", `msg="schema migrated"`, "foreign_provider_tables=true")
	p.waitFor("level=WARN", "soft-deleted", "provider=retired")
	w.expectAuditOfTwoProviders()
	require.Equal(t, []string{
		"anthropic anthropic silver /emojis/robot.png provider/anthropic", "openai openai silver /emojis/robot.png provider/openai",
	}, w.strings(`SELECT concat_ws(' ', name, type, tier, icon, slug) FROM ai_providers WHERE name IN ('openai', 'anthropic') ORDER BY name`))
	require.Equal(t, rows, w.theirRows())

	// The other program writes with rights to its own tables alone.
	their := func(script string) {
		t.Helper()
		require.NoError(t, tryExec(t.Context(), ownerURL, script))
	}
	their(`UPDATE ai_providers SET type = 'azure', icon = '/emojis/x.png' WHERE name = 'openai'`)
	w.expectAlerts("changed openai")
	their(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
	w.expectAlerts("changed openai", "disabled anthropic")
	their(`UPDATE ai_providers SET deleted = false WHERE name = 'retired'`)
	w.expectAlerts("changed openai", "disabled anthropic", "resolved retired")
	their(`UPDATE ai_providers SET deleted = true WHERE name = 'retired'`)
	w.expectAlerts("changed openai", "disabled anthropic", "resolved retired", "deleted retired")
	r = w.run(env, "resolve", "openai", "--take", "env")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Equal(t, []string{"openai /emojis/x.png"}, w.strings(`SELECT concat_ws(' ', type, icon) FROM ai_providers WHERE name = 'openai'`))
	// Before the next change: alerts of one verification are in the order of their names.
	w.expectAlerts("changed openai", "disabled anthropic", "resolved retired", "deleted retired", "resolved openai")
	r = w.run(env, "resolve", "anthropic", "--take", "db")
	require.Equal(t, 0, r.Code, r.Stderr)
	w.expectAlerts("changed openai", "disabled anthropic", "resolved retired", "deleted retired", "resolved openai", "resolved anthropic")
	p.stop()
	require.Equal(t, 0, w.run(env, "seed", "--migrate=check").Code)

	require.Equal(t, 0, w.count(`SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner <> $1::regrole`, owner))
	kept := slices.DeleteFunc(w.schemaDump(), func(object string) bool {
		return strings.Contains(object, "EXECUTE FUNCTION provwatch.notify_change(")
	})
	require.Equal(t, objects, kept)
	require.Len(t, w.schemaDump(), len(objects)+8)

	// Dropping our schema leaves what was there before.
	w.exec(`DROP SCHEMA provwatch CASCADE`)
	require.Equal(t, objects, w.schemaDump())
}

func testForeignTablesOwnerRestoresATrigger(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	w.source = "notify"
	w.foreignSchema()
	w.migrate()
	objects := w.schemaDump()
	w.exec(`DROP TRIGGER provwatch_key_delete ON ai_provider_keys`)
	require.NotEqual(t, objects, w.schemaDump())
	require.Equal(t, 4, w.run(w.twoProviders(), "run", "--migrate=check").Code)
	w.migrate()
	require.Equal(t, objects, w.schemaDump())
}

// minimalTables makes provider tables with the columns that the worker uses.
func (w *world) minimalTables(labels, more string) {
	w.t.Helper()
	w.exec(`CREATE TYPE ai_provider_type AS ENUM (` + labels + `);
		CREATE TABLE ai_providers (id uuid PRIMARY KEY, type ai_provider_type NOT NULL, name text NOT NULL, enabled boolean NOT NULL DEFAULT true,
			deleted boolean NOT NULL DEFAULT false, base_url text NOT NULL, settings text, settings_key_id text,
			updated_at timestamptz NOT NULL DEFAULT now() ` + more + `);
		CREATE TABLE ai_provider_keys (id uuid PRIMARY KEY, provider_id uuid NOT NULL REFERENCES ai_providers ON DELETE CASCADE,
			api_key text NOT NULL, api_key_key_id text, created_at timestamptz NOT NULL DEFAULT now())`)
}

func testTypesUnknownIsSkipped(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	w.minimalTables(`'openai', 'copilot'`, "")
	env := w.twoProviders()
	r := w.run(env, "seed", "--dry-run")
	require.Equal(t, 0, r.Code)
	require.Contains(t, r.Stdout, "?  anthropic  unsupported type, skipped\n")
	p := w.start(env, "run").ready()
	p.waitFor("level=WARN", "lacks the provider's type", "provider=anthropic", "type=anthropic")
	p.waitFor("msg=ready", "providers=1")
	require.Equal(t, []string{"openai"}, w.strings(`SELECT name FROM ai_providers`))
	w.exec(`UPDATE ai_providers SET type = 'copilot'`)
	w.expectAlerts("changed openai")
	w.exec(`UPDATE ai_providers SET type = 'openai'`)
	w.expectAlerts("changed openai", "resolved openai")
	p.stop()
	r = w.run(env, "verify")
	require.Equal(t, 0, r.Code)
	require.Contains(t, r.Stdout, "anthropic  unsupported type\n")
	r = w.run(env, "resolve", "anthropic", "--take", "env")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, `resolve provider "anthropic": the database's enum ai_provider_type lacks the type anthropic`)
}

func testForeignTablesUnusableAreLeftAlone(t *testing.T) {
	t.Parallel()
	const (
		cannot      = "worker: the database's schema cannot be used: "
		notOrdinary = ", not an ordinary table; connect to the database of the gateway's own tables, or name their schema, by search_path=… in DATABASE_URL " +
			"or by ALTER ROLE … SET search_path"
	)
	for name, test := range map[string]struct {
		make func(*world)
		want string
	}{
		"a column that needs a value": {
			func(w *world) {
				w.minimalTables(`'openai', 'anthropic'`, ", tenant uuid NOT NULL, region text NOT NULL")
			},
			"table ai_providers has columns that need a value which this worker does not know: tenant, region; give them a default",
		},
		"a column that is not there": {
			func(w *world) {
				w.minimalTables(`'openai', 'anthropic'`, "")
				w.exec(`ALTER TABLE ai_provider_keys DROP COLUMN api_key, DROP COLUMN api_key_key_id`)
			},
			"table ai_provider_keys lacks the columns api_key, api_key_key_id; it is of a version of the gateway that this worker does not know",
		},
		"one table of two": {
			func(w *world) {
				w.minimalTables(`'openai', 'anthropic'`, "")
				w.exec(`DROP TABLE ai_provider_keys`)
			},
			"only one of the tables ai_providers and ai_provider_keys is there; check the search_path, or finish the migration that created or dropped the other",
		},
		"the other table of two": {
			func(w *world) { w.exec(`CREATE TABLE ai_provider_keys (id uuid)`) },
			"only one of the tables ai_providers and ai_provider_keys is there; check the search_path, or finish the migration that created or dropped the other",
		},
		"a view": {
			func(w *world) {
				w.minimalTables(`'openai', 'anthropic'`, "")
				w.exec(`ALTER TABLE ai_providers RENAME TO held; CREATE VIEW ai_providers AS SELECT * FROM held`)
			},
			`"public"."ai_providers" is a view` + notOrdinary,
		},
		"a view of the keys": {
			func(w *world) {
				w.minimalTables(`'openai', 'anthropic'`, "")
				w.exec(`ALTER TABLE ai_provider_keys RENAME TO held; CREATE MATERIALIZED VIEW ai_provider_keys AS SELECT * FROM held`)
			},
			`"public"."ai_provider_keys" is a materialized view` + notOrdinary,
		},
		"a partitioned table": {
			func(w *world) {
				w.minimalTables(`'openai', 'anthropic'`, "")
				w.exec(`CREATE TABLE parted (LIKE ai_providers) PARTITION BY HASH (id); CREATE TABLE part PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);
					DROP TABLE ai_providers CASCADE; ALTER TABLE parted RENAME TO ai_providers`)
			},
			`"public"."ai_providers" is a partitioned table` + notOrdinary,
		},
		"a foreign table": {
			func(w *world) {
				w.minimalTables(`'openai', 'anthropic'`, "")
				w.exec(`DROP TABLE ai_providers CASCADE; CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
					CREATE FOREIGN TABLE ai_providers (id uuid, type ai_provider_type) SERVER nowhere`)
			},
			`"public"."ai_providers" is a foreign table` + notOrdinary,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEmptyWorld(t)
			test.make(w)
			objects := w.schemaDump()
			env := w.twoProviders()
			for _, args := range []string{"run", "run --migrate=check", "run --migrate=off", "seed", "verify", "migrate", "migrate --dry-run"} {
				if args == "verify" && !strings.Contains(test.want, notOrdinary) {
					continue // it says something else
				}
				r := w.run(env, strings.Fields(args)...)
				require.Equal(t, result{Code: 4, Stderr: cannot + test.want + "\n"}, r, args)
			}
			require.Equal(t, objects, w.schemaDump())
			require.Zero(t, w.count(`SELECT count(*) FROM pg_namespace WHERE nspname = 'provwatch'`))
		})
	}
}

func testForeignTablesAreNotMadeAnew(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	w.migrate()
	w.exec(`DROP TABLE ai_providers, ai_provider_keys`)
	before := w.dump()
	r := w.run(w.twoProviders(), "run")
	require.Equal(t, result{Code: 4, Stderr: "worker: the database's schema cannot be used: the tables ai_providers and ai_provider_keys do not exist, " +
		"or are not on the search_path; restore them, or drop the schema provwatch to start over\n"}, r)
	require.Equal(t, before, w.dump())
}

func testMigrateEightAtOnce(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	w.source = "notify"
	var workers []*worker
	for range 8 {
		workers = append(workers, w.start(nil, "migrate", "-o", "json"))
	}
	changed := 0
	for _, p := range workers {
		require.Equal(t, 0, p.wait(), strings.Join(p.lines(), "\n"))
		out := strings.Join(p.output(), "\n")
		require.Contains(t, out, `"up_to_date": true`)
		changed += strings.Count(out, `"changed": true`)
	}
	require.GreaterOrEqual(t, changed, 1)
	versions := w.migrationVersions()
	require.Equal(t, versions, w.strings(`SELECT version_id::text FROM provwatch.schema_migrations m WHERE version_id > 0 ORDER BY m.version_id`))
	require.Equal(t, 8, w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`))
	require.Equal(t, 0, w.run(w.twoProviders(), "seed", "--migrate=check").Code)
}
