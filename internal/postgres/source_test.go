package postgres_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

func TestReread(t *testing.T) {
	t.Run("EachConnection", testRereadEachConnection)
	t.Run("OtherUser", testRereadOtherUser)
}

func testRereadEachConnection(t *testing.T) {
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

// testRereadOtherUser has a role of its own for each password, as where they are
// handed out for a while.
func testRereadOtherUser(t *testing.T) {
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
