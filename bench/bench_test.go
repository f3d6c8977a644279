//go:build bench

// Package bench measures what the worker costs and how fast it is: real
// processes on a real PostgreSQL of its own. docs/benchmarks.md says how to run
// it and what came out.
package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"provwatch/internal/workertest"
)

var (
	fsync     = flag.String("fsync", "on", "the server's fsync, on or off")
	providers = flag.Int("providers", 200, "rows of ai_providers, all named in the environment")
	rounds    = flag.Int("rounds", 10, "Writers: rounds, each with one slice for each arm")
	slice     = flag.Duration("slice", time.Second, "Writers: length of a slice")
	writers   = flag.Int("writers", 4, "Writers: concurrent writers")
	pace      = flag.Float64("pace", 0, "Writers: transactions per second of all writers together, 0 for as many as they can")
	which     = flag.String("arms", "a,a2,b,b0,c,c0", "Writers: the arms")
	calm      = flag.Float64("calm", 0.3, "Writers: a slice during which others used more processors than this is repeated, and does not count")
	waiting   = flag.Duration("waiting", 5*time.Minute, "Writers: how long the run may take longer for the machine to be calm")

	costRounds = flag.Int("cost-rounds", 150, "Cost: rounds, each with one turn for each arm")
	turns      = flag.Duration("turn", 60*time.Millisecond, "Cost: length of a turn")

	failovers = flag.Int("failovers", 25, "Failover: repetitions for each way and source")
	alerts    = flag.Int("alerts", 400, "Latency: changes for each arm")

	results = flag.String("results", "results", "folder that results are written to as JSON, one file for each benchmark")
	profile = flag.String("profile", "", "folder for processor profiles of what Seed, Sustained and Full measure, each of a run more that does not count")
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

var (
	binary string
	server *cluster
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if binary, err = workertest.Build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(binary)) }()
	if server, err = startCluster(nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.stop()
	fmt.Printf("%s, %s, %d CPUs, %s/%s; fsync=%s, wal_level=logical\n", server.version, runtime.Version(), runtime.NumCPU(),
		runtime.GOOS, runtime.GOARCH, *fsync)
	return m.Run()
}
