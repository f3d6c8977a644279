//go:build e2e

package postgres_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/postgres"
	"provwatch/internal/waittest"
)

func TestRereadFaults(t *testing.T) {
	t.Run("UnusableSource", testRereadFaultsUnusableSource)
	t.Run("StartWaits", testRereadFaultsStartWaits)
}

// testRereadFaultsUnusableSource changes the file of a connection string
// into what it cannot be used as.
func testRereadFaultsUnusableSource(t *testing.T) {
	r := newRotated(t)
	r.rotate("S3cret")
	path := r.write(filepath.Join(t.TempDir(), "url"), r.url("S3cret"))
	var log bytes.Buffer
	config, err := postgres.Parse(postgres.Source{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		content string
		want    string
	}{
		"empty":                  {" \n", "is empty"},
		"in quotes":              {`"` + r.url("S3cret") + `"`, "is in quotes"},
		"another database":       {strings.Replace(r.url("other"), "/"+r.database+"?", "/postgres?", 1), "names another server or database"},
		"another server":         {strings.Replace(r.url("other"), "@127.0.0.1:", "@127.0.0.2:", 1), "names another server or database"},
		"the user as a database": {strings.Replace(r.url("other"), "/"+r.database+"?", "?", 1), "names another server or database"},
		"no password":            {strings.Replace(r.url(""), r.role+":@", r.role+"@", 1), "has no password any more"},
		"another sslmode":        {strings.Replace(r.url("S3cret"), "sslmode=disable", "sslmode=prefer", 1), "settings of the connection string have changed"},
		"another setting":        {r.url("S3cret") + "&application_name=other", "settings of the connection string have changed"},
	} {
		log.Reset()
		r.write(path, c.content)
		for range 2 {
			require.NoError(t, r.connect(config), name)
		}
		require.Equal(t, 1, strings.Count(log.String(), "\n"), "%s: %s", name, &log)
		require.Contains(t, log.String(), c.want, name)
		require.Contains(t, log.String(), "level=WARN", name)
		require.NotContains(t, log.String(), "S3cret", name)
		log.Reset()
		r.write(path, r.url("S3cret"))
		require.NoError(t, r.connect(config), name)
		require.Empty(t, log.String(), name)
	}
	for name, change := range map[string]func(){
		"absent": func() { require.NoError(t, os.Remove(path)) },
		"open to writers": func() {
			r.write(path, r.url("other"))
			require.NoError(t, os.Chmod(path, 0o666))
		},
	} {
		log.Reset()
		change()
		for range 2 {
			require.NoError(t, r.connect(config), name)
		}
		require.Equal(t, 1, strings.Count(log.String(), "cannot be read again"), "%s: %s", name, &log)
		require.NoError(t, os.RemoveAll(path))
		r.write(path, r.url("S3cret"))
		require.NoError(t, r.connect(config), name)
	}
}

func testRereadFaultsStartWaits(t *testing.T) {
	r := newRotated(t)
	r.rotate("right")
	path := r.write(filepath.Join(t.TempDir(), "url"), r.url("wrong"))
	config, err := postgres.Parse(postgres.Source{Path: path})
	require.NoError(t, err)
	tries := 0
	pool, err := postgres.Connector{Config: config, Timeout: time.Hour, Logger: quiet, Waiting: waiting(func(err error) {
		require.ErrorContains(t, err, "; check the user and the password in "+path)
		if tries++; tries == 2 {
			r.write(path, r.url("right"))
		}
	})}.Connect(waittest.Context(t))
	require.NoError(t, err)
	pool.Close()

	r.write(path, r.url("wrong"))
	_, err = postgres.Connector{Config: config, Timeout: 10 * time.Second, Logger: quiet}.Connect(waittest.Context(t))
	var unreachable *postgres.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.ErrorContains(t, err, "; check the user and the password in "+path)
}
