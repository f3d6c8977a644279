//go:build e2e

package test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExecModes has workers send statements in each way that a connection string can choose.
func TestExecModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.run(environ{"DATABASE_URL": w.withPassword("test_notify") + "&default_query_exec_mode=" + mode}, "seed")
			require.Equal(t, 3, r.Code)
			require.Contains(t, r.Stderr, "has a value of default_query_exec_mode that is not one of cache_statement, cache_describe, describe_exec")
		})
	}
	for _, mode := range []string{"cache_describe", "describe_exec"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			bothSources(t, func(t *testing.T, w *world) {
				env := w.twoProviders()
				as := func(role string) environ {
					return env.With("DATABASE_URL", w.withPassword(role)+"&default_query_exec_mode="+mode)
				}
				p := w.start(as("test_"+w.source), "run", "--http-addr=127.0.0.1:0").ready()
				w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
				w.expectAlerts("disabled openai")
				require.Equal(t, 0, w.run(as(w.login["resolve"]), "resolve", "openai", "--take=env").Code)
				w.expectAlerts("disabled openai", "resolved openai")
				for _, command := range []string{"seed", "verify", "status"} {
					r := w.run(as(w.login[command]), command)
					require.Equal(t, 0, r.Code, "%s: %s", command, r.Stderr)
				}
				p.stop()
			})
		})
	}
}
