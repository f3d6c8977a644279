package main

import (
	"bytes"
	"testing"

	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

// TestPanic requires the exit code of a failure after a panic of a goroutine. Go's own exit code
// of a panic is that of a drift.
func TestPanic(t *testing.T) {
	var stderr bytes.Buffer
	code := guarded(&stderr, func() int {
		var group conc.WaitGroup
		group.Go(func() { panic("of a goroutine") })
		group.Wait()
		return exitOK
	})
	require.Equal(t, exitFailure, code)
	require.Contains(t, stderr.String(), "panic: of a goroutine")
	require.Contains(t, stderr.String(), "main_test.go", "where it was")
	require.Equal(t, exitDrift, guarded(&stderr, func() int { return exitDrift }))
}
