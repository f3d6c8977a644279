package postgres

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of Linux, which the package syscall lacks.
const tcpUserTimeout = 0x12

// limitUnacknowledged returns what makes a TCP connection end when data that was sent
// stays unacknowledged for the time given.
func limitUnacknowledged(limit time.Duration) func(network, address string, conn syscall.RawConn) error {
	return func(network, _ string, conn syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		var failed error
		if err := conn.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(limit.Milliseconds()))
		}); err != nil {
			return err
		}
		if failed != nil {
			return fmt.Errorf("set tcp_user_timeout: %w", os.NewSyscallError("setsockopt", failed))
		}
		return nil
	}
}
