//go:build e2e

package golden

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

// TestTargets has a worker of several databases.
func TestTargets(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	w.useDatabase("A_URL", "<database of a>")
	w.useDatabase("B_URL", "<database of b>")
	w.file("a.env", "CODER_AIBRIDGE_OPENAI_KEY="+openAIKey+"\n")
	w.env["B_OPENAI_KEY"], w.env["PROVWATCH_SOURCE"] = openAIKey, "notify"
	file := w.file("provwatch.yaml", `
targets:
  - {name: a, env_file: a.env, database_url_env: A_URL}
  - {name: b, env_prefix: B_, database_url_env: B_URL, on_boot_drift: alert, resync: 1h}
`)
	wrong := w.file("wrong.yaml", `
targets:
  - name: a
    env_file: a.env
    env_prefix: A_
    database: host=h password=p
  - name: No_Name
    env_fil: a.env
    database_url_env: A_URL
  - {name: b, env_prefix: B_, database_url_env: B_URL, source: x, resync: soon, slot_max_lag: much, migrate: never, on_boot_drift: stop,
     credential_drift: fail, compat: all, announce_seed: perhaps, cluster_name: c, encryption_keys_file: none, database_url_file: none}
`)
	config := environ{"PROVWATCH_CONFIG": file}
	s := transcript{w: w}
	s.run(nil, "run", "--config="+wrong)
	s.run(config, "verify")
	s.run(config, "verify", "--target=c")
	s.run(config, "seed", "--target=b")
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/v1'`)
	s.run(config, "verify", "--target=b")
	s.run(config, "seed", "--target=b")
	s.run(config, "resolve", "nobody", "--take=db", "--target=b")
	s.note("DATABASE_URL is set as well")
	s.run(config.With("DATABASE_URL", w.env["A_URL"]), "verify", "--target=b")
	s.run(config, "__complete", "verify", "--target", "")
	compare(t, "commands/targets.txt", s.normalised())

	p := w.start(config, "run", "--http-addr=127.0.0.1:0")
	waittest.Until(t, func() bool { status, _, _ := p.get("/readyz", ""); return status == http.StatusOK }, "all targets are ready")
	compare(t, "endpoints-targets.txt", w.text(p.endpoints("", "/", "/events", "/style.css", "/healthz", "/readyz", "/targets/", "/targets/a", "/targets/a/",
		"/targets/a/events", "/targets/a/style.css", "/targets/c/", "/debug/pprof/")))
	// The series are those of one database, each with the label target.
	var series []string
	for _, line := range p.metrics() {
		if strings.HasPrefix(line, "#") && strings.Contains(line, " provwatch_target_") || strings.HasPrefix(line, "provwatch_") {
			series = append(series, regexp.MustCompile(`="[^"]*"`).ReplaceAllString(line, ""))
		}
	}
	slices.Sort(series)
	compare(t, "metrics-targets.txt", strings.Join(slices.Compact(series), "\n"))
	require.Equal(t, 0, p.stop(syscall.SIGTERM))
}
