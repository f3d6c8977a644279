package wal

import (
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
)

// TestConfirm checks that a position is confirmed once the stream has passed its record.
func TestConfirm(t *testing.T) {
	t.Parallel()
	var c confirmations
	passed := func(position, want pglogrepl.LSN) {
		t.Helper()
		confirm, ok := c.passed(position)
		require.Equal(t, want != 0, ok)
		require.Equal(t, want, confirm)
	}
	passed(10, 0) // nothing is recorded
	c.record(20, 25)
	passed(20, 0)
	passed(24, 0)
	passed(25, 20)
	passed(30, 0)

	// Records in a row: the first is confirmed all the same, and then the last.
	c.record(40, 45)
	c.record(50, 55)
	c.record(60, 65)
	passed(44, 0)
	passed(45, 40)
	passed(64, 0)
	c.record(70, 75)
	passed(66, 60)
	passed(75, 70)
}
