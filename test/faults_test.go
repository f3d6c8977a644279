//go:build e2e

package test

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/porttest"
	"provwatch/internal/store"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	t.Run("TerminatedConnections", testFaultsTerminatedConnections)
	t.Run("ImmediateServerRestart", testFaultsImmediateServerRestart)
	t.Run("ServerRestartAtStart", testFaultsServerRestartAtStart)
	t.Run("CutOrSilentStreams", testFaultsCutOrSilentStreams)
}

func testFaultsTerminatedConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(w.twoProviders(), "run", "--http-addr=127.0.0.1:0").ready()
	var want []string
	for i := range 6 {
		// The change is made while the worker cannot know of it.
		w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'provwatch%'`)
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
		kind := "disabled"
		if i%2 == 1 {
			kind = "resolved"
		}
		want = append(want, kind+" openai")
		w.expectAlerts(want...)
	}
	eventually(t, func() bool { return p.metric("provwatch_listener_reconnects_total") >= 6 }, "six reconnects are counted")
	p.stop()
}

func testFaultsImmediateServerRestart(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	url := cluster.NewDatabase(t)
	w := &world{t: t, url: url}
	w.prepare()
	content := "CODER_AIBRIDGE_OPENAI_KEY=" + w.secret(openAIKey) + "\n"
	file := w.file("providers.env", content)
	p := w.start(nil, "run", "--env-file", file).ready()
	for i := range 3 {
		kind, enabled := "disabled", "false"
		if i%2 == 1 {
			kind, enabled = "resolved", "true"
		}
		cluster.Stop(t, "immediate")
		if i == 2 {
			// It is taken notice of now, and done when it can be.
			w.rewrite(file, content+"CODER_AIBRIDGE_ANTHROPIC_KEY="+w.secret(anthropicKey)+"\n")
			p.signal(syscall.SIGHUP)
			p.waitFor("level=WARN", "could not reload the environment while the database is unreachable")
		}
		cluster.StartAgain(t)
		// Committed at once after the restart, perhaps before the worker is back.
		require.NoError(t, tryExec(t.Context(), url, "UPDATE ai_providers SET enabled = "+enabled))
		eventually(t, func() bool {
			return tryExec(t.Context(), url, fmt.Sprintf(`DO $$ BEGIN
				IF (SELECT array_agg(kind ORDER BY seq) FROM provwatch.drift_alerts WHERE provider = 'openai')[%d:] IS DISTINCT FROM ARRAY['%s']
				THEN RAISE 'not yet'; END IF; END $$`, i+1, kind)) == nil
		}, "alert %d, %s", i+1, kind)
	}
	w.db = w.connect()
	eventually(t, func() bool { return len(w.alerts()) == 4 }, "the environment is reloaded")
	require.ElementsMatch(t, []string{"disabled openai", "resolved openai", "disabled openai", "missing anthropic"}, w.alerts())
	p.stop()
	w.searchForSecrets()
}

// testFaultsServerRestartAtStart ends the connection in the middle of a
// start, in a seed that waits for the lock.
func testFaultsServerRestartAtStart(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	w := &world{t: t, url: cluster.NewDatabase(t)}
	w.prepare()
	env := environ{"CODER_AIBRIDGE_OPENAI_KEY": w.secret(openAIKey)}
	// interrupt stops the server while the seed of what begins waits for its lock.
	interrupt := func(begin func()) {
		t.Helper()
		holder := w.connect()
		_, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock($1)", store.SeedLock)
		require.NoError(t, err)
		begin()
		eventually(t, func() bool {
			var waits bool
			require.NoError(t, holder.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)").Scan(&waits))
			return waits
		}, "the seed waits for its lock")
		cluster.Stop(t, "immediate")
	}

	var p *worker
	interrupt(func() { p = w.start(env, "run") })
	cluster.StartAgain(t)
	p.ready().stop()
	require.Positive(t, p.logged("level=WARN", "connection lost, retrying"))

	ended := make(chan result)
	interrupt(func() {
		go func() { ended <- w.run(env, "seed", "--connect-timeout=2s") }()
	})
	r := <-ended
	require.Equal(t, 4, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "cannot connect to PostgreSQL at")
}

// testFaultsCutOrSilentStreams puts a real TCP proxy between the
// worker and the server.
func testFaultsCutOrSilentStreams(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	w := newWorldOn(t, cluster.NewDatabase(t), "")

	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "postgres", porttest.Unused(t), cluster.TCPAddr())
	require.NoError(t, proxy.Start())
	t.Cleanup(proxy.Stop)
	toxic := func(name, attributes string) (remove func()) {
		t.Helper()
		_, err := proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
			`{"name": %q, "type": %q, "stream": "downstream", "toxicity": 1, "attributes": %s}`, name, name, attributes)))
		require.NoError(t, err)
		return func() { require.NoError(t, proxy.Toxics.RemoveToxic(t.Context(), name)) }
	}

	target, err := url.Parse(cluster.TCPURL(t, w.url, proxy.Listen))
	require.NoError(t, err)
	target.User = url.UserPassword("test_wal", passwordOf("test_wal"))
	env := w.twoProviders().With("DATABASE_URL", target.String())
	p := w.start(env, "run").ready()
	var want []string
	change := func(enabled bool) {
		t.Helper()
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, enabled)
		kind := "disabled"
		if enabled {
			kind = "resolved"
		}
		want = append(want, kind+" openai")
	}
	change(false)
	w.expectAlerts(want...)

	// Cut: every connection is closed, and new ones are refused.
	proxy.Stop()
	p.waitFor("listening connection lost")
	change(true)
	require.Len(t, w.alerts(), 1)
	require.NoError(t, proxy.Start())
	w.expectAlerts(want...)

	// Reset in the middle of a stream.
	lost := p.logged("listening connection lost")
	remove := toxic("reset_peer", `{"timeout": 0}`)
	change(false)
	eventually(t, func() bool { return p.logged("listening connection lost") > lost }, "the connection is lost again")
	remove()
	w.expectAlerts(want...)

	// Slow, and in pieces of a few bytes.
	remove = toxic("slicer", `{"average_size": 3, "size_variation": 2, "delay": 100}`)
	change(true)
	w.expectAlerts(want...)
	remove()
	p.stop()
}
