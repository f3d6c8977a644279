//go:build e2e

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/embedded"
	sqlfiles "provwatch/sql"
)

func TestRoles(t *testing.T) {
	t.Parallel()
	t.Run("OfTheScript", testRolesOfTheScript)
	t.Run("DocumentedPrivileges", testRolesDocumentedPrivileges)
}

func testRolesOfTheScript(t *testing.T) {
	t.Parallel()
	t.Run("PrintsTheFileAndConnectsToNothing", func(t *testing.T) {
		t.Parallel()
		w := &world{t: t}
		d := newDecoy(t, w)
		r := w.run(environ{"DATABASE_URL": d.url}, "roles")
		require.Equal(t, result{Code: 0, Stdout: "\\set ON_ERROR_STOP on\n" + read(t, "../sql/roles.sql")}, r)
		r = w.run(environ{"DATABASE_URL": d.url}, "roles", "-o", "json")
		require.Equal(t, 0, r.Code)
		var printed map[string]string
		require.NoError(t, json.Unmarshal([]byte(r.Stdout), &printed))
		require.Equal(t, map[string]string{"sql": read(t, "../sql/roles.sql")}, printed)
		require.Zero(t, d.connections.Load())
	})
	t.Run("BeforeMigrateIsOneError", func(t *testing.T) {
		t.Parallel()
		w := newEmptyWorld(t)
		for _, state := range []string{"no tables of provwatch", "tables of an older provwatch"} {
			if strings.Contains(state, "older") {
				w.migrate()
				w.exec(`DROP TABLE provwatch.not_loaded`) // of the latest migration
			}
			// With a client that goes on after an error, and with psql as documented.
			err := tryExec(t.Context(), w.url, sqlfiles.Roles)
			require.ErrorContains(t, err, state)
			require.ErrorContains(t, err, `run "worker migrate" first`)
			printed := w.run(nil, "roles")
			require.Equal(t, 0, printed.Code)
			out, err := w.psql("-f", w.file("roles.sql", printed.Stdout), w.url)
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 3, exit.ExitCode())
			require.Equal(t, 1, strings.Count(out, "ERROR:"), out)
			require.Contains(t, out, state)
		}
	})
	t.Run("KnowsTheLatestMigration", func(t *testing.T) {
		t.Parallel()
		files, err := fs.Glob(sqlfiles.Migrations, "migrations/*.sql")
		require.NoError(t, err)
		last, err := fs.ReadFile(sqlfiles.Migrations, files[len(files)-1])
		require.NoError(t, err)
		latest := regexp.MustCompile(`latest CONSTANT text := '(\w+)(?:\.(\w+))?';`).FindStringSubmatch(sqlfiles.Roles)
		require.NotNil(t, latest)
		makes := `CREATE (TABLE|FUNCTION) provwatch\.` + latest[1] + `\b`
		if latest[2] != "" {
			makes = `ALTER TABLE provwatch\.` + latest[1] + `\s+ADD COLUMN ` + latest[2] + `\b`
		}
		require.Regexp(t, makes, string(last), "sql/roles.sql knows what the latest migration makes, %s", files[len(files)-1])
	})
	// A superuser often runs it, and a view runs code as its reader.
	t.Run("ReadNoTableOfTheSchema", func(t *testing.T) {
		t.Parallel()
		w := newEmptyWorld(t)
		const planted = `
			CREATE TABLE public.ran (by_role text);
			CREATE FUNCTION provwatch.evil() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN true; END $$;
			CREATE VIEW provwatch.schema_migrations AS SELECT 7::bigint AS version_id, provwatch.evil() AS is_applied;
			GRANT USAGE ON SCHEMA provwatch TO PUBLIC; GRANT SELECT ON provwatch.schema_migrations TO PUBLIC`
		w.exec("CREATE SCHEMA provwatch;" + planted)
		require.ErrorContains(t, tryExec(t.Context(), w.url, sqlfiles.Roles), "no tables of provwatch")
		require.Zero(t, w.count(`SELECT count(*) FROM public.ran`))
		// The owner of a schema that was migrated can do it afterwards.
		w.exec(`DROP SCHEMA provwatch CASCADE; DROP TABLE public.ran`)
		w.migrate()
		w.exec("ALTER TABLE provwatch.schema_migrations RENAME TO former;" + planted)
		require.NoError(t, tryExec(t.Context(), w.url, sqlfiles.Roles))
		require.Zero(t, w.count(`SELECT count(*) FROM public.ran`))
	})
}

// psql runs the installed psql, also on a server of another version, whose programs
// need not include one. It is not asked for a password.
func (w *world) psql(args ...string) (string, error) {
	w.t.Helper()
	binDir, err := embedded.FindBinDir(w.t.Context(), 0)
	require.NoError(w.t, err)
	out, err := exec.Command(filepath.Join(binDir, "psql"), append([]string{"-X", "-q", "-w"}, args...)...).CombinedOutput()
	return string(out), err
}

// shellBlocks returns the commands of a page's blocks for a shell, a line each.
func shellBlocks(t *testing.T, page string) (blocks [][]string) {
	t.Helper()
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(read(t, page), -1) {
		blocks = append(blocks, strings.Split(strings.TrimSpace(block[1]), "\n"))
	}
	return blocks
}

// testRolesDocumentedPrivileges runs the commands of docs/privileges.md as they are written,
// on a server of which only the owner and the administrator were made.
func testRolesDocumentedPrivileges(t *testing.T) {
	t.Parallel()
	w, dir, _ := newPrivateWorld(t)
	blocks := shellBlocks(t, "../docs/privileges.md")
	require.Len(t, blocks, 2)
	require.Len(t, blocks[0], 3)

	// wal_level is the only setting that matters and that the private server has
	// otherwise than initdb.
	var server *embedded.Server
	start := func(level string) {
		t.Helper()
		var err error
		server, err = embedded.Start(t.Context(), embedded.Options{DataDir: dir, Settings: map[string]string{"wal_level": level}})
		require.NoError(t, err)
		config, err := pgx.ParseConfig(server.ConnString())
		require.NoError(t, err)
		w.url = fmt.Sprintf("postgres://provwatch@/gateway?host=%s&port=%d&sslmode=disable", strings.ReplaceAll(url.QueryEscape(config.Host), "+", "%20"), config.Port)
	}
	stop := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
	}
	as := func(role string) string { return strings.Replace(w.url, "//provwatch@", "//"+role+"@", 1) }
	start("replica")
	for _, statement := range []string{"CREATE ROLE owner LOGIN", "CREATE ROLE admin LOGIN SUPERUSER", "CREATE DATABASE gateway OWNER owner"} {
		require.NoError(t, tryExec(t.Context(), strings.Replace(w.url, "/gateway?", "/postgres?", 1), statement))
	}

	binDir, err := embedded.FindBinDir(t.Context(), 0)
	require.NoError(t, err)
	password := w.secret("made-up-password-0123456789")
	address := regexp.MustCompile(`postgres://(\w+)@db\.example/gateway`)
	run := func(line string) {
		t.Helper()
		// What differs from the page is where the server is.
		command := address.ReplaceAllStringFunc(line, func(found string) string {
			return "'" + strings.ReplaceAll(as(address.FindStringSubmatch(found)[1]), "'", `'\''`) + "'"
		})
		shell := exec.Command("sh", "-c", command)
		shell.Env = []string{"PATH=" + filepath.Dir(workerBinary) + ":" + binDir + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), raceOptions}
		// Without a terminal, psql reads a password from its input.
		shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		shell.Stdin = strings.NewReader(password + "\n" + password + "\n")
		out, err := shell.CombinedOutput()
		w.emit(string(out))
		require.NoError(t, err, "%s: %s", line, out)
		require.NotContains(t, string(out), "ERROR:", line)
	}

	// As the page is most easily misread: the roles before the tables.
	early := exec.Command("sh", "-c", strings.NewReplacer("worker roles", workerBinary+" roles", "psql ", filepath.Join(binDir, "psql")+" ",
		"postgres://admin@db.example/gateway", "'"+strings.ReplaceAll(as("admin"), "'", `'\''`)+"'").Replace(blocks[0][1]))
	out, err := early.CombinedOutput()
	require.Error(t, err, "psql fails")
	require.Contains(t, string(out), `the database gateway has no tables of provwatch: run "worker migrate" first`)
	require.Equal(t, 1, strings.Count(string(out), "ERROR:"))

	for _, line := range blocks[0] {
		run(line)
	}
	w.db = w.connect()
	require.Equal(t, 1, w.count(`SELECT count(*) FROM pg_authid WHERE rolname = 'worker' AND rolreplication AND rolpassword LIKE 'SCRAM-SHA-256$%'`))
	// The roles can be granted again, also by the owner, as after an upgrade.
	run(blocks[0][1])
	run(strings.Replace(blocks[0][1], "admin@", "owner@", 1))

	env := w.twoProviders().With("DATABASE_URL", as("worker"))
	p := w.start(env, "run").ready()
	p.waitFor("alerts come from this source instead", "source=notify")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	eventually(t, func() bool { return len(w.alerts()) == 1 }, "the drift is alerted")
	p.stop()

	for _, line := range blocks[1] {
		if line != "# restart the server" {
			run(line)
			continue
		}
		require.Equal(t, 1, w.count(`SELECT count(*) FROM pg_file_settings WHERE name = 'wal_level' AND setting = 'logical'`))
		require.NoError(t, w.db.Close(t.Context()))
		stop()
		start("logical")
		w.db = w.connect()
		env = env.With("DATABASE_URL", as("worker"))
	}
	p = w.start(env, "run").ready()
	p.waitFor("alerts come from this source now", "source=wal")
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	eventually(t, func() bool { return len(w.alerts()) == 2 }, "the drift is resolved")
	require.Equal(t, []string{"disabled openai", "resolved openai"}, w.alerts())
	p.stop()
	w.searchForSecrets()
	require.NoError(t, w.db.Close(t.Context()))
	stop()
}
