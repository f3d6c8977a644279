//go:build e2e

package golden

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/workertest"
)

// testCommandsSilence has a drift that outlives its silence.
func testCommandsSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "notify")
	env := workertest.TwoProviders()
	require.Equal(t, 0, w.run(env, "seed").Code)
	s := transcript{w: w}
	s.run(nil, "silences")
	s.note("no worker runs")
	s.run(env, "silence", "openai", "anthropic", "--for=2h", "--reason=a new proxy")
	s.run(env, "silence", "--all", "--until=2100-01-01T00:00:00Z", "--reason=upgrade", "-o", "json")
	w.listen()
	p := w.startReady(env, "run")
	s.note("a worker runs")
	s.run(env, "unsilence", "2")
	s.run(env, "unsilence", "2")
	s.run(env, "unsilence", "3", "-o", "json")
	w.waitForNote("ai_provider_audit", `"action":"silence.end","provider":"*"`)
	w.change(1, `UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`)
	s.note("openai was changed")
	s.run(nil, "silences")
	s.run(nil, "silences", "-o", "json")
	s.run(nil, "silences", "--all")
	s.run(env, "status")
	s.run(env, "unsilence", "1")
	w.alerted(2)
	s.run(nil, "silences", "-o", "json")
	w.waitForNote("ai_provider_audit", `"action":"silence.end","provider":"openai"`)
	w.change(3, `UPDATE ai_providers SET base_url = 'https://api.openai.com/v1/' WHERE name = 'openai'`)
	require.Equal(t, 0, p.stop(syscall.SIGTERM))
	s.note("mistakes")
	s.run(env, "silence", "openai", "--for=2h")
	s.run(env, "silence", "openai", "--reason=x")
	s.run(env, "silence", "--for=soon", "--until=now", "--reason=x", "--all")
	s.run(env, "silence", "Open_AI", "--for=2h", "--reason=x")
	s.run(env, "unsilence", "openai")
	s.run(env, "unsilence", "7")
	compare(t, "commands/silence.txt", squeezed(s.normalised()))
	w.comparePayloads("payloads-silence.txt")
}
