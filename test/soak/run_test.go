//go:build soak

package soak

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/workertest"
)

var (
	length     = flag.Duration("length", 10*time.Minute, "how long faults are injected")
	seed       = flag.Uint64("seed", 0, "the seed of the schedule; 0 for a new one")
	source     = flag.String("source", "", "run one world, with this --source; empty for notify and wal side by side")
	reportFile = flag.String("report", "", "write the report to this file as well, as JSON")
	keep       = flag.String("keep", "", "keep the workers' logs in this folder")
)

// settleTime bounds how long everything may take to be as it should after the
// last fault: 30 seconds, and the longest documented wait before a try, 15
// seconds and half of it as jitter.
const settleTime = 30*time.Second + 15*time.Second*3/2

// joinTime bounds how long it may take until the late providers have joined. Faults go on
// until then, so that it is a guard against hanging alone.
const joinTime = 10 * time.Minute

var workerBinary string

func TestMain(m *testing.M) {
	flag.Parse()
	// Toxics log by a logger of their own.
	zerolog.SetGlobalLevel(zerolog.Disabled)
	dir, err := os.MkdirTemp("", "provwatch-soak-")
	if err != nil {
		panic(err)
	}
	overlay, err := overlayClock(dir)
	if err != nil {
		panic(err)
	}
	if workerBinary, err = workertest.BuildInto(dir, "-overlay="+overlay, "-race", "-ldflags=-X main.version=soak"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := pgtest.Run(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// report is what a run did and found.
type report struct {
	Seed         uint64         `json:"seed"`
	Source       string         `json:"source"`
	ShortLimits  bool           `json:"short_limits"` // the workers' limits are shorter than faults
	Length       string         `json:"length"`
	Commits      int            `json:"commits"` // of writers
	Refused      int            `json:"refused"` // transactions of writers that failed
	Unknown      int            `json:"unknown"` // commits whose outcome was looked up
	Seeds        int            `json:"seeds"`
	Transactions int            `json:"transactions"` // all that were checked
	Alerts       int            `json:"alerts"`
	AuditEntries int            `json:"audit_entries"`
	Deliveries   int            `json:"deliveries"`   // to all sinks, repeats included
	DeadLetters  int            `json:"dead_letters"` // all of them refused
	Pruned       int            `json:"pruned"`       // alerts, audit entries and silences
	AlertAfter   string         `json:"alert_after"`  // how long a drift lasted before it was alerted
	Unalerted    int            `json:"unalerted"`    // drifts that did not last for that
	Silenced     int            `json:"silenced"`     // alerts
	Repeated     int            `json:"repeated"`     // alerts of drifts that outlived their silences
	Applies      bool           `json:"applies"`      // the workers apply what a reload has changed
	Applied      int            `json:"applied"`      // rows
	Leaders      int            `json:"leaders"`      // times that the leader changed
	Starts       int            `json:"worker_starts"`
	Faults       map[string]int `json:"faults"`
	Skipped      map[string]int `json:"skipped"`
	Gaps         int            `json:"gaps_announced"`
	SlotsKept    int            `json:"slots_kept"` // by failovers
	Convergence  string         `json:"convergence"`
	Violations   []violation    `json:"violations"`
}

// TestSoak breaks what it can for a while and checks that nothing was lost.
func TestSoak(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano() % 1_000_000)
	}
	fmt.Printf("soak: seed %d, %s; repeat with SEED=%d SOAK=%s\n", *seed, *length, *seed, *length)
	sources := []string{"notify", "wal"}
	if *source != "" {
		sources = []string{*source}
	}
	var mu sync.Mutex
	var reports []report
	t.Run("world", func(t *testing.T) {
		for _, s := range sources {
			t.Run(s, func(t *testing.T) {
				t.Parallel()
				r := run(t, *seed, s, *length)
				mu.Lock()
				defer mu.Unlock()
				reports = append(reports, r)
			})
		}
	})
	printReports(reports)
	if *reportFile != "" {
		text, err := json.MarshalIndent(reports, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(*reportFile, append(text, '\n'), 0o644))
	}
}

func printReports(reports []report) {
	summary := table.NewWriter()
	summary.SetStyle(table.StyleLight)
	faults := table.NewWriter()
	faults.SetStyle(table.StyleLight)
	summary.AppendHeader(table.Row{"source", "seed", "commits", "refused", "unknown", "seeds", "starts", "leaders", "alerts", "audit", "sent", "dead letters", "pruned", "silenced", "repeated", "unalerted", "applied", "faults", "gaps", "converged in", "violations"})
	header := table.Row{"fault"}
	for _, r := range reports {
		n := 0
		for kind, count := range r.Faults {
			if !strings.HasPrefix(kind, "operator-") {
				n += count
			}
		}
		summary.AppendRow(table.Row{r.Source, r.Seed, r.Commits, r.Refused, r.Unknown, r.Seeds, r.Starts, r.Leaders, r.Alerts, r.AuditEntries, r.Deliveries, r.DeadLetters, r.Pruned, r.Silenced, r.Repeated, r.Unalerted, r.Applied, n, r.Gaps, cmp.Or(r.Convergence, "not"), len(r.Violations)})
		header = append(header, r.Source)
	}
	faults.AppendHeader(header)
	// A flood that has filled the queue counts once more.
	for _, k := range slices.Concat(faultWeights, weights{{"queue-full", 0}}, momentWeights, operatorWeights, moveWeights) {
		line := table.Row{k.kind}
		for _, r := range reports {
			text := fmt.Sprint(r.Faults[k.kind])
			if n := r.Skipped[k.kind]; n > 0 {
				text += fmt.Sprintf(" (%d skipped)", n)
			}
			line = append(line, text)
		}
		faults.AppendRow(line)
	}
	fmt.Println(summary.Render())
	fmt.Println(faults.Render())
}
