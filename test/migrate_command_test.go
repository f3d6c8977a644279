//go:build e2e

package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	t.Run("PlansAppliesAndRepairs", testMigratePlansAppliesAndRepairs)
	t.Run("MissingCreatePrivilege", testMigrateMissingCreatePrivilege)
	t.Run("OperatorMakesNoSchema", testMigrateOperatorMakesNoSchema)
	t.Run("OutdatedDryRun", testMigrateOutdatedDryRun)
	t.Run("EightAtOnce", testMigrateEightAtOnce)
}

func testMigratePlansAppliesAndRepairs(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	w.source = "notify"
	env := w.twoProviders()
	schema := func(state, applied, pending string, missing bool) string {
		todo, triggers, made := "", "yes", "provwatch"
		if missing {
			triggers = "no"
		}
		if applied == "none" {
			made = "nothing yet, provwatch will create them"
		}
		switch {
		case pending != "none":
			todo = "  pending for \"worker migrate\": migrations [" + strings.ReplaceAll(pending, ",", "") + "], triggers on the provider tables\n"
		case missing:
			todo = "  pending for \"worker migrate\": triggers on the provider tables\n"
		}
		return fmt.Sprintf("Schema %s.\n  migrations applied: %s\n  migrations pending: %s\n  triggers: %s\n  publication: no\n  provider tables created by: %s\n%s",
			state, applied, pending, triggers, made, todo)
	}
	versions := w.migrationVersions()
	list := strings.Join(versions, ", ")
	require.Equal(t, result{Code: 0, Stdout: schema("not there yet", "none", list, true)}, w.run(nil, "migrate", "--dry-run"))
	r := w.run(nil, "migrate", "--dry-run", "-o", "json")
	require.JSONEq(t, `{"changed": false, "up_to_date": false, "done": [], "lacks": ["migrations [`+strings.Join(versions, " ")+`]", "triggers on the provider tables"],
		"schema": {"foreign_provider_tables": false, "applied": [], "pending": [`+list+`], "triggers": false, "some_triggers": false, "publication": false}}`, r.Stdout)
	for _, command := range []string{"run", "seed"} {
		r = w.run(env, command, "--migrate=check")
		require.Equal(t, 4, r.Code)
		require.Equal(t, "worker: the database's schema cannot be used: it is not up to date (migrations ["+strings.Join(versions, " ")+
			"], triggers on the provider tables); run \"worker migrate\", or use --migrate=auto\n", r.Stderr)
		r = w.run(env, command, "--migrate=off")
		require.Equal(t, 4, r.Code)
		require.Equal(t, "worker: the database's schema cannot be used: migrations ["+strings.Join(versions, " ")+
			"] are pending and --migrate=off leaves them so; run \"worker migrate\"\n", r.Stderr)
	}
	w.unmigrated()

	require.Equal(t, result{Code: 0, Stdout: schema("up to date, migrated now", list, "none", false)}, w.run(nil, "migrate"))
	before := w.dump()
	require.Equal(t, result{Code: 0, Stdout: schema("up to date", list, "none", false)}, w.run(nil, "migrate"))
	require.Equal(t, result{Code: 0, Stdout: schema("up to date", list, "none", false)}, w.run(nil, "migrate", "--dry-run"))
	require.Equal(t, before, w.dump())
	require.Equal(t, 0, w.run(env, "seed", "--migrate=check").Code)
	require.Equal(t, 0, w.run(env, "seed", "--migrate=off").Code)

	// A trigger that is dropped, is disabled, or no longer fires in every session is noticed
	// and put back.
	for _, damage := range []string{
		`DROP TRIGGER provwatch_provider_update ON ai_providers`,
		`ALTER TABLE ai_provider_keys DISABLE TRIGGER provwatch_key_insert`,
		`ALTER TABLE ai_provider_keys ENABLE REPLICA TRIGGER provwatch_key_insert`,
		`ALTER TABLE ai_providers ENABLE TRIGGER ALL`,
	} {
		w.exec(damage)
		require.Equal(t, result{Code: 0, Stdout: schema("not up to date", list, "none", true)}, w.run(nil, "migrate", "--dry-run"))
		r = w.run(env, "seed", "--migrate=check")
		require.Equal(t, 4, r.Code)
		require.Contains(t, r.Stderr, "(triggers on the provider tables)")
		r = w.run(env, "seed", "--migrate=off")
		require.Equal(t, 0, r.Code)
		require.Contains(t, r.Stderr, "level=WARN")
		require.Contains(t, r.Stderr, `remedy="run \"worker migrate\""`)
		require.Equal(t, result{Code: 0, Stdout: schema("up to date, migrated now", list, "none", false)}, w.run(nil, "migrate"))
		require.Equal(t, 8, w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%' AND tgenabled = 'A'`))
	}
	p := w.start(env, "run", "--migrate=check").ready()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.stop()
}

// testMigrateOperatorMakesNoSchema runs the commands of operators on a wrong database, as the
// superuser.
func testMigrateOperatorMakesNoSchema(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	for _, args := range []string{
		"unsilence 3", "silence openai --for 1h --reason maintenance", "plan", "apply", "resolve openai --take env", "resolve openai --take env --dry-run",
		"prune --older-than 90d", "prune --older-than 90d --dry-run", "apply --migrate=check", "apply --migrate=off",
	} {
		r := w.run(w.twoProviders(), strings.Fields(args)...)
		require.Equal(t, 4, r.Code, args)
		require.Equal(t, "worker: the database's schema cannot be used: the database has no schema provwatch, which this command does not make; "+
			"check that it is the right database, and start a worker on it or run \"worker migrate\"\n", r.Stderr, args)
	}
	w.unmigrated()
}

// testMigrateOutdatedDryRun has dry runs, which migrate nothing, meet a schema that is not up to
// date.
func testMigrateOutdatedDryRun(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t, "notify")
	latest := w.migrationVersions()
	w.exec(`DELETE FROM provwatch.schema_migrations WHERE version_id = (SELECT max(version_id) FROM provwatch.schema_migrations)`)
	outdated := "worker: the database's schema cannot be used: it is not up to date (migrations [" + latest[len(latest)-1] + "]); run \"worker migrate\""
	for args, otherwise := range map[string]string{
		"plan": "", "resolve openai --take env --dry-run": "", "prune --older-than 90d --dry-run": "", "plan --migrate=check": "",
		"apply --migrate=check": ", or use --migrate=auto",
	} {
		r := w.run(w.twoProviders(), strings.Fields(args)...)
		require.Equal(t, 4, r.Code, args)
		require.Equal(t, outdated+otherwise+"\n", r.Stderr, args)
	}
}

func testMigrateMissingCreatePrivilege(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	role, url := w.role("reader")
	env := w.twoProviders().With("DATABASE_URL", url)
	for _, args := range []string{"run", "seed", "migrate"} {
		r := w.run(env, strings.Fields(args)...)
		require.Equal(t, 4, r.Code)
		require.Equal(t, "worker: the database's schema cannot be used: cannot create the schema provwatch "+
			"(the role needs CREATE on the database; or run \"worker migrate\" as the owner): "+
			"ERROR: permission denied for database "+strings.TrimSuffix(role, "_reader")+" (SQLSTATE 42501)\n", r.Stderr)
	}
	w.unmigrated()
	// To look is not to create.
	require.Equal(t, 0, w.run(env, "seed", "--dry-run").Code)
	require.Equal(t, 0, w.run(env, "migrate", "--dry-run").Code)
	w.unmigrated()
}
