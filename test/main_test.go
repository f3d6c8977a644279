//go:build e2e

// Package test drives the built worker from outside, as an operator would: real
// processes, real signals, a real PostgreSQL.
package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"provwatch/internal/pgtest"
	"provwatch/internal/waittest"
	"provwatch/internal/workertest"
)

// patience bounds every wait for an event, see [waittest.Patience].
const patience = waittest.Patience

// workerBinary is the worker, built with the race detector. commandBinary is built without it,
// for commands that do one thing and end: most of their time would go to the start of the
// detector.
var workerBinary, commandBinary string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	for binary, flags := range map[*string][]string{&workerBinary: {"-race"}, &commandBinary: nil} {
		path, err := workertest.Build(append(flags, "-ldflags=-X main.version=test -X main.commit=0123abc")...)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(filepath.Dir(path)) }()
		*binary = path
	}
	return pgtest.Run(m)
}
