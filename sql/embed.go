// Package sql holds the SQL that provwatch runs. It embeds the goose migrations, the
// hand-written statements, and the roles, which an administrator creates. From the
// queries sqlc generates internal/store.
package sql

import "embed"

// Gateway is the placeholder for the schema of the provider tables and their enum,
// which a session looks up. internal/postgres replaces it by the schema's name: in
// "gateway.ai_provider…" and "gateway.dbcrypt_keys", and as 'gateway' in a catalog query. It stands neither in
// a comment nor in any other literal.
const Gateway = "gateway"

// Migrations holds the goose migrations in the folder "migrations".
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Triggers creates the triggers on the provider tables, and TriggersAlways, after it,
// makes them fire in every session; DropTriggers removes those that are there.
//
//go:embed statements/triggers.sql
var Triggers string

//go:embed statements/triggers_always.sql
var TriggersAlways string

//go:embed statements/triggers_drop.sql
var DropTriggers string

// LocateTables says which schemas of the search path have the provider tables.
//
//go:embed statements/locate_tables.sql
var LocateTables string

// Publication creates the publication that the WAL source reads, anew where it
// exists; Publication14 does so for PostgreSQL 14.
//
//go:embed statements/publication.sql
var Publication string

//go:embed statements/publication14.sql
var Publication14 string

// DropPublication drops the publication.
//
//go:embed statements/publication_drop.sql
var DropPublication string

// Roles makes the group roles and grants them what they need. Any client can run it:
// it holds no commands of psql.
//
//go:embed roles.sql
var Roles string

// ScanProviders, ScanNamedProviders, ScanEnabledProviders and ScanStates are read row by row, which
// sqlc has no form for.
//
//go:embed statements/scan_providers.sql
var ScanProviders string

//go:embed statements/scan_enabled_providers.sql
var ScanEnabledProviders string

//go:embed statements/scan_named_providers.sql
var ScanNamedProviders string

//go:embed statements/scan_states.sql
var ScanStates string

// UpdateProvider writes columns of a row, each in a line of its own, so that
// those which keep their values can be left out.
//
//go:embed statements/update_provider.sql
var UpdateProvider string
