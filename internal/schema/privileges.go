package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

// Use says what a role is used for, and hence which privileges it needs. Uses
// can be combined.
type Use uint

// The uses of a role. Each but Credentials and ObservingWAL stands for a group role of
// sql/roles.sql or a part of one.
const (
	Notifications  Use = 1 << iota // worker run by notifications: provwatch_notify
	WAL                            // worker run by the WAL, or by either: provwatch_wal
	Observing                      // worker run --observe: provwatch_observer
	ObservingWAL                   // the same by the WAL, on top of Observing
	Seeding                        // worker seed
	Verifying                      // worker verify, worker seed --dry-run
	Credentials                    // comparing credentials, on top of Verifying
	Resolving                      // worker resolve: provwatch_operator
	Silencing                      // worker silence, silences, unsilence: provwatch_operator
	Watching                       // worker watch: provwatch_reader
	Sinks                          // worker run with sinks, on top of its source's: provwatch_sinks
	SinkRetries                    // worker sinks: provwatch_operator
	Reporting                      // worker status, the status page: provwatch_reader and the roles of workers
	Pruning                        // worker prune, and worker run with --keep, on top of its source's: provwatch_pruner
	Applying                       // worker run with apply, on top of its source's: provwatch_applier
	ApplyingByHand                 // worker plan and apply: provwatch_operator
	PruningAudit                   // worker prune, on top of Pruning: provwatch_notify and provwatch_wal

	running    = Notifications | WAL | Observing
	reading    = WAL | ObservingWAL                             // all that read the WAL
	delivering = running | Seeding                              // all that deliver audit entries
	changing   = Resolving | ApplyingByHand                     // all that operators write to the provider tables by
	comparing  = delivering | changing                          // all of these compare rows with the environment
	announcing = Notifications | WAL | Seeding | ApplyingByHand // all whose environment gets a generation
	writing    = Notifications | WAL | Seeding | changing       // all that write to the provider tables and stage audit entries
)

// groups returns the group roles of sql/roles.sql that have what the use needs, and
// of those that do the ones that have least beside it.
func (u Use) groups() []string {
	var groups []string
	switch {
	case u&WAL != 0:
		groups = append(groups, "provwatch_wal")
	case u&(Observing|ObservingWAL) != 0:
		groups = append(groups, "provwatch_observer")
	case u&(Notifications|Seeding|Pruning|PruningAudit) != 0:
		groups = append(groups, "provwatch_notify")
	case u&(Verifying|Credentials|changing|Silencing|SinkRetries) != 0:
		groups = append(groups, "provwatch_operator")
	case u&(Watching|Reporting) != 0:
		groups = append(groups, "provwatch_reader")
	}
	if u&Applying != 0 {
		groups = append(groups, "provwatch_applier")
	}
	if u&Sinks != 0 {
		groups = append(groups, "provwatch_sinks")
	}
	if u&(Pruning|PruningAudit) != 0 {
		groups = append(groups, "provwatch_pruner")
	}
	return groups
}

// privilege is one grant of sql/roles.sql, for the uses that need it.
type privilege struct {
	schema  string // empty for that of the provider tables
	table   string // empty for a privilege on the schema itself; a function's for EXECUTE
	action  string
	columns []string // none for the whole table
	uses    Use
}

// privileges is what sql/roles.sql grants; a test compares the two.
var privileges = []privilege{
	{"provwatch", "", "USAGE", nil, comparing | Verifying | Credentials | Silencing | Watching | Reporting | Sinks | SinkRetries | Pruning | Applying},
	{"", "", "USAGE", nil, comparing | Verifying | Credentials | Reporting | Applying},
	{"provwatch", "schema_migrations", "SELECT", []string{"version_id", "is_applied"}, comparing | Silencing | Pruning},

	{"", "ai_providers", "SELECT", []string{
		"id", "type", "name", "enabled", "deleted", "base_url", "settings", "settings_key_id", "updated_at",
	}, comparing | Verifying},
	{"", "ai_providers", "SELECT", []string{"id", "type", "name", "enabled", "deleted"}, Reporting},
	{"", "ai_providers", "INSERT", []string{"id", "type", "name", "base_url", "settings", "settings_key_id"}, writing},
	{"", "ai_providers", "UPDATE", []string{
		"type", "enabled", "deleted", "base_url", "settings", "settings_key_id", "updated_at",
	}, Resolving},
	{"", "ai_providers", "SELECT", []string{"id", "name"}, Applying},
	{"", "ai_providers", "UPDATE", []string{"type", "base_url", "settings", "settings_key_id", "updated_at"}, Applying | ApplyingByHand},
	{"", "ai_provider_keys", "SELECT", []string{"id", "provider_id", "api_key", "api_key_key_id"}, comparing | Credentials},
	{"", "ai_provider_keys", "INSERT", []string{"id", "provider_id", "api_key", "api_key_key_id"}, writing},
	{"", "ai_provider_keys", "DELETE", nil, Resolving},
	// Where the gateway encrypts secrets.
	{"", "dbcrypt_keys", "SELECT", nil, writing},

	{"provwatch", "hash_key", "SELECT", []string{"key"}, comparing | Verifying},

	{"provwatch", "accepted_drift", "SELECT", nil, comparing | Verifying | Reporting | Pruning},
	{"provwatch", "accepted_drift", "INSERT", nil, Resolving},
	{"provwatch", "accepted_drift", "UPDATE", nil, changing},
	{"provwatch", "accepted_drift", "SELECT", []string{"provider"}, Applying},
	{"provwatch", "accepted_drift", "UPDATE", []string{"env_hash", "db_hash", "lapsed_at"}, Applying},
	{"provwatch", "accepted_drift", "UPDATE", []string{"lapsed_at"}, Pruning},
	{"provwatch", "accepted_drift", "DELETE", nil, running | changing | Pruning},

	{"provwatch", "base_pairs", "SELECT", nil, comparing | Verifying | Reporting},
	{"provwatch", "base_pairs", "INSERT", nil, comparing},
	{"provwatch", "base_pairs", "UPDATE", nil, comparing},

	{"provwatch", "silences", "SELECT", nil, running | Silencing | Reporting},
	{"provwatch", "silences", "INSERT", []string{"provider", "author", "reason", "begins_at", "ends_at"}, Silencing},
	{"provwatch", "silences", "UPDATE", []string{"ends_at", "ended_by"}, Silencing},
	{"provwatch", "silences", "SELECT", []string{"id", "ends_at"}, Pruning},
	{"provwatch", "silences", "DELETE", nil, Pruning},

	{"provwatch", "audit_outbox", "INSERT", []string{
		"id", "occurred_at", "actor", "action", "provider", "provider_id", "details",
	}, writing | Silencing | PruningAudit},
	{"provwatch", "audit_outbox", "SELECT", nil, delivering | Reporting},
	{"provwatch", "audit_outbox", "DELETE", nil, delivering},
	{"provwatch", "audit_log", "SELECT", []string{"id"}, delivering},
	{"provwatch", "audit_log", "SELECT", []string{"seq", "occurred_at", "actor", "action", "provider", "details"}, Reporting},
	{"provwatch", "audit_log", "INSERT", nil, delivering},
	{"provwatch", "audit_log", "SELECT", nil, Sinks},
	{"provwatch", "audit_log", "SELECT", []string{"id", "seq", "delivered_at"}, Pruning},
	{"provwatch", "audit_log", "DELETE", nil, Pruning},
	{"provwatch", "audit_counter", "SELECT", []string{"last_seq"}, delivering | Reporting | Sinks | SinkRetries | Pruning},
	{"provwatch", "audit_counter", "UPDATE", []string{"last_seq"}, delivering},

	{"provwatch", "drift_state", "SELECT", nil, running | Seeding | Reporting | Pruning},
	{"provwatch", "drift_state", "SELECT", []string{"provider", "kind"}, Sinks},
	{"provwatch", "drift_state", "INSERT", nil, running | Seeding},
	{"provwatch", "drift_state", "UPDATE", nil, running},
	{"provwatch", "drift_state", "DELETE", nil, running},
	{"provwatch", "not_comparable", "SELECT", nil, running | Reporting},
	{"provwatch", "not_comparable", "INSERT", nil, running},
	{"provwatch", "not_comparable", "UPDATE", nil, running},
	{"provwatch", "not_comparable", "DELETE", nil, running},
	{"provwatch", "pending_drifts", "SELECT", nil, running | Reporting},
	{"provwatch", "pending_drifts", "INSERT", nil, running},
	{"provwatch", "pending_drifts", "UPDATE", nil, running},
	{"provwatch", "pending_drifts", "DELETE", nil, running},
	{"provwatch", "pending_rows", "SELECT", nil, running | Reporting},
	{"provwatch", "pending_rows", "INSERT", nil, running},
	{"provwatch", "pending_rows", "UPDATE", nil, running},
	{"provwatch", "pending_rows", "DELETE", nil, running},
	{"provwatch", "unmanaged_rows", "SELECT", nil, running | Verifying | Resolving | Reporting},
	{"provwatch", "unmanaged_rows", "SELECT", []string{"provider_id", "kind"}, Sinks},
	{"provwatch", "unmanaged_rows", "INSERT", nil, running},
	{"provwatch", "unmanaged_rows", "UPDATE", nil, running},
	{"provwatch", "unmanaged_rows", "DELETE", nil, running},
	{"provwatch", "unmanaged_baseline", "SELECT", nil, running},
	{"provwatch", "unmanaged_baseline", "INSERT", nil, running},
	{"provwatch", "accepted_rows", "SELECT", nil, running | Verifying | Resolving | Reporting},
	{"provwatch", "accepted_rows", "INSERT", nil, Resolving},
	{"provwatch", "accepted_rows", "UPDATE", nil, Resolving},
	{"provwatch", "accepted_rows", "DELETE", nil, running},
	{"provwatch", "drift_alerts", "INSERT", nil, running},
	{"provwatch", "drift_alerts", "SELECT", nil, running | Watching | Reporting | Sinks | Pruning},
	{"provwatch", "drift_alerts", "DELETE", nil, Pruning},
	{"provwatch", "pruned", "SELECT", nil, Watching | Sinks | Pruning},
	{"provwatch", "pruned", "INSERT", nil, Pruning},
	{"provwatch", "pruned", "UPDATE", []string{"seq", "pruned_at"}, Pruning},
	{"provwatch", "stand_by", "EXECUTE", nil, running},
	{"provwatch", "alert_counter", "SELECT", []string{
		"last_seq", "generation", "term", "verified_at", "epoch", "writer", "xmin", "system_identifier", "timeline", "table_oid", "former_epochs",
	}, running},
	{"provwatch", "alert_counter", "SELECT", []string{"last_seq"}, Watching | Reporting | Sinks | SinkRetries},
	{"provwatch", "alert_counter", "SELECT", []string{"epoch"}, Watching},
	{"provwatch", "alert_counter", "SELECT", []string{"verified_at", "term"}, Reporting},
	{"provwatch", "alert_counter", "SELECT", []string{"term"}, changing | Silencing | PruningAudit},
	{"provwatch", "alert_counter", "UPDATE", []string{
		"last_seq", "generation", "term", "verified_at", "epoch", "writer", "system_identifier", "timeline", "table_oid", "former_epochs",
	}, running},

	{"provwatch", "environments", "SELECT", nil, running | announcing | Reporting},
	{"provwatch", "environments", "INSERT", []string{"digest"}, announcing},
	{"provwatch", "environments", "UPDATE", []string{"generation", "recorded_at"}, announcing},
	{"provwatch", "workers", "SELECT", nil, running | announcing | Reporting},
	{"provwatch", "workers", "INSERT", []string{"worker", "digest"}, announcing},
	{"provwatch", "workers", "UPDATE", []string{"digest", "seen_at"}, announcing},
	{"provwatch", "workers", "DELETE", nil, Notifications | WAL},
	{"provwatch", "not_loaded", "SELECT", nil, running | Reporting},
	{"provwatch", "not_loaded", "INSERT", []string{"worker", "paths"}, running},
	{"provwatch", "not_loaded", "UPDATE", []string{"paths", "seen_at"}, running},
	{"provwatch", "not_loaded", "DELETE", nil, running},

	{"provwatch", "wal_position", "DELETE", nil, running},
	{"provwatch", "wal_position", "SELECT", nil, reading},
	{"provwatch", "wal_position", "INSERT", nil, reading},
	{"provwatch", "wal_position", "UPDATE", nil, reading},
	{"provwatch", "wal_mirror", "SELECT", nil, reading},
	{"provwatch", "wal_mirror", "INSERT", nil, reading},
	{"provwatch", "wal_mirror", "UPDATE", nil, reading},
	{"provwatch", "wal_mirror", "DELETE", nil, reading},

	{"provwatch", "sink_cursors", "SELECT", nil, running | Sinks | SinkRetries | Reporting | Pruning},
	{"provwatch", "sink_cursors", "INSERT", nil, Sinks},
	{"provwatch", "sink_cursors", "UPDATE", []string{"seq", "moved_at"}, running | Sinks},
	{"provwatch", "sink_dead_letters", "SELECT", nil, Sinks | SinkRetries | Reporting | Pruning},
	{"provwatch", "sink_dead_letters", "INSERT", nil, Sinks},
	{"provwatch", "sink_dead_letters", "UPDATE", []string{"retry", "attempts", "reason", "at"}, Sinks},
	{"provwatch", "sink_dead_letters", "UPDATE", []string{"retry"}, SinkRetries},
	{"provwatch", "sink_dead_letters", "DELETE", nil, Sinks},
}

// missingPrivileges are the privileges for a use that a role lacks.
type missingPrivileges struct {
	role       string
	use        Use
	statements []string // the grants, ready to be run
	secured    []string // tables whose rows policies can hide from it, quoted
	// blind is set when without them the schema cannot even be looked at.
	blind bool
}

func (m missingPrivileges) err() error {
	if len(m.secured) > 0 {
		role := pgx.Identifier{m.role}.Sanitize()
		return &UnusableError{Reason: fmt.Sprintf("row level security applies to the role %q on %s, so that rows could be hidden from it; run ALTER ROLE %s BYPASSRLS; "+
			"or ALTER TABLE … DISABLE ROW LEVEL SECURITY; or connect as their owner, to whom it applies only with FORCE ROW LEVEL SECURITY",
			m.role, strings.Join(m.secured, " and "), role)}
	}
	if len(m.statements) == 0 {
		return nil
	}
	return &UnusableError{Err: remedy.Problem(fmt.Sprintf("the role %q lacks privileges; let the tables' owner run the SQL that ", m.role), remedy.Run("roles"),
		" prints and make it a member of "+strings.Join(m.use.groups(), " and ")+", or run\n"+strings.Join(m.statements, "\n"))}
}

// CheckPrivileges returns an [*UnusableError] that holds the GRANT statements
// that the role lacks for a use, or what to do about row level security that applies
// to it. Tables that are not there are passed over.
func CheckPrivileges(ctx context.Context, db store.DBTX, use Use) error {
	found, err := findMissingPrivileges(ctx, db, use)
	if err != nil {
		return err
	}
	return found.err()
}

// Explain replaces an error about a privilege that the server denied by that of
// [CheckPrivileges], and returns any other as it is.
func Explain(ctx context.Context, db store.DBTX, use Use, err error) error {
	if !IsDenied(err) {
		return err
	}
	var unusable *UnusableError
	if check := CheckPrivileges(ctx, db, use); errors.As(check, &unusable) {
		return check
	}
	return err
}

func findMissingPrivileges(ctx context.Context, db store.DBTX, use Use) (missingPrivileges, error) {
	var wanted []store.Privilege
	for _, p := range privileges {
		if p.uses&use != 0 {
			wanted = append(wanted, p.each()...)
		}
	}
	if len(wanted) == 0 {
		return missingPrivileges{}, nil
	}
	missing, err := store.On(db).ListMissingPrivileges(ctx, wanted)
	if err != nil {
		return missingPrivileges{}, fmt.Errorf("look at the role's privileges: %w", err)
	}
	found := missingPrivileges{use: use}
	for _, row := range missing {
		if row.Action == store.RowSecurity {
			found.role = row.Role
			found.secured = append(found.secured, row.Table)
		}
	}
	slices.Sort(found.secured)
	for _, p := range privileges {
		var of []store.MissingPrivilege
		for _, row := range missing {
			if p.uses&use != 0 && p.covers(row) {
				of = append(of, row)
			}
		}
		if len(of) == 0 {
			continue
		}
		found.role = of[0].Role
		// Two uses can need the same.
		if statement := p.grant(of); !slices.Contains(found.statements, statement) {
			found.statements = append(found.statements, statement)
		}
		found.blind = found.blind || p.table == "" || p.table == "schema_migrations"
	}
	return found, nil
}

// each returns the privilege on the table, or on each of the columns.
func (p privilege) each() (list []store.Privilege) {
	if len(p.columns) == 0 {
		return []store.Privilege{{Schema: p.schema, Table: p.table, Action: p.action}}
	}
	for _, column := range p.columns {
		list = append(list, store.Privilege{Schema: p.schema, Table: p.table, Column: column, Action: p.action})
	}
	return list
}

// covers reports whether the privilege is the one that is missing, or has it as a
// column: there can be several on a table, on other columns for other uses.
func (p privilege) covers(row store.MissingPrivilege) bool {
	if row.OfProviders != (p.schema == "") || row.Table != p.table || row.Action != p.action {
		return false
	}
	return row.Column == "" && len(p.columns) == 0 || slices.Contains(p.columns, row.Column)
}

// grant returns the statement that grants what is missing of a privilege.
func (p privilege) grant(missing []store.MissingPrivilege) string {
	schema, role := missing[0].Schema, pgx.Identifier{missing[0].Role}.Sanitize()
	if p.table == "" {
		return fmt.Sprintf("GRANT %s ON SCHEMA %s TO %s;", p.action, schema, role)
	}
	if p.action == "EXECUTE" {
		return fmt.Sprintf("GRANT EXECUTE ON FUNCTION %s.%s TO %s;", schema, p.table, role)
	}
	columns := ""
	if len(p.columns) > 0 {
		names := slices.DeleteFunc(slices.Clone(p.columns), func(column string) bool {
			return !slices.ContainsFunc(missing, func(row store.MissingPrivilege) bool { return row.Column == column })
		})
		columns = " (" + strings.Join(names, ", ") + ")"
	}
	return fmt.Sprintf("GRANT %s%s ON TABLE %s.%s TO %s;", p.action, columns, schema, p.table, role)
}
