//go:build e2e

package golden

import (
	"testing"

	"provwatch/internal/workertest"
)

func testCommandsSeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "notify")
	s := transcript{w: w}
	s.note("an empty database")
	s.run(workertest.TwoProviders(), "seed", "--dry-run")
	s.run(workertest.TwoProviders(), "seed", "--dry-run", "-o", "json")
	s.run(workertest.TwoProviders(), "verify")
	s.run(workertest.TwoProviders(), "seed")
	s.run(workertest.TwoProviders(), "seed")
	s.run(workertest.TwoProviders(), "seed", "-o", "json")
	s.run(workertest.TwoProviders(), "seed", "--log-format=json", "--log-level=debug")
	s.run(workertest.TwoProviders(), "verify")
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1', type = 'anthropic' WHERE name = 'openai'`)
	s.note("openai was changed")
	s.run(workertest.TwoProviders(), "seed")
	s.run(workertest.TwoProviders(), "seed", "--log-format=json")
	s.note("the environment names no provider")
	s.run(nil, "seed")
	s.run(nil, "verify")
	compare(t, "commands/seed.txt", s.normalised())
}
