//go:build e2e

package test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func (w *world) connect() *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func queryStrings(ctx context.Context, conn *pgx.Conn, query string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// strings returns the result of a query of one text column.
func (w *world) strings(query string, args ...any) []string {
	w.t.Helper()
	list, err := queryStrings(w.t.Context(), w.db, query, args...)
	require.NoError(w.t, err)
	return list
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), query, args...)
	require.NoError(w.t, err)
}

// count returns the result of a query of one number.
func (w *world) count(query string, args ...any) int {
	w.t.Helper()
	var n int
	require.NoError(w.t, w.db.QueryRow(w.t.Context(), query, args...).Scan(&n))
	return n
}

// dump returns every row of every table that the database has, so that two
// dumps are equal only when nothing was written in between.
func (w *world) dump() []string { return w.dumpWithout() }

// dumpBesideSeed is dump without the table in which a seed records that it is there.
func (w *world) dumpBesideSeed() []string { return w.dumpWithout("provwatch.workers") }

// dumpBesideWorker is dump once a running worker has delivered what is staged, without the tables
// that it writes to at any time: how far it has read, when it has verified last, and that it is there.
func (w *world) dumpBesideWorker() []string {
	w.t.Helper()
	w.awaitDelivery()
	return w.dumpWithout("provwatch.wal_position", "provwatch.alert_counter", "provwatch.workers")
}

func (w *world) dumpWithout(left ...string) []string {
	w.t.Helper()
	var dump []string
	for _, table := range w.tables() {
		if slices.Contains(left, table) {
			continue
		}
		dump = append(dump, table)
		dump = append(dump, w.strings("SELECT to_jsonb(r)::text FROM "+table+" r ORDER BY 1")...)
	}
	return dump
}

// tables returns all tables that are not PostgreSQL's own.
func (w *world) tables() []string {
	w.t.Helper()
	return w.strings(`SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
		WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`)
}

// unmigrated fails unless the database is as empty as CREATE DATABASE left it.
func (w *world) unmigrated() {
	w.t.Helper()
	require.Empty(w.t, w.tables())
	require.Zero(w.t, w.count(`SELECT count(*) FROM pg_namespace WHERE nspname = 'provwatch'`))
	require.Zero(w.t, w.count(`SELECT count(*) FROM pg_type WHERE typname = 'ai_provider_type'`))
}

// insertProvider inserts a row; more is a list of further "column = value".
func (w *world) insertProvider(kind, name, baseURL string, more ...string) {
	w.t.Helper()
	w.exec(`INSERT INTO ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), $1::text::ai_provider_type, $2, $3)`, kind, name, baseURL)
	for _, set := range more {
		w.exec(`UPDATE ai_providers SET `+set+` WHERE name = $1`, name)
	}
}

func (w *world) migrate() {
	w.t.Helper()
	require.Equal(w.t, 0, w.run(nil, "migrate").Code)
}

// migrationVersions returns the versions of the migrations in the tree.
func (w *world) migrationVersions() []string {
	w.t.Helper()
	files, err := filepath.Glob("../sql/migrations/*.sql")
	require.NoError(w.t, err)
	require.NotEmpty(w.t, files)
	var versions []string
	for _, file := range files {
		number, _, _ := strings.Cut(filepath.Base(file), "_")
		versions = append(versions, strings.TrimLeft(number, "0"))
	}
	return versions
}

// onServer runs a statement in another database of the same server.
func (w *world) onServer(format string) {
	w.t.Helper()
	config, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	name := config.Database
	require.NoError(w.t, tryExec(w.t.Context(), strings.Replace(w.url, "/"+name+"?", "/postgres?", 1), fmt.Sprintf(format, name)))
}

// lock takes a table lock in a transaction of its own, and returns what ends it.
func (w *world) lock(table, mode string) (unlock func()) {
	w.t.Helper()
	conn := w.connect()
	tx, err := conn.Begin(w.t.Context())
	require.NoError(w.t, err)
	_, err = tx.Exec(w.t.Context(), fmt.Sprintf("LOCK TABLE %s IN %s MODE", table, mode))
	require.NoError(w.t, err)
	return func() {
		w.t.Helper()
		require.NoError(w.t, tx.Rollback(w.t.Context()))
	}
}

// waiting reports whether a worker waits for a lock on the table.
func (w *world) waiting(table string) bool {
	w.t.Helper()
	return w.count(`SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.relation = to_regclass($1) AND a.datname = current_database() AND NOT l.granted AND a.application_name LIKE 'provwatch%'`, table) > 0
}

// endSessions ends the sessions of workers. Those of a killed worker would otherwise
// finish the statement that they wait in once its lock is free. A machine that
// loses power does not do that either.
func (w *world) endSessions() {
	w.t.Helper()
	sessions := w.strings(`SELECT pid || ' ' || backend_start FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'provwatch%'`)
	w.exec(`SELECT pg_terminate_backend(split_part(session, ' ', 1)::int) FROM unnest($1::text[]) AS session`, sessions)
	// These alone are waited for: a worker that runs soon has others.
	eventually(w.t, func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE pid || ' ' || backend_start = ANY ($1)`, sessions) == 0
	}, "the sessions end")
}

// disableUnnoticed disables a provider in a transaction that has our trigger disabled, and
// leaves it as it was.
func (w *world) disableUnnoticed(name string) {
	w.t.Helper()
	require.NoError(w.t, tryExec(w.t.Context(), w.url, `BEGIN;
		ALTER TABLE ai_providers DISABLE TRIGGER provwatch_provider_update;
		UPDATE ai_providers SET enabled = false WHERE name = '`+name+`';
		ALTER TABLE ai_providers ENABLE ALWAYS TRIGGER provwatch_provider_update;
		COMMIT`))
}
