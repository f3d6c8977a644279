//go:build e2e

package golden

import (
	"testing"

	"provwatch/internal/workertest"
)

func testCommandsMigrate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "notify")
	s := transcript{w: w}
	s.note("an empty database")
	s.run(nil, "migrate", "--dry-run")
	s.run(nil, "migrate", "--dry-run", "-o", "json")
	s.run(nil, "seed", "--migrate=check")
	s.run(nil, "seed", "--migrate=off")
	s.run(nil, "status")
	s.run(nil, "watch")
	s.run(nil, "migrate")
	s.run(nil, "migrate")
	s.run(nil, "migrate", "--dry-run", "-o", "json")
	s.note("the source is the WAL")
	s.run(nil, "migrate", "--dry-run", "--source=wal")
	s.run(nil, "migrate", "--source=wal", "-o", "json")
	w.exec(`DROP TRIGGER provwatch_provider_update ON ai_providers`)
	s.note("a trigger is gone")
	s.run(nil, "migrate", "--dry-run")
	s.run(workertest.TwoProviders(), "seed", "--migrate=off")
	compare(t, "commands/migrate.txt", s.normalised())
}
