package test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARoleThatDoesNotOwnTheTablesReadsTheWALOnceTheyArePublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "notify"}, "migrate").code)
	role := w.limitedRole()
	w.exec(fmt.Sprintf(`ALTER ROLE %[1]s REPLICATION;
		GRANT SELECT, INSERT ON ai_providers, ai_provider_keys TO %[1]s; GRANT USAGE ON SCHEMA provwatch TO %[1]s;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA provwatch TO %[1]s`, role.name))
	env := w.twoProviders().with("DATABASE_URL", role.url)

	r := w.run(env, "run", "--source=wal")
	require.Equal(t, 4, r.code)
	require.Contains(t, r.stderr, `the role does not own them; run "worker migrate --source=wal" as their owner`)

	p := w.start(env, "run").ready()
	p.waitFor("source=notify")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.stop()

	require.Equal(t, 0, w.run(nil, "migrate", "--source=wal").code)
	p = w.start(env, "run", "--source=wal").ready()
	w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
	w.expectAlerts("disabled openai", "resolved openai")
	require.Equal(t, []string{"notify", "wal"}, w.strings(`SELECT source FROM provwatch.drift_alerts ORDER BY seq`))
	p.stop()
}
