//go:build e2e

// Package test drives the built worker from outside, as an operator would: real
// processes, real signals, a real PostgreSQL.
package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
)

// patience bounds every wait for an event, see [waittest.Patience].
const patience = waittest.Patience

// workerBinary is the worker, built with the race detector.
var workerBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "provwatch-test-")
	if err != nil {
		panic(err)
	}
	// Other users, such as the one that PostgreSQL runs as, start it too.
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	workerBinary = filepath.Join(dir, "worker")
	build := exec.Command("go", "build", "-race", "-ldflags=-X main.version=test -X main.commit=0123abc", "-o", workerBinary, "provwatch/cmd/worker")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the worker: %v\n%s", err, out)
		os.Exit(1)
	}
	code := pgtest.Run(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}
