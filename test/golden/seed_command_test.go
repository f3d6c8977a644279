//go:build e2e

package golden

import "testing"

func testCommandsSeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "notify")
	s := transcript{w: w}
	s.note("an empty database")
	s.run(twoProviders(), "seed", "--dry-run")
	s.run(twoProviders(), "seed", "--dry-run", "-o", "json")
	s.run(twoProviders(), "verify")
	s.run(twoProviders(), "seed")
	s.run(twoProviders(), "seed")
	s.run(twoProviders(), "seed", "-o", "json")
	s.run(twoProviders(), "seed", "--log-format=json", "--log-level=debug")
	s.run(twoProviders(), "verify")
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1', type = 'anthropic' WHERE name = 'openai'`)
	s.note("openai was changed")
	s.run(twoProviders(), "seed")
	s.run(twoProviders(), "seed", "--log-format=json")
	s.note("the environment names no provider")
	s.run(nil, "seed")
	s.run(nil, "verify")
	compare(t, "commands/seed.txt", s.normalised())
}
