//go:build e2e

package test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/postgres"
	"provwatch/internal/schema"
)

// prepare is [migrateAndGrant] of the world's database, whose commands connect as roles
// of their own from then on.
func (w *world) prepare() {
	w.t.Helper()
	require.NoError(w.t, migrateAndGrant(w.url, w.source))
	w.logInAsRoles()
}

// logInAsRoles makes each command connect as the role that it is for.
func (w *world) logInAsRoles() {
	w.t.Helper()
	for _, group := range []string{"notify", "operator", "reader"} {
		w.createRole("test_"+group, "IN ROLE provwatch_"+group)
	}
	w.createRole("test_wal", "REPLICATION IN ROLE provwatch_wal")
	worker := "test_wal"
	if w.source == "notify" {
		worker = "test_notify"
	}
	w.login = map[string]string{
		"run": worker, "seed": worker, "verify": worker, "prune": worker, "watch": "test_reader", "status": "test_reader",
		"resolve": "test_operator", "silence": "test_operator", "silences": "test_operator", "unsilence": "test_operator",
	}
}

// passwordMark is in the password of each role of [world.createRole], with characters beside
// that are escaped in a URL.
const passwordMark = "S3cretQz7vLk9x"

func passwordOf(role string) string { return "/@?#% '" + passwordMark + "-" + role }

// createRole creates a role that logs in by [passwordOf], unless another test has: it
// is the cluster's, which all databases share and which goes with its tests.
func (w *world) createRole(name, attributes string) {
	w.t.Helper()
	conn := w.connect()
	for _, statement := range []string{
		"SET log_statement = none; SET log_min_error_statement = panic", // the next one has the password
		`DO $$ BEGIN
			CREATE ROLE ` + name + ` LOGIN PASSWORD '` + strings.ReplaceAll(passwordOf(name), "'", "''") + `' ` + attributes + `;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END $$`,
	} {
		_, err := conn.Exec(w.t.Context(), statement)
		require.NoError(w.t, err)
	}
	require.NoError(w.t, conn.Close(w.t.Context()))
}

// migrateAndGrant does what an administrator does for workers of a source that connect as
// roles of their own (docs/privileges.md).
func migrateAndGrant(databaseURL, source string) error {
	config, err := postgres.ParseURL(databaseURL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	needs := schema.Needs{Publication: true}
	switch source {
	case "notify":
		needs = schema.Needs{Triggers: true}
	case "auto":
		needs.Triggers = true
	}
	if _, _, err := schema.Migrate(ctx, config.ConnConfig, needs); err != nil {
		return err
	}
	script, err := os.ReadFile("../sql/roles.sql")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, string(script))
	return errors.Join(err, conn.Close(ctx))
}

// withPassword returns the database's URL by TCP, where the server asks for
// the password that the URL holds: of a role of [world.createRole], or of the owner.
func (w *world) withPassword(role string) string {
	w.t.Helper()
	config, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	password := passwordOf(role)
	if role == config.User {
		password = w.ownerPassword()
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password), Host: fmt.Sprintf("127.0.0.1:%d", config.Port),
		Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// as returns the database's URL for a role by a unix socket, where the server asks for
// no password.
func (w *world) as(role string) string {
	w.t.Helper()
	other := strings.Replace(w.url, "postgres://provwatch@", "postgres://"+role+"@", 1)
	require.NotEqual(w.t, w.url, other)
	return other
}

// ownerPassword returns the password of the databases' owner.
func (w *world) ownerPassword() string {
	w.t.Helper()
	password, err := os.ReadFile(filepath.Join(w.server, "password"))
	require.NoError(w.t, err)
	return strings.TrimSpace(string(password))
}

// role makes a role that is dropped at the end of the test, and returns the URL
// that connects as it.
func (w *world) role(suffix string) (name, url string) {
	w.t.Helper()
	config, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	name = config.Database + "_" + suffix
	w.exec(`CREATE ROLE ` + name + ` LOGIN`)
	w.t.Cleanup(func() { // before the database is dropped
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, w.url)
		require.NoError(w.t, err)
		_, err = conn.Exec(ctx, `DROP OWNED BY `+name+` CASCADE; DROP ROLE `+name)
		require.NoError(w.t, err)
		require.NoError(w.t, conn.Close(ctx))
	})
	return name, w.as(name)
}
