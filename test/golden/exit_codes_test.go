//go:build e2e

package golden

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/porttest"
	"provwatch/internal/workertest"
)

// TestExitCodes has a command for each reason of each exit code.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	w, empty := newWorld(t, "notify"), newWorld(t, "notify")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	env := workertest.TwoProviders()
	unreachable := env.With("DATABASE_URL", "postgres://u@"+porttest.Unused(t)+"/d?sslmode=disable")
	absent := env.With("DATABASE_URL", strings.Replace(w.env["DATABASE_URL"], "/"+w.db.Config().Database+"?", "/no_such_database?", 1))

	var list strings.Builder
	add := func(code int, args, why string) { fmt.Fprintf(&list, "%d  worker %-58s %s\n", code, args, why) }
	run := func(w *world, env environ, args, why string) {
		t.Helper()
		add(w.run(env, strings.Fields(args)...).Code, w.text(args), why)
	}
	run(w, env, "--help", "help")
	run(empty, env, "seed --dry-run", "a plan without a drift")
	run(empty, env, "verify", "no row")
	run(empty, env, "watch", "no schema")
	run(empty, env, "status", "no schema")
	run(empty, env, "seed --migrate=check", "no schema, and none is made")
	run(w, env, "migrate", "a migration")
	run(w, env, "seed", "a seed")
	run(w, env, "verify", "in sync")
	run(w, env, "status", "a status")
	run(w, env, "slot drop", "no slot")
	run(w, env, "sinks list", "no sink")
	run(w, env, "sinks retry webhook --all", "no sink of that name")
	run(w, env, "resolve openai --take=env", "nothing to resolve")
	for _, args := range []string{"plan", "apply", "silences", "prune --older-than=90d", "prune --older-than=90d --dry-run"} {
		run(w, env, args, "nothing to do")
	}
	run(w, env, "silence openai --for=1h --reason=upgrade", "a silence")
	run(w, env, "unsilence 1", "its end")
	run(w, env, "unsilence 1", "it has ended")
	run(w, env, "unsilence 7", "no such silence")
	for _, s := range []struct {
		signal syscall.Signal
		name   string
	}{{syscall.SIGTERM, "SIGTERM"}, {syscall.SIGINT, "SIGINT"}} {
		add(w.startReady(env, "run").stop(s.signal), "run", s.name)
		watch := w.start(env, "watch")
		watch.WaitFor("msg=listening")
		add(watch.stop(s.signal), "watch", s.name)
	}
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`)
	for _, args := range []string{"run", "seed", "seed --dry-run", "verify"} {
		run(w, env, args, "a drift")
	}
	run(w, env, "status", "a drift")
	for _, args := range []string{"plan", "apply", "apply openai", "resolve openai --take=db --dry-run"} {
		run(w, env, args, "a drift whose database side has moved")
	}
	w.exec(`UPDATE ai_providers SET settings = 'garbage' WHERE name = 'anthropic'`)
	for _, args := range []string{"run", "seed", "seed --dry-run", "verify", "resolve anthropic --take=db"} {
		run(w, env, args, "a row that cannot be compared, and a drift")
	}
	w.exec(`DELETE FROM ai_providers`)
	run(w, env, "resolve openai --take=db", "no row to accept")
	for _, args := range []string{"frobnicate", "run --frob", "run --resync=soon", "sinks retry", "watch --since=-1", "resolve nobody --take=db", "verify --target=a"} {
		run(w, env, args, "a mistake in the command line")
	}
	run(w, environ{"PROVWATCH_RESYNC": "soon"}, "run", "a mistake in a variable")
	run(w, environ{"CODER_AIBRIDGE_PROVIDER_0_TYPE": "openai", "CODER_AIBRIDGE_PROVIDER_0_NAME": "No_Name"}, "verify", "a mistake in the environment")
	run(w, env.With("DATABASE_URL", "mysql://h/d"), "verify", "a mistake in DATABASE_URL")
	run(w, environ{"DATABASE_URL": "mysql://h/d"}, "version", "DATABASE_URL is not used")
	run(w, env, "run --http-addr="+taken.Addr().String(), "the address is taken")
	for _, args := range []string{"run", "seed", "verify", "resolve openai --take=env", "plan", "apply", "silence --all --for=1h --reason=x", "silences", "unsilence 1", "prune --older-than=90d", "watch", "status", "migrate", "slot drop", "sinks list"} {
		run(w, unreachable, args+" --connect-timeout=1ms", "no server there")
	}
	run(w, absent, "verify", "no such database")
	compare(t, "exit_codes.txt", w.text(list.String()))
}
