//go:build e2e

package schema_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/remedy"
	"provwatch/internal/schema"
)

// roles are the group roles of sql/roles.sql: what they are used for, and the
// queries of sql/queries that this takes.
var roles = map[string]struct {
	use     schema.Use
	queries []string
}{
	"provwatch_notify":   {schema.Notifications | schema.Reporting | schema.PruningAudit, slices.Concat(looking, sealing, seeding, announcing, delivering, following, reporting)},
	"provwatch_wal":      {schema.WAL | schema.Reporting | schema.PruningAudit, slices.Concat(looking, sealing, seeding, announcing, delivering, following, reading, reporting)},
	"provwatch_observer": {schema.Observing | schema.ObservingWAL | schema.Reporting, slices.Concat(looking, observing, delivering, following, reading, reporting)},
	"provwatch_operator": {schema.Resolving | schema.ApplyingByHand | schema.Credentials | schema.Silencing | schema.SinkRetries, slices.Concat(looking, sealing, resolving, applying, silencing, retrying)},
	"provwatch_sinks":    {schema.Sinks, sinking},
	"provwatch_pruner":   {schema.Pruning, slices.Concat([]string{"ListAppliedMigrations"}, pruning)},
	"provwatch_applier":  {schema.Applying, []string{"LockProviders", "update_provider of an apply", "renewAcceptedDrift"}},
	"provwatch_reader":   {schema.Watching | schema.Reporting, slices.Concat([]string{"FindAlerts", "LastOfEpoch", "ReadAlertsEnd", "listAlertsSince", "ReadPruned"}, reporting)},
}

var (
	looking = []string{"InspectSchema", "ListAppliedMigrations", "ListColumns", "CountTriggers", "IsPublished", "ListStrangers", "locate_tables", "listMissingPrivileges"}
	sealing = []string{"inspectKeyTable", "listKeys", "listOfFormerKeyset"}
	seeding = []string{
		"BeginSeed", "RestoreSearchPath", "FixSearchPath", "listProviders", "listAcceptedDrifts", "listBases", "setBases", "ListProviderTypes", "ReadHashKey", "insertProviders",
		"insertProviderKeys", "recordFirstObservations", "StageAuditEntries", "notify", "NotificationQueueUsage",
	}
	observing = []string{
		"BeginSeed", "listProviders", "listProviderKeys", "listAcceptedDrifts", "listBases", "ListProviderTypes", "ReadHashKey", "recordFirstObservations", "notify", "NotificationQueueUsage",
	}
	announcing = []string{"attendEnvironments", "forgetWorkers"}
	applying   = []string{"attendEnvironments"} // by hand
	delivering = []string{"LockDelivery", "ListStagedAuditEntries", "DeliverAuditEntries", "OutboxDepth"}
	following  = []string{
		"seeEnvironments", "StandBy", "SeeLeader", "StepDown", "BeginTerm", "ReleaseTerm", "Beat", "CurrentTerm", "IsContended", "scan_providers", "scan_named_providers", "scan_enabled_providers", "scan_states", "lookAtProviders",
		"LockAlerts", "ReadEpoch", "ReadCounter", "NoteCounter", "Rewind", "LatestGaps", "MayReadSystem", "ReadSystem", "ReadTimeline", "record", "ListActiveSilences", "CountSilencedDrifts", "listOutlived", "FirstPending", "AcceptanceEnds", "listUnnamedStates", "NoteVerified", "listServed",
		"InspectReplication", "InspectSlot", "TerminateSlotHolder", "DropSlot", "ForgetWALPosition", "LimitIdle", "ListHolders", "DescribeSession", "ListLeaderLockHolders", "MaxPrepared",
		"startUnmanaged", "listRecordedKinds", "listDriftingRows", "recordNotLoaded", "clearNotLoaded", "forgetNotLoaded",
	}
	reading = []string{
		"LockWALPosition", "ReadWALGap", "ReadWALPosition", "StartWALPosition", "MarkGap", "AdvanceWALPosition", "PlanEachTime", "StayActive", "ClearMirror", "listMirror", "listMirrorByID", "ListBaseURLs",
		"putMirror", "DropFromMirror", "listProvidersAfter", "EmitMarker", "ReadWALEnd", "ListInvisible", "listStates",
		"listRecordedRows", "hasUnmanagedBaseline", "listUnmanagedIDs", "listMirrorSuspects", "listLeftFromMirror",
	}
	reporting = []string{
		"InspectStatus", "ListWorkerEnvironments", "ListNotLoaded", "MayListServed", "listBases", "ReadVerified", "ListWorkers", "ListLeaderLockHolders", "InspectSlot", "OutboxDepth", "listAcceptances", "countRecorded", "listRecorded", "countNamed", "listNamed", "ListRowsInBrief", "listLatestDrifts",
		"listAlertsBefore", "ListAuditEntriesBefore", "ListSinks", "ListLatestDeadLetters", "ListSilences",
	}
	resolving = []string{
		"LockSeed", "LockProviders", "ShareProviders", "listProviders", "listProviderKeys", "listAcceptedDrifts", "listBases", "setBases", "ListProviderTypes", "ReadHashKey", "insertProviders",
		"insertProviderKeys", "update_provider", "DeleteProviderKeys", "RestoreSearchPath", "FixSearchPath", "acceptDrift", "renewAcceptedDrift", "acceptRows", "listUnmanaged", "listEnabled", "WithdrawAcceptedDrift", "ReadSession", "StageAuditEntries", "notify", "ListWorkers",
	}
	silencing = []string{"LockSeed", "ReadSession", "InsertSilences", "LockSilence", "EndSilence", "ListSilences", "StageAuditEntries", "notify", "ListWorkers"}
	sinking   = []string{
		"RegisterSink", "DescribeSystem", "ReadSinkCursor", "MoveSinkCursor", "ReadAlertCounter", "ReadAuditCounter", "listAlertsSince",
		"ListAuditEntriesSince", "listFiring", "BuryEvent", "NextSinkRetry", "EndSinkRetry", "DropDeadLetter", "ReadPruned",
	}
	pruning  = []string{"BeginPruning", "PruneAlerts", "PruneAuditEntries", "listKeptAcceptances", "markAcceptances", "pruneAcceptances", "PruneSilences", "ListPruningHolders"}
	retrying = []string{"ListSinks", "ListDeadLetters", "RequestSinkRetries", "notify"}
	// migrating is left to the owner.
	migrating = []string{"LockMigration", "CreateSchema", "CloseSchema", "ListStrangersAtHome", "registerKey"}
)

func TestRolePrivileges(t *testing.T) {
	t.Parallel()
	t.Run("MissingIsNamed", testRolePrivilegesMissingIsNamed)
	t.Run("NeededByAQuery", testRolePrivilegesNeededByAQuery)
}

// testRolePrivilegesMissingIsNamed checks that each privilege that a role loses is named
// by the statement that grants it.
func testRolePrivilegesMissingIsNamed(t *testing.T) {
	t.Parallel()
	conn := prepared(t, "gateway")
	for role, r := range roles {
		grants := granted(t, conn, role)
		require.NotEmpty(t, grants)
		for _, grant := range grants {
			without(t, conn, role, grant, func(tx pgx.Tx) {
				err := schema.CheckPrivileges(t.Context(), tx, r.use)
				var unusable *schema.UnusableError
				require.ErrorAs(t, err, &unusable, "%s: %s is not missed", role, grant)
				require.Equal(t, []string{grant}, statements(err))
				require.Contains(t, err.Error(), fmt.Sprintf("the role %q lacks privileges; let the tables' owner run the SQL that \"worker roles\" prints", role))
				require.Equal(t, []remedy.Remedy{remedy.Run("roles")}, remedy.Of(err))
				_, err = tx.Exec(t.Context(), "RESET ROLE; "+grant+" SET LOCAL ROLE "+role)
				require.NoError(t, err)
				require.NoError(t, schema.CheckPrivileges(t.Context(), tx, r.use))
			})
		}
	}
}

// testRolePrivilegesNeededByAQuery lets the server check the privileges of each query that
// a role's uses make, which EXPLAIN does and goes no further.
func testRolePrivilegesNeededByAQuery(t *testing.T) {
	t.Parallel()
	conn := prepared(t, "gateway")
	queries := readQueries(t)
	used := slices.Clone(migrating)
	for role, r := range roles {
		used = append(used, r.queries...)
		denied := func(tx pgx.Tx) []string {
			var list []string
			for _, name := range r.queries {
				require.NotEmpty(t, queries[name], name)
				err := pgx.BeginFunc(t.Context(), tx, func(tx pgx.Tx) error {
					_, err := tx.Exec(t.Context(), "EXPLAIN "+queries[name])
					return err
				})
				if schema.IsDenied(err) {
					list = append(list, name)
				} else {
					require.NoError(t, err, name)
				}
			}
			return list
		}
		for i, grant := range granted(t, conn, role) {
			if i == 0 {
				without(t, conn, role, "GRANT USAGE ON SCHEMA public TO provwatch_notify", func(tx pgx.Tx) {
					require.Empty(t, denied(tx), "%s lacks a privilege", role)
				})
			}
			without(t, conn, role, grant, func(tx pgx.Tx) {
				if strings.Contains(grant, "ON SCHEMA gateway") {
					// Names that are not found are not denied.
					_, err := tx.Exec(t.Context(), "EXPLAIN SELECT id FROM gateway.ai_providers")
					require.True(t, schema.IsDenied(err))
					return
				}
				require.NotEmpty(t, denied(tx), "%s does not need: %s", role, grant)
			})
		}
	}
	slices.Sort(used)
	require.Equal(t, slices.Sorted(maps.Keys(queries)), slices.Compact(used), "the queries of all roles are all queries")
}

// readQueries returns the queries of sql/queries by name, and those of which each
// has a file, with a constant for each parameter: null, or for a switch true.
func readQueries(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../sql/queries/*.sql")
	require.NoError(t, err)
	queries := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for section := range strings.SplitSeq(string(text), "-- name: ") {
			name, query, found := strings.Cut(section, "\n")
			if name, _, named := strings.Cut(name, " "); found && named {
				queries[name] = withoutParameters(query)
			}
		}
	}
	require.NotEmpty(t, queries)
	update, err := os.ReadFile("../../sql/statements/update_provider.sql")
	require.NoError(t, err)
	queries["update_provider"] = withoutParameters(string(update))
	// The lines of columns that keep their values are left out: see [store.Queries.UpdateProvider].
	queries["update_provider of an apply"] = regexp.MustCompile(`(?m)^ *(enabled|deleted) = .*\n`).ReplaceAllString(queries["update_provider"], "")
	scans, err := filepath.Glob("../../sql/statements/scan_*.sql")
	require.NoError(t, err)
	for _, file := range append(scans, "../../sql/statements/locate_tables.sql") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		queries[strings.TrimSuffix(filepath.Base(file), ".sql")] = strings.ReplaceAll(string(text), "$1", "NULL::text[]")
	}
	return queries
}

func withoutParameters(query string) string {
	query = regexp.MustCompile(`@\w+::boolean THEN`).ReplaceAllString(query, "true THEN")
	return regexp.MustCompile(`@\w+`).ReplaceAllString(query, "NULL")
}

// granted returns the statements that grant what a role has been granted, one
// for each privilege on a schema, a table or a column.
func granted(t *testing.T, conn *pgx.Conn, role string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT format('GRANT %s ON SCHEMA %I TO "%s";', a.privilege_type, nspname, $1::text)
		FROM pg_namespace, aclexplode(nspacl) a WHERE a.grantee = $1::text::regrole
		UNION ALL
		SELECT format('GRANT %s ON TABLE %I.%I TO "%s";', a.privilege_type, nspname, relname, $1::text)
		FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, aclexplode(relacl) a WHERE a.grantee = $1::text::regrole
		UNION ALL
		SELECT format('GRANT %s (%I) ON TABLE %I.%I TO "%s";', a.privilege_type, attname, nspname, relname, $1::text)
		FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace, aclexplode(attacl) a
		WHERE a.grantee = $1::text::regrole
		UNION ALL
		SELECT format('GRANT EXECUTE ON FUNCTION %I.%I TO "%s";', nspname, proname, $1::text)
		FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace, aclexplode(proacl) a WHERE a.grantee = $1::text::regrole
		ORDER BY 1`, role)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}
