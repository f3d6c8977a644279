//go:build e2e

package test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

var grantStatement = regexp.MustCompile(`(?m)GRANT [^;]* TO "[^"]*";`)

func TestPrivileges(t *testing.T) {
	t.Parallel()
	t.Run("MissingOnesAreNamed", testPrivilegesMissingOnesAreNamed)
	t.Run("Connect", testPrivilegesConnect)
	t.Run("LostWhileRunning", testPrivilegesLostWhileRunning)
	t.Run("Migrate", testPrivilegesMigrate)
	t.Run("OwnerPreparesBothSources", testPrivilegesOwnerPreparesBothSources)
}

// testPrivilegesMissingOnesAreNamed lets each command say
// what its role lacks, and runs that.
func testPrivilegesMissingOnesAreNamed(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		role, url := w.role("nobody")
		env := w.twoProviders().With("DATABASE_URL", url)
		told := func(command, group string) {
			t.Helper()
			r := w.run(env, strings.Fields(command)...)
			require.Equal(t, 4, r.Code, "%s: %s", command, r.Stderr)
			require.Contains(t, r.Stderr, fmt.Sprintf("worker: the database's schema cannot be used: the role %q lacks privileges; "+
				"let the tables' owner run the SQL that \"worker roles\" prints and make it a member of %s, or run\n", role, group))
			grants := grantStatement.FindAllString(r.Stderr, -1)
			require.NotEmpty(t, grants, r.Stderr)
			w.exec(strings.Join(grants, " "))
		}
		if w.source == "wal" {
			r := w.run(env, "run")
			require.Equal(t, 4, r.Code)
			require.Contains(t, r.Stderr, `--source=wal is not possible: the WAL cannot be read: the role cannot replicate; ALTER ROLE "`+role+`" REPLICATION;`)
			w.exec(`ALTER ROLE ` + role + ` REPLICATION`)
		}
		told("run", "provwatch_"+w.source)
		p := w.start(env, "run").ready()
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		// A worker that begins to lead reads alerts as well.
		w.exec(`REVOKE SELECT ON provwatch.drift_alerts FROM ` + role)
		told("watch --since 0", "provwatch_reader")
		told("resolve openai --take env", "provwatch_operator")
		require.Equal(t, 0, w.run(env, "resolve", "openai", "--take", "env", "--with-keys").Code)
		w.expectAlerts("disabled openai", "resolved openai")
		p.stop()

		w.exec(`REVOKE ALL ON ALL TABLES IN SCHEMA public, provwatch FROM ` + role)
		for _, command := range []string{"verify", "verify --credential-drift=alert", "seed"} {
			group := "provwatch_operator"
			if command == "seed" {
				group = "provwatch_notify"
			}
			told(command, group)
			require.Equal(t, 0, w.run(env, strings.Fields(command)...).Code, command)
		}
		require.Equal(t, 0, w.count(`SELECT count(*) FROM pg_class WHERE relowner = $1::regrole`, role))
	})
}

func testPrivilegesConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	database := w.strings(`SELECT current_database()::text`)[0]
	w.exec(`REVOKE CONNECT ON DATABASE ` + database + ` FROM PUBLIC`)
	r := w.run(w.twoProviders(), "run")
	require.Equal(t, 4, r.Code)
	require.Contains(t, r.Stderr, `permission denied for database "`+database+`"`)
	require.Contains(t, r.Stderr, `GRANT CONNECT ON DATABASE "`+database+`" TO "test_wal";`)
	require.NotContains(t, r.Stderr, "retrying")
}

// testPrivilegesLostWhileRunning revokes privileges that
// a verification, the delivery of audit entries, and nothing at all need next.
func testPrivilegesLostWhileRunning(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0", "--resync=1s").ready()
		role := "test_" + w.source
		lost := func(privilege, table string, meanwhile func()) {
			t.Helper()
			w.exec(fmt.Sprintf(`REVOKE %s ON %s FROM provwatch_%s`, privilege, table, w.source))
			meanwhile()
			grant := fmt.Sprintf(`GRANT %s ON TABLE %s TO "%s";`, privilege, table, role)
			eventually(t, func() bool {
				status, body := p.get("/readyz")
				return status == http.StatusServiceUnavailable && strings.Contains(body, grant)
			}, "%s is missed on /readyz", grant)
			// A line of the log can arrive a moment later.
			p.waitFor("the role has lost privileges", strings.ReplaceAll(grant, `"`, `\"`))
			require.Equal(t, 1, p.logged("the role has lost privileges", strings.ReplaceAll(grant, `"`, `\"`)), "once")
			w.exec(fmt.Sprintf(`GRANT %s ON %s TO provwatch_%s`, privilege, table, w.source))
			eventually(t, func() bool { status, _ := p.get("/readyz"); return status == http.StatusOK }, "the worker is ready with %s", grant)
		}
		lost("INSERT", "provwatch.drift_alerts", func() { w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`) })
		w.expectAlerts("disabled openai")
		lost("SELECT", "provwatch.audit_outbox", func() { w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`) })
		w.expectAlerts("disabled openai", "resolved openai")
		lost("INSERT (id, type, name, base_url, settings)", "public.ai_providers", func() {})
		p.waitFor("the role has its privileges again")
		p.stop()
	})
}

func testPrivilegesMigrate(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		env := w.twoProviders()
		require.Equal(t, 0, w.run(env, "seed").Code, "nothing is to be migrated")
		before := w.dump()
		w.exec(`UPDATE provwatch.schema_migrations SET version_id = -version_id WHERE version_id = (SELECT max(version_id) FROM provwatch.schema_migrations)`)
		r := w.run(env, "run")
		require.Equal(t, 4, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, `run "worker migrate" as the owner`)
		w.exec(`UPDATE provwatch.schema_migrations SET version_id = -version_id WHERE version_id < 0`)
		require.Equal(t, before, w.dump())

		if w.source == "notify" {
			w.exec(`DROP TRIGGER provwatch_key_delete ON ai_provider_keys`)
		} else {
			w.exec(`DROP PUBLICATION provwatch`)
		}
		r = w.run(env, "run")
		require.Equal(t, 4, r.Code, r.Stderr)
		require.Regexp(t, `run "worker migrate --source=`+w.source+`" as (the|their) owner`, r.Stderr)
		require.Equal(t, 0, w.run(nil, "migrate").Code)
		w.start(env, "run").ready().stop()
	})
}

// testPrivilegesOwnerPreparesBothSources lets an owner prepare the
// database for a worker that changes its source.
func testPrivilegesOwnerPreparesBothSources(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	owner := w.limitedRole()
	pgtest.CreateGatewayTables(t, owner.url)
	r := w.run(environ{"DATABASE_URL": owner.url}, "migrate")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stdout, "triggers: yes\n  publication: yes\n")
	require.Equal(t, 0, w.run(environ{"DATABASE_URL": owner.url}, "migrate", "--source=wal").Code)

	w.prepare()
	// An owner that is no superuser grants the same.
	script, err := os.ReadFile("../sql/roles.sql")
	require.NoError(t, err)
	w.exec(`REVOKE ALL ON ALL TABLES IN SCHEMA public, provwatch FROM provwatch_wal`)
	require.NoError(t, tryExec(t.Context(), owner.url, string(script)))
	// As docs/privileges.md has it for roles that would take the locks.
	_, security, found := strings.Cut(read(t, "../docs/privileges.md"), "\n  ```sql\n")
	require.True(t, found)
	security, _, _ = strings.Cut(security, "```")
	require.Contains(t, security, "REVOKE EXECUTE ON FUNCTION pg_advisory_lock(bigint)")
	w.change(strings.ReplaceAll(security, "TO owner;", "TO "+owner.name+";"))

	p := w.start(w.twoProviders(), "run").ready()
	for i := range 2 {
		streams := 0
		if i > 0 {
			// A stream that begins anew says nothing new.
			streams = p.logged("msg=streaming")
			w.exec(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()`)
		}
		eventually(t, func() bool { return p.logged("msg=streaming") > streams }, "the worker streams")
		p.waitFor("triggers that the WAL source does not need stay, since the role does not own the provider tables")
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i > 0)
		w.expectAlerts([]string{"disabled openai", "resolved openai"}[:i+1]...)
	}
	require.Equal(t, 1, p.logged("triggers that the WAL source does not need"))
	require.Equal(t, 8, w.count(`SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`))
	p.stop()

	// The locks suffice for a worker that observes as well.
	p = w.start(w.observing(), "run", "--observe").ready()
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai", "disabled openai")
	p.stop()
}
