//go:build !linux

package postgres

import (
	"syscall"
	"time"
)

// limitUnacknowledged does nothing where the system has no such limit, as in libpq.
func limitUnacknowledged(time.Duration) func(network, address string, conn syscall.RawConn) error {
	return nil
}
