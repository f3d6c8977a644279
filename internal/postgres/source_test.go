package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/waittest"
)

// rotated is a role of one test that gets other passwords.
type rotated struct {
	t                     *testing.T
	owner                 *pgx.Conn
	place, database, role string
}

func newRotated(t *testing.T) *rotated {
	t.Helper()
	withoutVariables(t)
	owner, err := pgx.Connect(t.Context(), pgtest.NewDatabase(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = owner.Close(context.Background()) })
	config := owner.Config()
	r := &rotated{t: t, owner: owner, place: fmt.Sprintf("127.0.0.1:%d", config.Port), database: config.Database, role: config.Database + "_rotated"}
	_, err = owner.Exec(t.Context(), "CREATE ROLE "+r.role+" LOGIN REPLICATION")
	require.NoError(t, err)
	return r
}

// rotate gives the role another password in the server.
func (r *rotated) rotate(password string) {
	r.t.Helper()
	_, err := r.owner.Exec(r.t.Context(), "ALTER ROLE "+r.role+" PASSWORD '"+password+"'")
	require.NoError(r.t, err)
}

func (r *rotated) url(password string) string {
	return "postgres://" + r.role + ":" + password + "@" + r.place + "/" + r.database + "?sslmode=disable"
}

// keywords are those of a connection without a password.
func (r *rotated) keywords() string {
	host, port, _ := strings.Cut(r.place, ":")
	return fmt.Sprintf("host=%s port=%s dbname=%s sslmode=disable", host, port, r.database)
}

func (r *rotated) write(path, content string) string {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// connect makes a connection of each kind, and returns the first error.
func (r *rotated) connect(config *pgxpool.Config) error {
	for _, kind := range []*pgconn.Config{
		&config.ConnConfig.Config, &postgres.ListenConfig(config).Config, &postgres.ReplicationConfig(config).Config, &postgres.StatusConfig(config).ConnConfig.Config,
	} {
		conn, err := pgconn.ConnectConfig(waittest.Context(r.t), kind.Copy())
		if err != nil {
			return err
		}
		if err := conn.Close(waittest.Context(r.t)); err != nil {
			return err
		}
	}
	return nil
}

func TestThePasswordIsReadAgainForEachConnection(t *testing.T) {
	r := newRotated(t)
	dir := t.TempDir()
	for name, c := range map[string]struct {
		source postgres.Source
		write  func(password string)
		file   string // that the remedy names
	}{
		"file": {
			postgres.Source{Path: filepath.Join(dir, "url")},
			func(password string) { r.write(filepath.Join(dir, "url"), r.url(password)+"\n") },
			filepath.Join(dir, "url"),
		},
		"mounted secret": { // of which a rename swaps all files at once
			postgres.Source{Path: filepath.Join(dir, "mounted")},
			func(password string) {
				version, err := os.MkdirTemp(dir, "..version")
				require.NoError(t, err)
				r.write(filepath.Join(version, "mounted"), r.url(password))
				next := filepath.Join(dir, "..next")
				require.NoError(t, os.Symlink(version, next))
				require.NoError(t, os.Rename(next, filepath.Join(dir, "..data")))
				_ = os.Symlink("..data/mounted", filepath.Join(dir, "mounted"))
			},
			filepath.Join(dir, "mounted"),
		},
		"password file": {
			postgres.Source{Name: "DATABASE_URL", Text: r.keywords() + " user=" + r.role},
			func(password string) {
				t.Setenv("PGPASSFILE", r.write(filepath.Join(dir, "passwords"), "*:*:*:"+r.role+":"+password+"\n"))
			},
			"the password file (PGPASSFILE)",
		},
		"service file": {
			postgres.Source{Name: "DATABASE_URL", Text: r.keywords() + " service=gateway"},
			func(password string) {
				t.Setenv("PGSERVICEFILE", r.write(filepath.Join(dir, "services"), "[gateway]\nuser="+r.role+"\npassword="+password+"\n"))
			},
			"the service file (PGSERVICEFILE)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.write("first")
			r.rotate("first")
			config, err := postgres.Parse(c.source)
			require.NoError(t, err)
			require.NoError(t, r.connect(config))
			for _, password := range []string{"second", "third"} {
				r.rotate(password)
				err := r.connect(config)
				require.True(t, postgres.IsLoginRefused(err), "%v", err)
				require.True(t, postgres.IsConnectionLoss(err), "%v", err)
				require.ErrorContains(t, postgres.Explain(config, err), "; check the user and the password in "+c.file)
				c.write(password)
				require.NoError(t, r.connect(config))
			}
		})
	}
}

// TestAnUnusableSourceLeavesThePasswordInUse changes the file of a connection string
// into what it cannot be used as.
func TestAnUnusableSourceLeavesThePasswordInUse(t *testing.T) {
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

// TestAnotherUserIsReadAgain has a role of its own for each password, as where they are
// handed out for a while.
func TestAnotherUserIsReadAgain(t *testing.T) {
	r := newRotated(t)
	r.rotate("first")
	path := r.write(filepath.Join(t.TempDir(), "url"), r.url("first"))
	config, err := postgres.Parse(postgres.Source{Path: path})
	require.NoError(t, err)
	require.NoError(t, r.connect(config))
	_, err = r.owner.Exec(t.Context(), "DROP ROLE "+r.role+"; CREATE ROLE "+r.role+"_next LOGIN REPLICATION PASSWORD 'second'")
	require.NoError(t, err)
	require.True(t, postgres.IsLoginRefused(r.connect(config)))
	r.write(path, strings.Replace(r.url("second"), r.role, r.role+"_next", 1))
	require.NoError(t, r.connect(config))

	// A caller's own user stays.
	own := config.ConnConfig.Copy()
	own.User = "nobody"
	_, err = pgx.ConnectConfig(waittest.Context(t), own)
	require.ErrorContains(t, err, "user=nobody")
}

func TestAStartWaitsForAPasswordThatIsReadAgain(t *testing.T) {
	r := newRotated(t)
	r.rotate("right")
	path := r.write(filepath.Join(t.TempDir(), "url"), r.url("wrong"))
	config, err := postgres.Parse(postgres.Source{Path: path})
	require.NoError(t, err)
	tries := 0
	pool, err := postgres.Connect(waittest.Context(t), config, time.Hour, quiet, func(err error) {
		require.ErrorContains(t, err, "; check the user and the password in "+path)
		if tries++; tries == 2 {
			r.write(path, r.url("right"))
		}
	})
	require.NoError(t, err)
	pool.Close()

	r.write(path, r.url("wrong"))
	_, err = postgres.Connect(waittest.Context(t), config, time.Second, quiet)
	var unreachable *postgres.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.ErrorContains(t, err, "; check the user and the password in "+path)
}
