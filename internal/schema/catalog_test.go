package schema_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// exposed lists the functions that PUBLIC may execute or that run as their owner,
// each with the reason. The schema has no such function.
var exposed = map[string]string{}

// catalog is everything in the database that decides who may do what to the schema
// provwatch and the provider tables: a line for each function and trigger, for each
// grant to anyone but the owner, for each default privilege, and for each attribute
// and membership of the group roles.
const catalog = `
WITH grantee AS (
	SELECT oid, rolname::text AS name FROM pg_roles UNION ALL SELECT 0, 'PUBLIC'
), ours AS (
	SELECT oid, nspname, nspowner, nspacl FROM pg_namespace WHERE nspname IN ('provwatch', 'gateway')
), kept AS (
	SELECT c.oid, c.relname, c.relkind, c.relowner, c.relacl, n.nspname
	FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), routine AS (
	SELECT p.oid, format('%s.%s(%s)', n.nspname, proname, pg_get_function_identity_arguments(p.oid)) AS name, proowner, proacl, prosecdef
	FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
	WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
), granted AS (
	SELECT format('schema %s', nspname) AS object, NULL::name AS attname, a.*, nspowner AS owner
	FROM ours, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a
	UNION ALL
	SELECT format('%s %s.%s', CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, nspname, relname), NULL, a.*, relowner
	FROM kept, aclexplode(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner))) a
	UNION ALL
	SELECT format('table %s.%s', nspname, relname), attname, a.*, relowner
	FROM kept JOIN pg_attribute ON attrelid = kept.oid AND NOT attisdropped, aclexplode(attacl) a
	UNION ALL
	SELECT format('function %s', name), NULL, a.*, proowner
	FROM routine, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
), by_grantee AS (
	SELECT object, privilege_type || CASE WHEN is_grantable THEN ' with grant option' ELSE '' END AS privilege, grantee,
		' (' || string_agg(attname, ', ' ORDER BY attname) || ')' AS columns
	FROM granted
	WHERE grantee <> owner
	GROUP BY object, privilege_type, is_grantable, grantee, attname IS NULL
)
SELECT format('%s: %s%s to %s', object, privilege, columns, string_agg(coalesce(grantee.name, '?'), ', ' ORDER BY grantee.name))
FROM by_grantee LEFT JOIN grantee ON grantee.oid = by_grantee.grantee
GROUP BY object, privilege, columns
UNION ALL
SELECT format('function %s: runs as its %s', name, CASE WHEN prosecdef THEN 'owner' ELSE 'caller' END) FROM routine
UNION ALL
SELECT format('table %s: trigger %s executes %s', tgrelid::regclass, tgname, routine.name) || CASE tgenabled WHEN 'A' THEN ' in every session' WHEN 'O' THEN '' ELSE ' if enabled' END
FROM pg_trigger LEFT JOIN routine ON routine.oid = tgfoid
WHERE NOT tgisinternal
UNION ALL
SELECT format('event trigger %s executes %s', evtname, evtfoid::regprocedure) FROM pg_event_trigger
UNION ALL
SELECT format('table %s.%s: rule %s', nspname, relname, rulename)
FROM pg_rewrite JOIN kept ON kept.oid = ev_class
UNION ALL
SELECT format('default privilege %s on %s in %s to %s', a.privilege_type, defaclobjtype, coalesce(n.nspname, 'every schema'), coalesce(grantee.name, '?'))
FROM pg_default_acl LEFT JOIN pg_namespace n ON n.oid = defaclnamespace, aclexplode(defaclacl) a LEFT JOIN grantee ON grantee.oid = a.grantee
UNION ALL
SELECT format('role %s:%s', rolname, concat_ws(' ', '', CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolcreaterole THEN 'createrole' END,
	CASE WHEN rolcreatedb THEN 'createdb' END, CASE WHEN rolcanlogin THEN 'login' END, CASE WHEN rolreplication THEN 'replication' END,
	CASE WHEN rolbypassrls THEN 'bypassrls' END))
FROM pg_roles WHERE rolname IN ('provwatch_notify', 'provwatch_wal', 'provwatch_observer', 'provwatch_operator', 'provwatch_reader', 'provwatch_sinks', 'provwatch_pruner', 'provwatch_applier')
UNION ALL
SELECT format('member %s of %s', member::regrole, roleid::regrole)
FROM pg_auth_members
WHERE member IN (SELECT oid FROM pg_roles WHERE rolname IN ('provwatch_notify', 'provwatch_wal', 'provwatch_observer', 'provwatch_operator', 'provwatch_reader', 'provwatch_sinks', 'provwatch_pruner', 'provwatch_applier'))`

func readCatalog(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	list := lines(t, conn, catalog)
	slices.Sort(list)
	return list
}

func lines(t *testing.T, conn *pgx.Conn, query string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), query)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// listed returns what the catalog is expected to hold.
func listed(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/catalog.txt")
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// TestCatalog compares who may do what with testdata/catalog.txt. A change that adds
// a table, function, trigger or grant adds its line there.
func TestCatalog(t *testing.T) {
	t.Parallel()
	t.Run("IsAsListed", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, listed(t), readCatalog(t, prepared(t, "gateway")))
	})

	t.Run("NoFunctionIsExposedWithoutAReason", func(t *testing.T) {
		t.Parallel()
		_, config := pgtest.NewPool(t) // without sql/roles.sql
		migrated, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
		require.NoError(t, err)
		t.Cleanup(func() { _ = migrated.Close(context.Background()) })
		for _, conn := range []*pgx.Conn{prepared(t, "gateway"), migrated} {
			for name, how := range exposedFunctions(t, conn) {
				require.NotEmpty(t, exposed[name], "function %s: %s, for which no reason is listed", name, how)
			}
		}
	})

	// A check that finds nothing proves nothing.
	t.Run("AnExposedFunctionIsFound", func(t *testing.T) {
		t.Parallel()
		conn := prepared(t, "gateway")
		_, err := conn.Exec(t.Context(), `
			CREATE FUNCTION provwatch.for_all() RETURNS int LANGUAGE sql AS 'SELECT 1';
			CREATE FUNCTION gateway.as_owner() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
			REVOKE EXECUTE ON FUNCTION gateway.as_owner() FROM PUBLIC;`)
		require.NoError(t, err)
		require.Equal(t, map[string]string{
			"provwatch.for_all()": "EXECUTE to PUBLIC", "gateway.as_owner()": "runs as its owner",
		}, exposedFunctions(t, conn))
	})

	// What the owner's default privileges give to all is taken back.
	t.Run("OfAnOwnerWithDefaultPrivileges", func(t *testing.T) {
		t.Parallel()
		conn := preparedOn(t, pgtest.NewDatabase(t), "gateway", `
			ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC;
			ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
			ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC;`)
		// The provider tables are the gateway's.
		_, err := conn.Exec(t.Context(), `REVOKE ALL ON SCHEMA gateway FROM PUBLIC; REVOKE ALL ON ALL TABLES IN SCHEMA gateway FROM PUBLIC`)
		require.NoError(t, err)
		others := slices.DeleteFunc(readCatalog(t, conn), func(line string) bool { return strings.HasPrefix(line, "default privilege ") })
		require.Equal(t, listed(t), others)
	})
}

// exposedFunctions returns the functions that PUBLIC may execute or that run as
// their owner, with which it is.
func exposedFunctions(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, line := range readCatalog(t, conn) {
		name, what, _ := strings.Cut(strings.TrimPrefix(line, "function "), ": ")
		if strings.HasPrefix(line, "function ") && (what == "runs as its owner" || strings.HasPrefix(what, "EXECUTE to PUBLIC")) {
			found[name] = what
		}
	}
	return found
}
