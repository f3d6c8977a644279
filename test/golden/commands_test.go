//go:build e2e

package golden

import (
	"strings"
	"testing"

	"provwatch/internal/workertest"
)

// TestCommands compares what each command prints.
func TestCommands(t *testing.T) {
	t.Parallel()
	t.Run("version", testCommandsVersion)
	t.Run("roles", testCommandsRoles)
	t.Run("migrate", testCommandsMigrate)
	t.Run("seed", testCommandsSeed)
	t.Run("mixed", testCommandsMixed)
	t.Run("resolve", testCommandsResolve)
	t.Run("silence", testCommandsSilence)
	t.Run("mistakes", testCommandsMistakes)
}

func testCommandsVersion(t *testing.T) {
	t.Parallel()
	s := transcript{w: newPlace(t)}
	s.run(nil, "version")
	s.run(nil, "version", "-o", "json")
	s.run(nil, "--version")
	compare(t, "commands/version.txt", s.normalised())
}

func testCommandsMistakes(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	w.env["DATABASE_URL"] = "postgres://127.0.0.1:1/none"
	s := transcript{w: w}
	for _, args := range []string{
		"frobnicate", "verfy", "run now", "run CODER_AIBRIDGE_OPENAI_KEY=x", "sinks frobnicate", "sinks retry", "sinks retry webhook x", "completion nosh",
		"run --frob", "run --htp-addr=x", "verify --resync=1m", "watch --since", "watch --since=first",
		"run --resync=soon", "run --resync=5", "run --resync=0s", "run --takeover-after=1s", "run --slot-max-lag=much", "run --http-addr=localhost",
		"run --source=x", "verify -o yaml", "run --log-format=xml", "run --log-level=loud", "seed --migrate=maybe", "verify --credential-drift=fail",
		"seed --compat=upstream", "run --on-boot-drift=ignore", "run --debug", "run --http-token-file=x", "run --sink-from=middle", "run --sink-give-up=0s",
		"run --webhook-url=https://h/", "run --nats-stream=S", "run --alertmanager-url=http://h --alertmanager-runbook-url=here",
		"plan No_Name", "apply nobody", "apply --reason", "silence", "silence openai", "silence openai --all --for=2h --reason=x", "silence openai --for=2 --reason=x",
		"silence openai --until=2026-01-01T00:00:00 --reason=x", "silences openai", "unsilence", "unsilence 0", "prune", "prune --keep=3", "prune openai --older-than=90d", "prune --older-than=3",
		"run --on-reload-drift=ignore", "run --alert-after=soon", "run --alert-after=-1s", "run --keep=soon", "run --env-reload=never", "resolve --all openai --take=db",
		"resolve openai --take=env --expires=7d", "resolve openai --take=db --expires=2020-01-01T00:00:00Z", "run --compat=upstream-credentials --on-boot-drift=alert", "run --database-url-file=x", "verify --target=a", "run --config=x",
	} {
		s.run(nil, strings.Fields(args)...)
	}
	s.run(environ{"PROVWATCH_RESYNC": "soon"}, "run")
	s.run(environ{"PROVWATCH_MIGRATE": "maybe"}, "verify")
	s.run(environ{"PROVWATCH_RESINC": "5m"}, "version")
	s.note("DATABASE_URL is no URL of PostgreSQL")
	s.run(workertest.TwoProviders().With("DATABASE_URL", "mysql://h/d"), "verify")
	s.note("variables of providers")
	s.run(environ{
		"CODER_AIBRIDGE_PROVIDER_0_TYPE": "openai", "CODER_AIBRIDGE_PROVIDER_0_NAME": "No_Name", "CODER_AIBRIDGE_PROVIDER_0_BASE_URL": "no url",
		"CODER_AIBRIDGE_PROVIDER_2_KEYS": "a,,a", "CODER_AIBRIDGE_PROVIDER_2_TYP": "openai",
	}, "verify")
	compare(t, "commands/mistakes.txt", s.normalised())
}
