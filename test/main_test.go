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

// workerBinary is the worker, built with the race detector.
var workerBinary string

func TestMain(m *testing.M) {
	var err error
	if workerBinary, err = workertest.Build("-race", "-ldflags=-X main.version=test -X main.commit=0123abc"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := pgtest.Run(m)
	_ = os.RemoveAll(filepath.Dir(workerBinary))
	os.Exit(code)
}
