//go:build e2e

package test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRowSecurity switches row level security on and off
// while a worker runs whose role owns nothing.
func TestRowSecurity(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		role := "test_secured_" + w.source
		w.createRole(role, "REPLICATION IN ROLE provwatch_"+w.source+", provwatch_operator, provwatch_reader")
		env := w.twoProviders().With("DATABASE_URL", w.withPassword(role))
		p := w.start(env, "run", "--http-addr=127.0.0.1:0", "--resync=200ms", "--source="+w.source).ready()
		for _, table := range []string{"ai_providers", "ai_provider_keys"} {
			security := func(does string) { w.exec(`ALTER TABLE ` + table + ` ` + does + ` ROW LEVEL SECURITY`) }
			said := `row level security applies to the role "` + role + `" on public.` + table
			remedy := `run ALTER ROLE "` + role + `" BYPASSRLS;`
			security("ENABLE")
			eventually(t, func() bool {
				status, body := p.get("/readyz")
				return status == http.StatusServiceUnavailable && strings.Contains(body, said) && strings.Contains(body, remedy)
			}, "the worker is not ready with row level security on %s", table)
			p.waitFor("level=ERROR", `row level security applies to the role \"`+role+`\" on public.`+table)
			for _, command := range []string{"run", "seed", "verify --credential-drift=alert", "resolve openai --take env"} {
				r := w.run(env, strings.Fields(command)...)
				require.Equal(t, 4, r.Code, "%s: %s", command, r.Stderr)
				require.Contains(t, r.Stderr, said, command)
				require.Contains(t, r.Stderr, remedy, command)
			}
			security("DISABLE")
			eventually(t, func() bool { status, _ := p.get("/readyz"); return status == http.StatusOK }, "the worker is ready without it")
			require.Empty(t, w.alerts())
		}
		w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
		w.expectAlerts("disabled openai")
		p.stop()

		// As the remedy says.
		w.exec(`ALTER TABLE ai_providers ENABLE ROW LEVEL SECURITY`)
		w.exec(`ALTER ROLE ` + role + ` BYPASSRLS`)
		p = w.start(env, "run", "--source="+w.source).ready()
		w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
		w.expectAlerts("disabled openai", "resolved openai")
		p.stop()
	})
}
