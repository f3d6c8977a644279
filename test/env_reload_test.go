//go:build e2e

package test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/status"
)

// TestEnvReload changes the files of running workers, which get no signal.
func TestEnvReload(t *testing.T) {
	t.Parallel()
	t.Run("EnvFile", testEnvReloadEnvFile)
	t.Run("SecretFile", testEnvReloadSecretFile)
	t.Run("BadFileAndItsMending", testEnvReloadBadFile)
	t.Run("Observer", testEnvReloadObserver)
	t.Run("Targets", testEnvReloadTargets)
}

// startWatching starts a worker, and waits until it has compared the files that it watches:
// it notices what changes from then on by events alone.
func (w *world) startWatching(args ...string) *worker {
	w.t.Helper()
	p := w.start(environ{"PROVWATCH_LOG_LEVEL": "debug"}, append([]string{"run"}, args...)...).ready()
	p.waitFor("level=DEBUG", "the files of the environment have not changed")
	return p
}

// replaceFile writes a file by a rename.
func (w *world) replaceFile(path, content string) {
	w.t.Helper()
	w.rewrite(path+".next", content)
	require.NoError(w.t, os.Rename(path+".next", path))
}

// swapVolume gives a folder the files of a version as Kubernetes does for a volume: each is a
// link through ..data, which is swapped by a rename.
func (w *world) swapVolume(dir, version string, files map[string]string) {
	w.t.Helper()
	former, _ := os.Readlink(filepath.Join(dir, "..data"))
	require.NoError(w.t, os.Mkdir(filepath.Join(dir, version), 0o700))
	for name, content := range files {
		w.rewrite(filepath.Join(dir, version, name), content)
	}
	require.NoError(w.t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	require.NoError(w.t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if former != "" {
		require.NoError(w.t, os.RemoveAll(filepath.Join(dir, former)))
		return
	}
	for name := range files {
		require.NoError(w.t, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
}

func testEnvReloadEnvFile(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		openAI := "CODER_AIBRIDGE_OPENAI_KEY=" + w.secret(openAIKey) + "\n"
		other := openAI + "CODER_AIBRIDGE_OPENAI_BASE_URL=https://proxy.example/v1\n"
		volume := t.TempDir()
		w.swapVolume(volume, "..1", map[string]string{"providers.env": openAI})
		file := filepath.Join(volume, "providers.env")
		p := w.startWatching("--env-file="+file, "--http-addr=127.0.0.1:0")

		w.swapVolume(volume, "..2", map[string]string{"providers.env": other})
		w.expectAlerts("changed openai")
		p.waitFor("level=INFO", "the files of the environment have changed", "files=["+file+"]")
		require.Equal(t, []string{"reload"}, w.strings(`SELECT source FROM provwatch.drift_alerts`))
		w.replaceFile(file, openAI)
		w.expectAlerts("changed openai", "resolved openai")
		w.rewrite(file, other)
		w.expectAlerts("changed openai", "resolved openai", "changed openai")

		// The whole folder vanishes, and comes back.
		require.NoError(t, os.RemoveAll(volume))
		p.waitFor("level=ERROR", "the environment cannot be used, keeping the one in use", "no such file or directory")
		require.NoError(t, os.Mkdir(volume, 0o700))
		w.rewrite(file, openAI)
		w.expectAlerts("changed openai", "resolved openai", "changed openai", "resolved openai")
		require.Zero(t, p.logged("level=WARN", "cannot watch"))
		p.stop()
	})
}

func testEnvReloadSecretFile(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	secrets := t.TempDir()
	w.swapVolume(secrets, "..1", map[string]string{"openai": w.secret(openAIKey) + "\n", "unrelated": "1"})
	file := w.file("providers.env", "CODER_AIBRIDGE_OPENAI_KEY_FILE="+filepath.Join(secrets, "openai")+"\n")
	p := w.startWatching("--env-file="+file, "--credential-drift=alert")
	// A volume is swapped as a whole: what has the same content is no change.
	w.swapVolume(secrets, "..2", map[string]string{"openai": openAIKey + "\n", "unrelated": "2"})
	eventually(t, func() bool { return p.logged("level=DEBUG", "the files of the environment have not changed") >= 2 }, "the swap is noticed")
	require.Zero(t, p.logged("environment reloaded"))
	w.swapVolume(secrets, "..3", map[string]string{"openai": w.secret("made-up-key-0001") + "\n", "unrelated": "2"})
	w.expectAlerts("changed openai")
	require.Equal(t, 1, p.logged("environment reloaded"))
	p.stop()
}

func testEnvReloadBadFile(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	openAI := "CODER_AIBRIDGE_OPENAI_KEY=" + w.secret(openAIKey) + "\n"
	key := filepath.Join(t.TempDir(), "key")
	file := w.file("providers.env", openAI)
	p := w.startWatching("--env-file="+file, "--http-addr=127.0.0.1:0")
	remark := "environment: " + file + " on disk is not what is loaded"
	ready := func() string {
		code, body := p.get("/readyz")
		require.Equal(t, http.StatusOK, code, "the environment before is watched")
		return body
	}
	require.NotContains(t, ready(), "environment:")

	// The file names another file, which is not there yet.
	w.rewrite(file, openAI+"CODER_AIBRIDGE_ANTHROPIC_KEY_FILE="+key+"\n")
	p.waitFor("level=ERROR", "the environment cannot be used, keeping the one in use", "CODER_AIBRIDGE_ANTHROPIC_KEY_FILE: the file "+key+" cannot be read")
	require.Contains(t, ready(), remark)
	require.Equal(t, 0.0, p.metric("provwatch_last_reload_successful"))
	_, page := p.get("/")
	require.Contains(t, page, file+" on disk is not what is loaded")
	require.Regexp(t, `the last reload was refused</span>: [^<]*CODER_AIBRIDGE_ANTHROPIC_KEY_FILE`, page)
	found := w.waitForNotLoaded()
	require.Equal(t, []string{file}, found.Files)
	require.Equal(t, w.strings(`SELECT worker::text FROM provwatch.workers`), []string{found.Worker})
	r := w.run(w.twoProviders(), "status")
	require.Equal(t, 0, r.Code, r.Stderr)
	files := `(?m)^Files:     ` + regexp.QuoteMeta(file) + ` on disk is not what worker \S+ of role \S+ has loaded, since \S+$`
	require.Regexp(t, files, r.Stdout)
	// Where the file that cannot be used is the command's own as well.
	r = w.run(nil, "status", "--rollback-after=10m", "--env-file="+file)
	require.Equal(t, 3, r.Code)
	require.Contains(t, r.Stderr, "CODER_AIBRIDGE_ANTHROPIC_KEY_FILE: the file "+key+" cannot be read")
	require.Regexp(t, files, r.Stdout)
	require.Contains(t, r.Stdout, "openai")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")

	w.rewrite(key, w.secret(anthropicKey)+"\n")
	p.waitFor("environment reloaded", "providers=2")
	require.NotContains(t, ready(), "environment:")
	require.Equal(t, 1.0, p.metric("provwatch_last_reload_successful"))
	eventually(t, func() bool { return len(w.notLoaded()) == 0 }, "status no longer shows it")

	// A mode that is refused, and the same content again.
	require.NoError(t, os.Chmod(key, 0o666))
	p.waitFor("level=ERROR", "the environment cannot be used, keeping the one in use", "others may write to it")
	require.NoError(t, os.Chmod(key, 0o600))
	eventually(t, func() bool { return p.logged("environment reloaded") >= 2 }, "the mended file is read")
	require.NotContains(t, ready(), "environment:")
	p.stop()
}

// waitForNotLoaded waits until "worker status" shows one worker with files that are not loaded.
func (w *world) waitForNotLoaded() status.NotLoaded {
	w.t.Helper()
	var found []status.NotLoaded
	eventually(w.t, func() bool {
		found = w.notLoaded()
		return len(found) == 1
	}, "status shows it")
	return found[0]
}

// notLoaded returns the workers that "worker status" shows with files that are not loaded.
func (w *world) notLoaded() []status.NotLoaded {
	w.t.Helper()
	r := w.run(w.twoProviders(), "status", "-o", "json")
	require.Equal(w.t, 0, r.Code, r.Stderr)
	var s status.Status
	require.NoError(w.t, json.Unmarshal([]byte(r.Stdout), &s))
	return s.Database.NotLoaded
}

// testEnvReloadObserver has an observing worker that reloads at a signal alone, and is stopped
// while a file is not loaded.
func testEnvReloadObserver(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	openAI := "CODER_AIBRIDGE_OPENAI_KEY=" + w.secret(openAIKey) + "\n"
	file := w.file("providers.env", openAI)
	require.Equal(t, 0, w.run(nil, "seed", "--env-file="+file).Code)
	w.observing()
	p := w.start(environ{"PROVWATCH_SOURCE": "auto"}, "run", "--observe", "--env-file="+file, "--env-reload=signal").ready()
	w.rewrite(file, openAI+"CODER_AIBRIDGE_OPENAI_BASE_URL=https://proxy.example/v1\n")
	found := w.waitForNotLoaded() // it looks without a reload
	require.Equal(t, []string{file}, found.Files)
	require.Equal(t, w.login["run"], found.Role)
	require.NotContains(t, w.strings(`SELECT worker::text FROM provwatch.workers`), found.Worker)
	p.signal(syscall.SIGHUP)
	p.waitFor("environment reloaded")
	eventually(t, func() bool { return len(w.notLoaded()) == 0 }, "it is loaded")

	w.rewrite(file, openAI)
	w.waitForNotLoaded()
	p.stop()
	require.Empty(t, w.notLoaded(), "a worker that has ended has none")
}

// testEnvReloadTargets has a target with env_reload: signal beside one without, and one whose
// file is not there at the start.
func testEnvReloadTargets(t *testing.T) {
	t.Parallel()
	auto, signal, late := newOwnerWorld(t), newOwnerWorld(t), newOwnerWorld(t)
	dir := t.TempDir()
	openAI := "CODER_AIBRIDGE_OPENAI_KEY=" + auto.secret(openAIKey) + "\n"
	shared, absent := filepath.Join(dir, "shared.env"), filepath.Join(dir, "made", "late.env")
	auto.rewrite(shared, openAI)
	config := writeFile(t, filepath.Join(dir, "provwatch.yaml"), strings.Join([]string{
		"targets:",
		"  - {name: auto, env_file: shared.env, database_url_env: AUTO_URL}",
		"  - {name: signal, env_file: shared.env, database_url_env: SIGNAL_URL, env_reload: signal}",
		"  - {name: late, env_file: made/late.env, database_url_env: LATE_URL}",
	}, "\n"))
	p := auto.start(environ{
		"DATABASE_URL": "", "PROVWATCH_SOURCE": "notify", "AUTO_URL": auto.url, "SIGNAL_URL": signal.url, "LATE_URL": late.url, "PROVWATCH_LOG_LEVEL": "debug",
	}, "run", "--config="+config, "--http-addr=127.0.0.1:0")
	p.waitFor("msg=ready", "target=auto")
	p.waitFor("msg=ready", "target=signal")
	p.waitFor("the target has failed", "target=late", "the environment file cannot be read: no such file or directory")
	p.waitFor("level=DEBUG", "the files of the environment have not changed", "target=auto")
	require.NoError(t, os.Mkdir(filepath.Dir(absent), 0o700))
	auto.rewrite(absent, openAI)
	p.waitFor("msg=ready", "target=late")

	auto.rewrite(shared, openAI+"CODER_AIBRIDGE_OPENAI_BASE_URL=https://proxy.example/v1\n")
	p.waitFor("environment reloaded", "target=auto")
	auto.expectAlerts("changed openai")
	require.Zero(t, p.logged("the files of the environment have changed", "target=signal"))
	require.Zero(t, p.logged("environment reloaded", "target=signal"))
	_, body := p.get("/readyz")
	require.Contains(t, body, "target signal: environment: "+shared+" on disk is not what is loaded")
	require.NotContains(t, body, "target auto: environment")
	p.signal(syscall.SIGHUP)
	p.waitFor("environment reloaded", "target=signal")
	signal.expectAlerts("changed openai")
	p.stop()

	r := auto.run(environ{"PROVWATCH_ENV_RELOAD": "never"}, "run")
	require.Equal(t, 3, r.Code)
	require.Contains(t, r.Stderr, "--env-reload (or PROVWATCH_ENV_RELOAD) must be one of auto, signal")
}
