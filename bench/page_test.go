//go:build bench

package bench

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dustin/go-humanize/english"

	"provwatch/internal/schema"
)

var (
	pageSizes  = flag.String("page-sizes", "1000,100000", "Page: numbers of providers")
	pageRounds = flag.Int("page-rounds", 30, "Page: rounds of the smallest size; larger ones have fewer, and at least 3")
	pageAlerts = flag.Int("page-alerts", 3000, "Page: alerts that there are at least, all of providers that drift by turns")
)

// BenchmarkPage measures the status page, as a client gets it from a worker that
// leads, and "worker status" as a process, with and without the environment.
func BenchmarkPage(b *testing.B) {
	r := newResult("page")
	sizes := sizes(b, *pageSizes)
	var arms []timedArm
	for _, n := range sizes {
		arms = measurePage(b, r, n)
	}
	r.close(b)

	fmt.Printf("\nPage: %d alerts or more; ms; foreign cores %.2f\n\n", *pageAlerts, r.ForeignCores)
	header("providers", "arm", "rounds", "median [quartiles]", "p90")
	for _, n := range sizes {
		for _, arm := range arms {
			ms := r.milliseconds(arm.name, n)
			row(n, arm.name, len(ms), middle("%.1f", ms), fmt.Sprintf("%.1f", quantile(slices.Sorted(slices.Values(ms)), 0.9)))
		}
	}
	fmt.Println()
}

// measurePage returns the arms, which are the same for each size.
func measurePage(b *testing.B, r *result, n int) []timedArm {
	b.Helper()
	d := emptyDatabase(b, fmt.Sprintf("page_%d", n))
	d.migrate(schema.Needs{Triggers: true})
	desired := desiredProviders(b, n)
	d.fill(desired, true)
	file := environmentFile(b, n)
	w := d.launch(nil, "--source=notify", "--env-file="+file, "--http-addr=127.0.0.1:0", "--resync=24h")
	w.waitLonger("msg=ready", largeBoot)
	d.alert(min(n/2, 1000))

	page := func(query, want string) func() error { return func() error { return w.getPage(query, want) } }
	all := english.Plural(n, "provider", "")
	last := desired[n-1].Name
	arms := []timedArm{
		{"page", page("", "of "+all)},
		{"page, in sync", page("?state=in_sync", "Providers in sync, 100 of them")},
		{"page, one name", page("?q="+last, "1 in all")},
		{"page, the end of the list", page("?after=in_sync:"+last, "There are no providers.")},
		{"worker status", func() error { return d.status(all, "--env-file="+file) }},
		{"worker status, no environment", func() error { return d.status(all) }},
	}
	r.time(b, n, roundsOf(*pageRounds, n, 1_000_000), arms)
	w.end(syscall.SIGTERM)
	return arms
}

// getPage gets the status page, which must hold the text.
func (w *worker) getPage(query, want string) error {
	response, err := http.Get("http://" + w.address() + "/" + query)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || !strings.Contains(string(body), want)) {
		err = fmt.Errorf("%s has answered %s without %q:\n%.4000s", query, response.Status, want, body)
	}
	return err
}

// status runs "worker status", which must print first how many providers there are.
func (d *database) status(all string, args ...string) error {
	c := exec.Command(binary, append([]string{"status"}, args...)...)
	c.Env = []string{"DATABASE_URL=" + d.dsn()}
	out, err := c.CombinedOutput()
	if err == nil && !strings.HasPrefix(string(out), all+": ") {
		err = fmt.Errorf("worker status has printed:\n%.4000s", out)
	}
	return err
}

// alert lets so many providers drift and come back until there are enough alerts,
// and then drift once more. It also puts as many audit entries.
func (d *database) alert(drifting int) {
	b := d.b
	b.Helper()
	ctx := context.Background()
	recorded := func() (count int) {
		if err := d.conn.QueryRow(ctx, "SELECT count(*) FROM provwatch.drift_alerts").Scan(&count); err != nil {
			b.Fatal(err)
		}
		return count
	}
	for want, drifts := drifting, false; want <= *pageAlerts || !drifts; want += drifting {
		drifts = !drifts
		execute(b, d.conn, `UPDATE ai_providers SET enabled = $1 WHERE id IN (SELECT id FROM ai_providers ORDER BY name LIMIT $2)`, !drifts, drifting)
		for deadline := time.Now().Add(patience); recorded() < want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatalf("there are %d alerts, want %d", recorded(), want)
			}
		}
	}
	execute(b, d.conn, `INSERT INTO provwatch.audit_log (id, seq, occurred_at, actor, action, provider, details)
		SELECT gen_random_uuid(), last_seq + i, now(), 'bench', 'provider.create', 'provider-' || i, '{"type":"openai"}'
		FROM provwatch.audit_counter, generate_series(1, $1) AS i`, *pageAlerts)
	execute(b, d.conn, `UPDATE provwatch.audit_counter SET last_seq = last_seq + $1`, *pageAlerts)
	execute(b, d.conn, "VACUUM ANALYZE")
	execute(b, d.conn, "CHECKPOINT")
}
