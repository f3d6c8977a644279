//go:build e2e

package test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

func TestAnnounceSeed(t *testing.T) {
	t.Parallel()
	t.Run("OnRequest", testAnnounceSeedOnRequest)
	t.Run("Unheard", testAnnounceSeedUnheard)
}

// testAnnounceSeedOnRequest seeds by each command that can. The tables have no triggers, so that
// what is sent on ai_providers_changed comes from the seed.
func testAnnounceSeedOnRequest(t *testing.T) {
	t.Parallel()
	run := func(w *world, env environ, args ...string) {
		w.start(env, append([]string{"run"}, args...)...).ready().stop()
	}
	seed := func(w *world, env environ, args ...string) {
		r := w.run(env, append([]string{"seed"}, args...)...)
		require.Equal(w.t, 0, r.Code, r.Stderr)
	}
	target := func(w *world, env environ, settings string) {
		config := w.file("provwatch.yaml", "targets:\n  - {name: one, env_file: "+w.file("providers.env", env.File())+
			", database_url_file: "+w.file("database.url", w.withPassword("test_wal"))+settings+"}\n")
		p := w.start(environ{"DATABASE_URL": ""}, "run", "--config="+config)
		p.waitFor("msg=ready")
		p.stop()
	}
	for name, c := range map[string]struct {
		seed      func(w *world, env environ)
		announced bool
	}{
		"Run":             {func(w *world, env environ) { run(w, env) }, false},
		"RunAnnounced":    {func(w *world, env environ) { run(w, env, "--announce-seed") }, true},
		"ByVariable":      {func(w *world, env environ) { run(w, env.With("PROVWATCH_ANNOUNCE_SEED", "true")) }, true},
		"Seed":            {func(w *world, env environ) { seed(w, env) }, false},
		"SeedAnnounced":   {func(w *world, env environ) { seed(w, env, "--announce-seed") }, true},
		"Target":          {func(w *world, env environ) { target(w, env, "") }, false},
		"TargetAnnounced": {func(w *world, env environ) { target(w, env, ", announce_seed: true") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithoutRows(t, "wal")
			env := w.twoProviders()
			for range 2 { // the second one inserts nothing
				c.seed(w, env)
			}
			require.Equal(t, 2, w.count(`SELECT count(*) FROM ai_providers`))
			w.exec(`NOTIFY ai_providers_changed, 'last'`)
			eventually(t, func() bool { return slices.Contains(w.payloads(pubsub.ProvidersChanged), "last") }, "what was sent before has arrived")
			want := []string{"last"}
			if c.announced {
				want = []string{"", "last"}
			}
			require.Equal(t, want, w.payloads(pubsub.ProvidersChanged))
		})
	}
}

// testAnnounceSeedUnheard requires the log of a seed that inserted something, and the page, to say
// when a gateway that hears no NOTIFY uses its rows.
func testAnnounceSeedUnheard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	const line = "a running gateway might not use the seeded providers yet"
	p := w.start(env, "run", "--http-addr=127.0.0.1:0").ready()
	require.Equal(t, 1, p.logged("level=INFO", line, "inserted=2", "restart it, or change a provider through its API"))
	_, page := p.get("/")
	require.Contains(t, page, "a row that was written takes effect at its next start, or at the next change through its API")
	p.stop()
	for _, inserted := range []bool{false, true} {
		if inserted {
			w.exec(`DELETE FROM ai_providers WHERE name = 'openai'`)
		}
		r := w.run(env, "seed")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Equal(t, inserted, strings.Contains(r.Stderr, line+`" inserted=1`), r.Stderr)
	}
}
