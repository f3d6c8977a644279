//go:build e2e

package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestTargets(t *testing.T) {
	t.Parallel()
	t.Run("FailingHarmsNoOther", testTargetsFailingHarmsNoOther)
	t.Run("WrongFile", testTargetsWrongFile)
	t.Run("ShareSinks", testTargetsShareSinks)
	t.Run("Settings", testTargetsSettings)
}

// testTargetsFailingHarmsNoOther has one target that can be watched, one
// whose database does not exist, and one that drifts at the boot.
func testTargetsFailingHarmsNoOther(t *testing.T) {
	t.Parallel()
	good, drifting := newOwnerWorld(t), newOwnerWorld(t)
	dir := t.TempDir()
	openAI := "CODER_AIBRIDGE_OPENAI_KEY=" + good.secret(openAIKey) + "\n"
	goodEnv := writeFile(t, filepath.Join(dir, "good.env"), openAI)
	writeFile(t, filepath.Join(dir, "drifting.env"), openAI)
	writeFile(t, filepath.Join(dir, "drifting.url"), drifting.url+"\n")
	created := good.db.Config().Database + "_created"
	file := writeFile(t, filepath.Join(dir, "provwatch.yaml"), `
targets:
  - {name: good, env_file: good.env, database_url_env: GOOD_URL, resync: 1h}
  - {name: missing, env_prefix: MISSING_, database_url_env: MISSING_URL}
  - {name: drifting, env_file: drifting.env, database_url_file: drifting.url}
`)
	env := environ{
		"DATABASE_URL": "", "PROVWATCH_SOURCE": "notify", "PROVWATCH_CONFIG": file,
		"GOOD_URL": good.url, "MISSING_OPENAI_KEY": openAIKey,
		"MISSING_URL": strings.Replace(good.url, good.db.Config().Database, created, 1),
		// Of no target.
		"CODER_AIBRIDGE_ANTHROPIC_KEY": good.secret(anthropicKey),
	}
	require.Equal(t, 0, good.run(env, "seed", "--target=drifting").Code)
	drifting.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere.example/'`)
	require.Equal(t, 2, good.run(env, "verify", "--target=drifting").Code)
	// What is to be typed is for this target, and names nothing that --config forbids.
	r := good.run(env, "resolve", "nobody", "--take=db", "--target=drifting")
	require.Equal(t, 3, r.Code)
	require.Contains(t, r.Stderr, `run "worker verify --config `+file+` --target drifting" with`)
	r = good.run(env, "verify", "--target=driftng")
	require.Equal(t, 3, r.Code)
	require.Contains(t, r.Stderr, file+" has no target of the name that --target gives; did you mean drifting?")
	r = good.run(env.With("MISSING_OPENAI_KEY", ""), "verify", "--target=missing", "--allow-empty")
	require.Equal(t, 4, r.Code)
	require.Contains(t, r.Stderr, "; check the database's name in the target's database_url_env, ")
	require.NotContains(t, r.Stderr, "DATABASE_URL")
	none := writeFile(t, filepath.Join(dir, "none.yaml"), "targets: [{name: none, env_prefix: NONE_, database_url_env: GOOD_URL}]")
	r = good.run(env, "verify", "--config="+none, "--target=none")
	require.Equal(t, 3, r.Code)
	require.Contains(t, r.Stderr, "in the target's env_file, or variables that begin with its env_prefix; or accept that with --allow-empty")
	require.Equal(t, 0, good.run(env, "verify", "--config="+none, "--target=none", "--allow-empty").Code)

	manager := newServiceManager(t)
	p := good.start(env.With("NOTIFY_SOCKET", manager.socket), "run", "--http-addr=127.0.0.1:0")
	p.waitFor("msg=ready", "target=good")
	p.waitFor("the target has failed", "target=missing", "does not exist")
	p.waitFor("the target has failed", "target=drifting", "base_url", "worker resolve openai --take db --config "+file+" --target drifting")
	status, body := p.get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "target missing: cannot connect")
	require.Contains(t, body, "; check the database's name in the target's database_url_env, ")
	require.Contains(t, body, "target drifting: ")
	require.NotContains(t, body, "target good")
	status, _ = p.get("/healthz")
	require.Equal(t, http.StatusOK, status)
	_, metrics := p.get("/metrics")
	for _, want := range []string{
		`provwatch_leader{target="good"} 1`, `provwatch_leader{target="drifting"} 0`,
		`provwatch_target_up{target="good"} 1`, `provwatch_target_up{target="missing"} 0`, `provwatch_build_info{version="test"} 1`,
	} {
		require.Contains(t, metrics, "\n"+want+"\n")
	}
	eventually(t, func() bool { return manager.count("READY=1") == 1 }, "the service's start waits for no target that fails")
	eventually(t, func() bool { return manager.count("STATUS=watching 1 of 3 targets, not ready: missing, drifting") > 0 }, "the status names those that fail")
	require.Equal(t, "openai", good.strings(`SELECT string_agg(name, ',') FROM ai_providers`)[0])
	good.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere.example/'`)
	good.expectAlerts("changed openai")

	unmigrated := writeFile(t, filepath.Join(dir, "it's new.yaml"), "targets: [{name: new, env_file: good.env, database_url_env: NEW_URL, migrate: check}]")
	r = good.run(env.With("NEW_URL", newOwnerWorld(t).url), "seed", "--config="+unmigrated, "--target=new")
	require.Equal(t, 4, r.Code)
	require.Contains(t, r.Stderr, `run "worker migrate --config '`+strings.Replace(unmigrated, "'", `'\''`, 1)+`' --target new", or`)

	create, drop := "CREATE DATABASE "+pgx.Identifier{created}.Sanitize(), "DROP DATABASE "+pgx.Identifier{created}.Sanitize()+" WITH (FORCE)"
	good.exec(create)
	t.Cleanup(func() {
		// The worker is killed before: its cleanup comes later than its start.
		_, err := good.db.Exec(context.Background(), drop)
		require.NoError(t, err)
	})
	drifting.exec(`UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/'`)
	writeFile(t, goodEnv, openAI+"CODER_AIBRIDGE_ANTHROPIC_KEY="+anthropicKey+"\n")
	p.signal(syscall.SIGHUP) // which ends the waits, too
	p.waitFor("msg=ready", "target=missing")
	p.waitFor("msg=ready", "target=drifting")
	p.waitFor("environment reloaded", "target=good", "providers=2")
	good.expectAlerts("changed openai", "missing anthropic")
	eventually(t, func() bool { status, _ := p.get("/readyz"); return status == http.StatusOK }, "all are ready")
	eventually(t, func() bool { return manager.count("STATUS=watching 3 of 3 targets") > 0 }, "the status is that of all")
	_, metrics = p.get("/metrics")
	require.Contains(t, metrics, "\n"+`provwatch_target_up{target="missing"} 1`+"\n")

	// One that is watched is begun anew when its database is made anew.
	good.exec(drop)
	good.exec(create)
	eventually(t, func() bool { return p.logged("msg=ready", "target=missing") >= 2 }, "it is migrated, seeded and watched again")
	require.Equal(t, 1, p.logged("msg=ready", "target=good"))

	p.stop()
	require.Equal(t, 3, p.logged("msg=stopped"))
}

func testTargetsWrongFile(t *testing.T) {
	t.Parallel()
	w := newEmptyWorld(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "provwatch.yaml"), `targets:
  - name: a
    env_prefix: A_
    database_url_env: A_URL
    source: guess
    resync: soon
    compat: other
    slot_max_lag: much
  - {name: b, env_prefix: B_, database: host=127.0.0.1 port=1 dbname=b}
  - {name: c, env_prefix: C_, database: host=127.0.0.1 port=1 dbname=b}
  - name: D
    env_prefix: D_
    database_url_env: D_URL
    migrate: never
  - name: e
    env_prefix: E_
    database: host=127.0.0.1 port=1 dbname=e
    on_boot_drift: alert
    compat: upstream-credentials
`)
	env := environ{"DATABASE_URL": "", "A_URL": "postgres://u:" + w.secret("s3cret-of-a-url") + "@host:port/d"}
	for _, args := range [][]string{{"run", "--config=" + file}, {"verify", "--config=" + file, "--target=b"}} {
		r := w.run(env, args...)
		require.Equal(t, 3, r.Code)
		for _, want := range []string{
			file + ":5: target a: source must be one of auto, notify, wal", file + ":6: target a: resync must be a duration, such as 30s",
			file + ":7: target a: compat must be one of none, upstream-credentials", file + ":8: target a: slot_max_lag must be an amount of bytes",
			file + ":2: target a: A_URL has a port that is not a number", file + ":10: target c: its database is that of target b",
			file + ":11: target 4 of the list needs a name", file + ":11: D_URL is empty or not set", file + ":14: migrate must be one of auto, check, off",
			file + ":19: target e: compat: upstream-credentials finds credentials",
		} {
			require.Contains(t, r.Stderr, want)
		}
		require.Equal(t, 10, strings.Count(r.Stderr, file+":"), r.Stderr)
	}
	for _, c := range []struct {
		env  environ
		args []string
		want string
	}{
		{environ{"DATABASE_URL": w.url}, []string{"run", "--config=" + file}, "cannot be used together with DATABASE_URL"},
		{env, []string{"run", "--config=" + file, "--env-file=x", "--data-dir=y"}, "together with --env-file (or PROVWATCH_ENV_FILE), --data-dir (or PROVWATCH_DATA_DIR)"},
		{env, []string{"run", "--config=" + file, "--target=a"}, "worker run takes all targets"},
		{env, []string{"verify", "--config=" + file}, "select one with --target"},
		{env, []string{"verify", "--target=a"}, "--config (or PROVWATCH_CONFIG), which is not set"},
	} {
		r := w.run(c.env, c.args...)
		require.Equal(t, 3, r.Code, c.args)
		require.Contains(t, r.Stderr, c.want)
	}
	require.Equal(t, 0, w.run(env.With("PROVWATCH_CONFIG", file), "version").Code)
}

// testTargetsShareSinks has two targets whose providers
// have the same names, and a webhook that hangs for one of them.
func testTargetsShareSinks(t *testing.T) {
	t.Parallel()
	hung, well := newOwnerWorld(t), newOwnerWorld(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "both.env"), "CODER_AIBRIDGE_OPENAI_KEY="+hung.secret(openAIKey)+"\n")
	file := writeFile(t, filepath.Join(dir, "provwatch.yaml"), `
targets:
  - {name: hung, env_file: both.env, database_url_env: HUNG_URL, cluster_name: region 1}
  - {name: well, env_file: both.env, database_url_env: WELL_URL}
`)
	system := well.strings(`SELECT current_database() || '-' || system_identifier FROM pg_control_system()`)[0]
	e := well.endpoint()
	e.answer(func(_ http.ResponseWriter, r *http.Request, d delivery) {
		if d.Source == "urn:provwatch:region%201" {
			<-r.Context().Done()
		}
	})
	messages := startNATS(t)
	p := well.start(well.webhook(e).With("DATABASE_URL", "").With("PROVWATCH_SOURCE", "notify").With("PROVWATCH_CONFIG", file).
		With("HUNG_URL", hung.url).With("WELL_URL", well.url).With("PROVWATCH_NATS_URL", messages.url), "run")
	p.waitFor("msg=ready", "target=hung")
	p.waitFor("msg=ready", "target=well")
	eventually(t, func() bool {
		return slices.ContainsFunc(e.got("audit"), func(d delivery) bool { return d.Source == "urn:provwatch:region%201" })
	}, "the webhook hangs for one target")
	var want []string
	for i := range 4 {
		kind := []string{"disabled openai", "resolved openai"}[i%2]
		want = append(want, kind)
		for _, w := range []*world{hung, well} {
			w.exec(`UPDATE ai_providers SET enabled = $1`, i%2 == 1)
			w.expectAlerts(want...)
		}
		eventually(t, func() bool {
			return slices.Equal(once(slices.DeleteFunc(e.got("drift"), func(d delivery) bool { return d.Source != "urn:provwatch:"+system })), want)
		}, "the other target's alerts arrive: %q", want)
	}
	// In the stream that they share, none takes the place of another.
	for _, cluster := range []string{"region%201", system} {
		eventually(t, func() bool { return len(messages.on("provwatch."+cluster+".drift.openai")) == 4 }, "the alerts of %s are in the stream", cluster)
		eventually(t, func() bool { return len(messages.on("provwatch."+cluster+".audit.openai")) == 2 }, "the audit entries of %s are in the stream", cluster)
		for i, body := range messages.on("provwatch." + cluster + ".drift.openai") {
			require.Contains(t, body, `"source":"urn:provwatch:`+cluster+`"`)
			require.Contains(t, body, fmt.Sprintf(`"sequence":"%020d"`, i+1))
		}
	}
	require.Len(t, once(e.got("drift")), 5, "in order: one of the target whose webhook hangs")
	p.stop()
}

// stream is a stream of a NATS server with JetStream, in this process.
type stream struct {
	t      *testing.T
	url    string
	stream jetstream.Stream
}

func startNATS(t *testing.T) *stream {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	require.NoError(t, err)
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(patience))
	conn, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	made, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PROVWATCH", Subjects: []string{"provwatch.>"}})
	require.NoError(t, err)
	return &stream{t, s.ClientURL(), made}
}

// on returns the messages of a subject, in order.
func (s *stream) on(subject string) (bodies []string) {
	s.t.Helper()
	info, err := s.stream.Info(s.t.Context())
	require.NoError(s.t, err)
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		message, err := s.stream.GetMsg(s.t.Context(), seq)
		require.NoError(s.t, err)
		if message.Subject == subject {
			bodies = append(bodies, string(message.Data))
		}
	}
	return bodies
}
