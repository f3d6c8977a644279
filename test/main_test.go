//go:build e2e

// Package test drives the built worker from outside, as an operator would: real
// processes, real signals, a real PostgreSQL.
package test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
	"provwatch/internal/workertest"
)

// patience bounds every wait for an event, see [waittest.Patience].
const patience = waittest.Patience

// workerBinary is the worker, built with the race detector where the tests are. commandBinary
// is built without it, for commands that do one thing and end: most of their time would go to
// the start of the detector.
var workerBinary, commandBinary string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	build := func(flags ...string) (string, bool) {
		path, err := workertest.Build(append(flags, "-ldflags=-X main.version=test -X main.commit=0123abc")...)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return path, err == nil
	}
	var ok bool
	if commandBinary, ok = build(); !ok {
		return 1
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(commandBinary)) }()
	workerBinary = commandBinary
	if haveDetector() {
		if workerBinary, ok = build("-race"); !ok {
			return 1
		}
		defer func() { _ = os.RemoveAll(filepath.Dir(workerBinary)) }()
	}
	return pgtest.Run(m)
}

// haveDetector reports whether these tests are built with the race detector.
func haveDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
