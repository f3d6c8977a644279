//go:build e2e

package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// newPrivateWorld returns a world without a database, and a data dir that the
// user who runs PostgreSQL can reach. Whatever a failed test leaves running is
// stopped.
func newPrivateWorld(t *testing.T) (w *world, dir string, env environ) {
	t.Helper()
	needsInstalledServer(t)
	// Not t.TempDir, whose parent is closed to other users. The rest of the
	// name is what a path can have.
	parent, err := os.MkdirTemp("", "provwatch private's&+$HOME-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(parent, 0o755))
	dir = filepath.Join(parent, "data")
	t.Cleanup(func() {
		if pid := postmasterPID(dir); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
			eventually(t, func() bool { return len(serversOf(t, dir)) == 0 }, "the server ends")
		}
		require.NoError(t, os.RemoveAll(parent))
	})
	w = &world{t: t, notes: map[pubsub.Channel][]string{}}
	env = w.twoProviders()
	env["DATABASE_URL"] = ""
	env["PROVWATCH_DATA_DIR"] = dir
	return w, dir, env
}

func postmasterPID(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "pgdata", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(first)
	return pid
}

// serversOf returns the processes whose working directory is the data dir's:
// every process of a PostgreSQL server has that.
func serversOf(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	var found []string
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir) {
			found = append(found, filepath.Dir(link))
		}
	}
	return found
}

var connectWith = regexp.MustCompile(`connect_with="([^"]*)"`)

// attach waits until the worker's private server runs, runs the psql command
// that the worker printed in a shell, and connects the world to the server.
func (w *world) attach(p *worker) {
	w.t.Helper()
	p.waitFor("DATABASE_URL is not set: a private PostgreSQL runs", "version=", "data_dir=")
	matches := connectWith.FindAllStringSubmatch(strings.Join(p.lines(), "\n"), -1)
	require.Len(w.t, matches, 1)
	command := matches[0][1]
	out, err := exec.Command("/bin/sh", "-c", command+` -XAtc "SELECT current_user || ' ' || current_database()"`).CombinedOutput()
	require.NoError(w.t, err, "%s: %s", command, out)
	require.Equal(w.t, "provwatch provwatch\n", string(out))
	w.url = strings.Trim(strings.TrimPrefix(command, "psql "), "'")
	w.db = w.connect()
	w.findServer()
}

func TestPrivatePostgres(t *testing.T) {
	t.Parallel()
	t.Run("StartedSharedAndStopped", testPrivatePostgresStartedSharedAndStopped)
	t.Run("SurvivesAKill", testPrivatePostgresSurvivesAKill)
	t.Run("BootDrift", testPrivatePostgresBootDrift)
	t.Run("StoppedDuringInit", testPrivatePostgresStoppedDuringInit)
}

func testPrivatePostgresStartedSharedAndStopped(t *testing.T) {
	t.Parallel()
	w, dir, env := newPrivateWorld(t)

	// With nothing running, the other commands say what to do.
	for _, args := range []string{"seed", "seed --dry-run", "verify", "watch", "migrate", "resolve openai --take db"} {
		require.Equal(t, result{Code: 4, Stderr: fmt.Sprintf("worker: no private PostgreSQL server is running in %[1]s: "+
			"start it with: worker run --data-dir %[1]s, or set DATABASE_URL\n", dir)}, w.run(env, strings.Fields(args)...))
	}
	require.NoDirExists(t, dir)

	p := w.start(env, "run").ready()
	w.attach(p)
	w.listen()
	require.Equal(t, []string{"anthropic", "openai"}, w.strings(`SELECT name FROM ai_providers ORDER BY name`))
	eventually(t, func() bool { return w.count(`SELECT count(*) FROM provwatch.audit_log`) == 4 }, "the seed is audited")

	// Other processes attach to it.
	require.Equal(t, 0, w.run(env, "verify").Code)
	require.Equal(t, 0, w.run(environ{"DATABASE_URL": ""}, "migrate", "--dry-run", "--data-dir", dir).Code)
	watch := w.start(environ{"DATABASE_URL": ""}, "watch", "--since", "0", "--data-dir", dir)
	watch.waitFor("msg=listening")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	eventually(t, func() bool { return len(watch.output()) == 2 }, "the alert is printed")
	require.Contains(t, watch.output()[0], "#1  disabled  openai  (wal; moved: database)")
	watch.stop()
	require.Equal(t, 2, w.run(env, "verify").Code)

	// A second worker is told why not, and does the first no harm.
	r := w.run(env, "run")
	require.Equal(t, 1, r.Code)
	require.Equal(t, fmt.Sprintf("worker: DATABASE_URL is not set: starting the private PostgreSQL in %[1]s: "+
		"another worker (pid %[2]d) is using %[1]s: set DATABASE_URL to share its database, or choose another --data-dir\n", dir, p.command.Process.Pid), r.Stderr)
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")

	require.NotEmpty(t, serversOf(t, dir))
	w.searchForSecrets()
	p.stop()
	require.Empty(t, serversOf(t, dir))
	require.NoFileExists(t, filepath.Join(dir, "pgdata", "postmaster.pid"))
}

func testPrivatePostgresSurvivesAKill(t *testing.T) {
	t.Parallel()
	w, dir, env := newPrivateWorld(t)
	p := w.start(env, "run").ready()
	w.attach(p)
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	eventually(t, func() bool { return len(w.alerts()) == 1 }, "the drift is alerted")
	p.stop()

	// Restarted: the alert is not repeated, and the next one has the next seq.
	p = w.start(env, "run").ready()
	w.attach(p)
	require.Equal(t, []string{"disabled openai"}, w.alerts())

	// Killed: the server goes on, and the next worker adopts it and what
	// happened meanwhile.
	p.kill9()
	require.NotEmpty(t, serversOf(t, dir))
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'anthropic'`)
	p = w.start(env, "run").ready()
	p.waitFor("level=WARN", "left behind by another worker; adopting it")
	w.attach(p)
	require.Equal(t, []string{"disabled openai", "disabled anthropic"}, w.alerts())

	// Killed together with its server: that recovers.
	server := postmasterPID(dir)
	p.kill9()
	require.NoError(t, syscall.Kill(server, syscall.SIGKILL))
	eventually(t, func() bool { return len(serversOf(t, dir)) == 0 }, "the server's processes end")
	p = w.start(env, "run").ready()
	p.waitFor("level=WARN", "did not end properly; it will recover")
	w.attach(p)
	require.Equal(t, []string{"disabled openai", "disabled anthropic"}, w.alerts())
	require.Equal(t, 2, w.count(`SELECT count(*) FROM ai_provider_keys`))
	require.Equal(t, 4, w.count(`SELECT count(*) FROM provwatch.audit_log`))
	w.exec(`UPDATE ai_providers SET enabled = true`)
	eventually(t, func() bool { return len(w.alerts()) == 4 }, "the drifts are resolved")
	require.Equal(t, 4, w.count(`SELECT max(seq) FROM provwatch.drift_alerts`))
	w.searchForSecrets()

	// Data of another major version are left alone.
	p.stop()
	version := filepath.Join(dir, "pgdata", "PG_VERSION")
	ours, err := os.ReadFile(version)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(version, []byte("9\n"), 0o600))
	r := w.run(env, "run")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, "the data in "+filepath.Join(dir, "pgdata")+" are of PostgreSQL 9, but the programs found are of PostgreSQL "+strings.TrimSpace(string(ours)))
	require.Contains(t, r.Stderr, "(nothing was changed)")
	require.NoError(t, os.WriteFile(version, ours, 0o600))
	p = w.start(env, "run").ready()
	w.attach(p)
	require.Len(t, w.alerts(), 4)
	p.stop()
	require.Empty(t, serversOf(t, dir))
}

// shell runs a command of a message as it is printed, in a shell that has the worker
// on its PATH and none of its variables.
func (w *world) shell(dir, command string) result {
	w.t.Helper()
	shell := exec.Command("sh", "-c", command)
	shell.Dir = dir
	shell.Env = []string{"PATH=" + filepath.Dir(workerBinary) + ":" + os.Getenv("PATH"), "HOME=" + w.t.TempDir(), raceOptions}
	var stdout, stderr bytes.Buffer
	shell.Stdout, shell.Stderr = &stdout, &stderr
	err := shell.Run()
	w.emit(stdout.String() + stderr.String())
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(w.t, err, &exit)
	}
	return result{Code: shell.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

var printedCommand = regexp.MustCompile(`"(worker [^"]*)"`)

// testPrivatePostgresBootDrift changes a row of the private PostgreSQL, which stops with the worker
// that is then not started for the drift.
func testPrivatePostgresBootDrift(t *testing.T) {
	t.Parallel()
	drifted := func(t *testing.T) (w *world, dir string, run func(more ...string) *worker) {
		w, dir, _ = newPrivateWorld(t)
		file := w.file("providers it's.env", "CODER_AIBRIDGE_OPENAI_KEY="+w.secret(openAIKey)+"\n")
		// By variables, which the shell of an operator does not have.
		env := environ{"DATABASE_URL": "", "PROVWATCH_DATA_DIR": dir, "PROVWATCH_ENV_FILE": file}
		run = func(more ...string) *worker { return w.start(env, append([]string{"run"}, more...)...) }
		p := run().ready()
		w.attach(p)
		w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`)
		eventually(t, func() bool { return len(w.alerts()) == 1 }, "the drift is alerted")
		p.signal(syscall.SIGINT)
		require.Equal(t, 0, p.wait())
		require.Empty(t, serversOf(t, dir))
		return w, dir, run
	}
	commands := func(t *testing.T, text string) (takeEnv, takeDB, tolerate string) {
		t.Helper()
		var all []string
		for _, match := range printedCommand.FindAllStringSubmatch(text, -1) {
			all = append(all, match[1])
		}
		require.Len(t, all, 3, text)
		return all[0], all[1], all[2]
	}

	// resolve runs a command that a failed start has named, and starts again.
	resolve := func(t *testing.T, w *world, dir, command string, run func(...string) *worker) *worker {
		t.Helper()
		require.Empty(t, serversOf(t, dir))
		r := w.shell(t.TempDir(), command)
		require.Equal(t, 0, r.Code, "%s: %s", command, r.Stderr)
		require.Contains(t, r.Stderr, "starting the private PostgreSQL for this command")
		require.Empty(t, serversOf(t, dir), "the server is stopped again")
		return run().ready()
	}

	// resolved takes the way out that pick picks of those of the message.
	resolved := func(t *testing.T, pick func(takeEnv, takeDB string) string) (*world, *worker) {
		t.Helper()
		w, dir, run := drifted(t)
		p := run()
		require.Equal(t, 2, p.wait())
		takeEnv, takeDB, _ := commands(t, strings.Join(p.lines(), "\n"))
		p = resolve(t, w, dir, pick(takeEnv, takeDB), run)
		w.attach(p)
		return w, p
	}
	t.Run("TakeEnv", func(t *testing.T) {
		t.Parallel()
		w, p := resolved(t, func(takeEnv, _ string) string { return takeEnv })
		require.Equal(t, []string{"https://api.openai.com/v1/"}, w.strings(`SELECT base_url FROM ai_providers`))
		eventually(t, func() bool { return len(w.alerts()) == 2 }, "the drift is resolved")
		require.Equal(t, []string{"changed openai", "resolved openai"}, w.alerts())
		p.stop()
	})
	t.Run("TakeDB", func(t *testing.T) {
		t.Parallel()
		w, p := resolved(t, func(_, takeDB string) string { return takeDB })
		require.Equal(t, []string{"https://proxy.example/v1"}, w.strings(`SELECT base_url FROM ai_providers`))
		p.stop()
	})
	t.Run("Alert", func(t *testing.T) {
		t.Parallel()
		w, dir, run := drifted(t)
		p := run()
		require.Equal(t, 2, p.wait())
		takeEnv, _, tolerate := commands(t, strings.Join(p.lines(), "\n"))
		require.True(t, strings.HasPrefix(tolerate, "worker run --on-boot-drift=alert --env-file "), tolerate)

		// As it is printed, without the worker's name.
		out, err := exec.Command("sh", "-c", "printf '%s\n' "+strings.TrimPrefix(tolerate, "worker ")).Output()
		require.NoError(t, err)
		p = w.start(environ{"DATABASE_URL": ""}, strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")...).ready()
		w.attach(p)
		require.Equal(t, []string{"changed openai"}, w.alerts())
		p.waitFor("level=WARN", "provider differs from the environment", strings.ReplaceAll(takeEnv, `\`, `\\`))
		r := w.shell(t.TempDir(), takeEnv)
		require.Equal(t, 0, r.Code, "%s: %s", takeEnv, r.Stderr)
		eventually(t, func() bool { return len(w.alerts()) == 2 }, "the drift is resolved")
		require.Equal(t, []string{"changed openai", "resolved openai"}, w.alerts())
		p.signal(syscall.SIGINT)
		require.Equal(t, 0, p.wait())

		p = run().ready()
		require.Zero(t, p.logged("level=WARN", "differs"))
		p.stop()
		require.Empty(t, serversOf(t, dir))
	})
}

func testPrivatePostgresStoppedDuringInit(t *testing.T) {
	t.Parallel()
	w, dir, env := newPrivateWorld(t)
	p := w.start(env, "run")
	p.waitFor("initialising private PostgreSQL")
	p.stop()
	require.Empty(t, serversOf(t, dir))
	require.NoFileExists(t, filepath.Join(dir, "pgdata", "postmaster.pid"))
	// Nothing half-made is in the way of the next start.
	p = w.start(env, "run").ready()
	p.stop()
	require.Empty(t, serversOf(t, dir))
}
