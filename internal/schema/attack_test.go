//go:build e2e

package schema_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// attackers are roles that can log in: a member of each group role of sql/roles.sql,
// and one of none.
var attackers = []string{
	"attacker", "attacker_of_notify", "attacker_of_wal", "attacker_of_observer", "attacker_of_operator", "attacker_of_reader", "attacker_of_sinks",
}

func TestEscalation(t *testing.T) {
	t.Parallel()
	t.Run("Functions", testEscalationFunctions)
	t.Run("ReaderToSuperuser", testEscalationReaderToSuperuser)
	t.Run("ObserverWrites", testEscalationObserverWrites)
}

// testEscalationFunctions lets each attacker hang each function of the schema on a table
// of its own, by every kind of trigger, and call it. What the function reads there is the
// attacker's: views, policies and casts that run a function, which records whom it runs
// as.
func testEscalationFunctions(t *testing.T) {
	t.Parallel()
	t.Run("AsGranted", func(t *testing.T) {
		t.Parallel()
		conn := prepared(t, "gateway")
		for _, name := range attackers {
			require.Empty(t, attack(t, conn, name).ranAs)
		}
	})

	// Also where all may execute them, as before it was revoked.
	t.Run("WhereAllMayExecute", func(t *testing.T) {
		t.Parallel()
		conn := prepared(t, "gateway")
		_, err := conn.Exec(t.Context(), `GRANT USAGE ON SCHEMA provwatch TO PUBLIC; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA provwatch TO PUBLIC`)
		require.NoError(t, err)
		for _, name := range attackers {
			result := attack(t, conn, name)
			require.Empty(t, result.ranAs)
			require.Greater(t, result.fired, 20, "triggers that call a function")
		}
	})

	// The attack succeeds on a function that runs as its owner.
	t.Run("OfTheFormerSchema", func(t *testing.T) {
		t.Parallel()
		conn := prepared(t, "gateway")
		former, err := os.ReadFile("testdata/before_migration_7.sql")
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), string(former))
		require.NoError(t, err)
		for _, name := range attackers {
			if name != "attacker" { // who cannot find the function
				require.NotEmpty(t, attack(t, conn, name).ranAs, name)
			}
		}
	})
}

// testEscalationReaderToSuperuser is one attack, statement by statement, on the present
// schema and on the former one.
func testEscalationReaderToSuperuser(t *testing.T) {
	t.Parallel()
	const exploit = `
		CREATE FUNCTION pg_temp.payload() RETURNS bigint VOLATILE LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER ROLE bob SUPERUSER'; RETURN 1; END $$;
		CREATE FUNCTION pg_temp.evil() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN pg_temp.payload(); END $$;
		CREATE TEMP TABLE t (seq bigint);
		CREATE TEMP VIEW pruned AS SELECT pg_temp.evil() AS seq;
		GRANT SELECT ON pruned TO PUBLIC;
		CREATE TRIGGER x AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('drift');
		DELETE FROM t;`
	// By one cluster's role, of which there is one.
	conn := prepared(t, "gateway")
	_, err := conn.Exec(t.Context(), `CREATE ROLE bob LOGIN IN ROLE provwatch_reader`)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = conn.Exec(context.Background(), `DROP OWNED BY bob; DROP ROLE bob`) })
	superuser := func() string { return lines(t, conn, `SELECT rolsuper::text FROM pg_roles WHERE rolname = 'bob'`)[0] }
	_, err = connectAs(t, conn, "bob").Exec(t.Context(), exploit)
	require.ErrorContains(t, err, "function provwatch.note_pruned() does not exist")
	require.Equal(t, "false", superuser())

	former, err := os.ReadFile("testdata/before_migration_7.sql")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), string(former)+`INSERT INTO provwatch.sink_cursors (sink, stream, seq) VALUES ('webhook', 'drift', 0)`)
	require.NoError(t, err)
	_, err = connectAs(t, conn, "bob").Exec(t.Context(), exploit)
	require.NoError(t, err)
	require.Equal(t, "true", superuser(), "the exploit is one")
}

// testEscalationObserverWrites lets a member of provwatch_observer change the provider tables
// and the keys in every way that the server knows, and what reports their changes.
func testEscalationObserverWrites(t *testing.T) {
	t.Parallel()
	conn := prepared(t, "gateway")
	_, err := conn.Exec(t.Context(), `
		DO $$ BEGIN CREATE ROLE writing_observer LOGIN IN ROLE provwatch_observer; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		INSERT INTO gateway.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'one', 'https://h/');
		INSERT INTO gateway.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'sk' FROM gateway.ai_providers;
		INSERT INTO gateway.dbcrypt_keys (number, active_key_digest, test) VALUES (1, 'abcdef0', '')`)
	require.NoError(t, err)
	before := lines(t, conn, everything)
	as := connectAs(t, conn, "writing_observer")
	for _, statement := range []string{
		`INSERT INTO gateway.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', 'two', 'https://h/')`,
		`INSERT INTO gateway.ai_providers (id) SELECT id FROM gateway.ai_providers ON CONFLICT DO NOTHING`,
		`UPDATE gateway.ai_providers SET enabled = false`,
		`UPDATE gateway.ai_providers SET base_url = base_url`,
		`DELETE FROM gateway.ai_providers`,
		`TRUNCATE gateway.ai_providers CASCADE`,
		`SELECT id FROM gateway.ai_providers FOR UPDATE`,
		`COPY gateway.ai_providers FROM STDIN`,
		`INSERT INTO gateway.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'sk' FROM gateway.ai_providers`,
		`UPDATE gateway.ai_provider_keys SET api_key = 'sk'`,
		`DELETE FROM gateway.ai_provider_keys`,
		`TRUNCATE gateway.ai_provider_keys`,
		`SELECT number FROM gateway.dbcrypt_keys`,
		`INSERT INTO gateway.dbcrypt_keys (number, active_key_digest, test) VALUES (2, 'fedcba0', '')`,
		`UPDATE gateway.dbcrypt_keys SET test = 'x'`,
		`DELETE FROM gateway.dbcrypt_keys`,
		`CREATE TRIGGER mine AFTER INSERT ON gateway.ai_providers FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('id')`,
		`DROP TRIGGER provwatch_provider_insert ON gateway.ai_providers`,
		`ALTER TABLE gateway.ai_providers DISABLE TRIGGER ALL`,
		`ALTER TABLE gateway.ai_providers REPLICA IDENTITY FULL`,
		`CREATE PUBLICATION mine FOR TABLE gateway.ai_providers`,
		`ALTER PUBLICATION provwatch DROP TABLE gateway.ai_providers`,
		`DROP PUBLICATION provwatch`,
		`DO $$ BEGIN LOCK TABLE gateway.ai_providers IN SHARE MODE; END $$`,
		`CREATE TABLE gateway.mine ()`,
		`CREATE TABLE provwatch.mine ()`,
		`INSERT INTO provwatch.audit_outbox (id, occurred_at, actor, action, provider, details) VALUES (gen_random_uuid(), now(), 'operator:me', 'provider.update', 'one', '{}')`,
		`INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by) VALUES ('one', 'changed', '', '', 'me')`,
		`UPDATE provwatch.drift_alerts SET provider = 'another'`,
		`DELETE FROM provwatch.drift_alerts`,
		`DELETE FROM provwatch.audit_log`,
		`GRANT provwatch_operator TO writing_observer`,
		`SET ROLE provwatch_operator`,
	} {
		_, err := as.Exec(t.Context(), statement)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, statement)
		require.Equal(t, pgerrcode.InsufficientPrivilege, refused.Code, "%s: %s", statement, refused.Message)
	}
	require.Equal(t, before, lines(t, conn, everything))
}

// everything is what an observer must not change.
const everything = `
	SELECT to_jsonb(p)::text FROM gateway.ai_providers p UNION ALL SELECT to_jsonb(k)::text FROM gateway.ai_provider_keys k
	UNION ALL SELECT to_jsonb(d)::text FROM gateway.dbcrypt_keys d
	UNION ALL SELECT tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text FROM pg_trigger WHERE tgname LIKE 'provwatch%'
	UNION ALL SELECT pubname || ' ' || tablename FROM pg_publication_tables ORDER BY 1`

func connectAs(t *testing.T, conn *pgx.Conn, role string) *pgx.Conn {
	t.Helper()
	config := conn.Config().Copy()
	config.User = role
	// What the attacker makes comes first for everyone who takes its path.
	config.RuntimeParams["search_path"] = "pg_temp, lair_" + role + ", pg_catalog"
	as, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	// An attacker lets the policies of its own tables run, which the worker's sessions refuse.
	_, err = as.Exec(t.Context(), "SET row_security = on")
	require.NoError(t, err)
	t.Cleanup(func() { _ = as.Close(context.Background()) })
	return as
}

// attacked is what came of an attack.
type attacked struct {
	ranAs []string // roles other than the attacker that its code ran as
	fired int      // triggers that were made and fired
}

// lair is what an attacker prepares, in the schema @lair of its own. Everything
// in it calls bait, which records whom it runs as.
const lair = `
	CREATE TABLE @lair.witness (ran_as name);
	GRANT USAGE ON SCHEMA @lair TO PUBLIC;
	GRANT INSERT ON @lair.witness TO PUBLIC;
	-- What a sequence has given out outlives a rollback.
	CREATE SEQUENCE @lair.caught;
	GRANT USAGE ON @lair.caught TO PUBLIC;
	CREATE FUNCTION @lair.bait() RETURNS bigint VOLATILE LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user <> session_user THEN
			PERFORM nextval('@lair.caught');
		END IF;
		INSERT INTO @lair.witness VALUES (current_user);
		RETURN 1;
	END $$;
	CREATE FUNCTION @lair.calm_bait() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN @lair.bait(); END $$;
	-- A type that becomes a number or text by the attacker's function.
	CREATE TYPE @lair.number AS (v bigint);
	CREATE FUNCTION @lair.to_number(@lair.number) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN @lair.bait(); END $$;
	CREATE CAST (@lair.number AS bigint) WITH FUNCTION @lair.to_number(@lair.number) AS IMPLICIT;
	CREATE FUNCTION @lair.to_text(@lair.number) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN @lair.bait()::text; END $$;
	CREATE CAST (@lair.number AS text) WITH FUNCTION @lair.to_text(@lair.number) AS IMPLICIT;

	CREATE TABLE @lair.plain (seq bigint, id uuid, provider_id uuid, name text);
	CREATE TABLE @lair.policed (LIKE @lair.plain);
	ALTER TABLE @lair.policed ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
	CREATE POLICY bait ON @lair.policed USING (@lair.calm_bait() = 1) WITH CHECK (true);
	CREATE TABLE @lair.cast (seq @lair.number, id @lair.number, provider_id @lair.number, name @lair.number);
	GRANT ALL ON @lair.plain, @lair.policed, @lair.cast TO PUBLIC;
`

// attack lets a role do its worst with each function of the schema provwatch.
func attack(t *testing.T, conn *pgx.Conn, role string) (result attacked) {
	t.Helper()
	schema := "lair_" + role
	group := ""
	if of, member := strings.CutPrefix(role, "attacker_of_"); member {
		group = " IN ROLE provwatch_" + of
	}
	_, err := conn.Exec(t.Context(), fmt.Sprintf(`
		DO $$ BEGIN CREATE ROLE %[1]s LOGIN%[2]s; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		CREATE SCHEMA %[3]s AUTHORIZATION %[1]s;
		INSERT INTO provwatch.sink_cursors (sink, stream, seq) VALUES ('webhook', 'drift', 0), ('webhook', 'audit', 0) ON CONFLICT DO NOTHING`,
		role, group, schema))
	require.NoError(t, err)
	as := connectAs(t, conn, role)
	_, err = as.Exec(t.Context(), strings.ReplaceAll(lair, "@lair", schema))
	require.NoError(t, err)

	rows, err := conn.Query(t.Context(), `
		SELECT format('provwatch.%I', proname), prosrc, prorettype = 'trigger'::regtype, pronargs
		FROM pg_proc WHERE pronamespace = 'provwatch'::regnamespace ORDER BY 1`)
	require.NoError(t, err)
	type function struct {
		Name, Source string
		Trigger      bool
		Arguments    int
	}
	functions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[function])
	require.NoError(t, err)
	require.NotEmpty(t, functions)
	for _, f := range functions {
		// What it reads without saying whose it is, as a view of the attacker's.
		read := regexp.MustCompile(`\b(?:FROM|JOIN)\s+([a-z_]+)(?:[^a-z_.(]|$)`).FindAllStringSubmatch(f.Source, -1)
		var transitions []string
		for _, name := range read {
			if !slices.Contains(transitions, name[1]) {
				transitions = append(transitions, name[1])
			}
		}
		for _, name := range transitions {
			_, _ = as.Exec(t.Context(), fmt.Sprintf(`CREATE TEMP VIEW %[1]s AS
				SELECT %[2]s.calm_bait() AS seq, %[2]s.calm_bait() AS id, %[2]s.calm_bait() AS provider_id; GRANT SELECT ON %[1]s TO PUBLIC`, name, schema))
		}
		if !f.Trigger {
			_, _ = as.Exec(t.Context(), fmt.Sprintf("SELECT %s(%s)", f.Name, strings.TrimSuffix(strings.Repeat("NULL, ", f.Arguments), ", ")))
			continue
		}
		_, err := as.Exec(t.Context(), fmt.Sprintf("SELECT %s()", f.Name))
		require.Error(t, err, "a trigger function is not called")
		result.fired += hang(t, as, schema, f.Name, transitions)
	}
	result.ranAs = lines(t, conn, fmt.Sprintf(`SELECT DISTINCT ran_as::text FROM %[1]s.witness WHERE ran_as <> '%[2]s'
		UNION ALL SELECT 'another, rolled back' FROM %[1]s.caught WHERE is_called`, schema, role))
	require.Equal(t, []string{"false"}, lines(t, conn, fmt.Sprintf(`SELECT rolsuper::text FROM pg_roles WHERE rolname = '%s'`, role)))
	return result
}

// hang makes each kind of trigger that executes the function on each table of the
// attacker's, and fires it. It returns how many it could.
func hang(t *testing.T, as *pgx.Conn, schema, function string, transitions []string) (fired int) {
	t.Helper()
	for _, table := range []string{"plain", "policed", "cast"} {
		table = schema + "." + table
		values := "(1, NULL, NULL, 'x')"
		if strings.HasSuffix(table, "cast") {
			values = "(ROW(1), ROW(1), ROW(1), ROW(1))"
		}
		_, err := as.Exec(t.Context(), fmt.Sprintf("INSERT INTO %s VALUES %s", table, values))
		require.NoError(t, err)
		for operation, statement := range map[string]string{
			"INSERT": "INSERT INTO " + table + " VALUES " + values, "UPDATE": "UPDATE " + table + " SET seq = seq",
			"DELETE": "DELETE FROM " + table, "TRUNCATE": "TRUNCATE " + table,
		} {
			for _, kind := range kinds(operation, transitions) {
				// The argument of our own triggers, and one of the former ones.
				for _, argument := range []string{"'id'", "'drift'"} {
					tx, err := as.Begin(t.Context())
					require.NoError(t, err)
					if _, err = tx.Exec(t.Context(), fmt.Sprintf("CREATE TRIGGER hung %s EXECUTE FUNCTION %s(%s)",
						strings.Replace(kind, "@t", table, 1), function, argument)); err == nil {
						fired++
						// The function may fail on what it is hung on.
						_, err = tx.Exec(t.Context(), statement+"; DROP TRIGGER hung ON "+table)
					}
					if err == nil {
						err = tx.Commit(t.Context())
					}
					if err != nil {
						_ = tx.Rollback(t.Context())
					}
				}
			}
		}
	}
	return fired
}

// kinds returns the kinds of triggers there are for an operation, with transition
// tables of the names, up to the function.
func kinds(operation string, names []string) []string {
	referencing := []string{""}
	for _, name := range names {
		if operation != "INSERT" {
			referencing = append(referencing, "REFERENCING OLD TABLE AS "+name)
		}
		if operation != "DELETE" {
			referencing = append(referencing, "REFERENCING NEW TABLE AS "+name)
		}
		for _, other := range names {
			if operation == "UPDATE" && other != name {
				referencing = append(referencing, "REFERENCING OLD TABLE AS "+name+" NEW TABLE AS "+other)
			}
		}
	}
	if operation == "TRUNCATE" {
		return []string{"BEFORE TRUNCATE ON @t FOR EACH STATEMENT", "AFTER TRUNCATE ON @t FOR EACH STATEMENT"}
	}
	var list []string
	for _, each := range []string{"ROW", "STATEMENT"} {
		list = append(list, "BEFORE "+operation+" ON @t FOR EACH "+each)
		for _, tables := range referencing {
			list = append(list, "AFTER "+operation+" ON @t "+tables+" FOR EACH "+each)
		}
	}
	return list
}
