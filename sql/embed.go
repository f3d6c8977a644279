// Package sql holds the SQL that provwatch runs: goose migrations and the
// triggers, embedded here, and the queries, from which sqlc generates
// internal/store.
package sql

import "embed"

// Migrations holds the goose migrations in the folder "migrations".
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Triggers creates the triggers on the provider tables, anew where they exist.
//
//go:embed triggers.sql
var Triggers string
