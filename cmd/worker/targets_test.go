package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSharedDatabase has files that are read when a target starts, and a database that
// is known before.
func TestSharedDatabase(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	write("none.env", "")
	write("b.url", "postgres://u:hunter2@db.example:5432/two")
	write("c.url", "postgres://other:hunter2@db.example/two")
	t.Setenv("DATABASE_URL", "")
	f := newFlags()
	f.config = write("targets.yaml", `
targets:
  - {name: a, env_file: none.env, database: host=db.example port=5432 dbname=one}
  - {name: b, env_file: none.env, database_url_file: b.url}
  - {name: c, env_file: none.env, database_url_file: c.url}
`)
	targets, err := f.readTargets()
	require.NoError(t, err)
	open := func(i int) error {
		_, err := (&targetOpener{target: &targets[i]}).Open(t.Context(), slog.New(slog.DiscardHandler))
		return err
	}
	require.NoError(t, open(1))
	require.EqualError(t, open(2), "its database is that of target b")
	require.NoError(t, open(1), "it is its own")

	write("b.url", "postgres://u:hunter2@db.example/one")
	require.EqualError(t, open(1), "its database is that of target a")
	write("b.url", "postgres://u:hunter2@db.example/three")
	require.NoError(t, open(1))
	require.NoError(t, open(2))
}
