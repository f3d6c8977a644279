package porttest

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReserve reserves a port twice. A reserved port refuses connections until the test
// listens there.
func TestReserve(t *testing.T) {
	t.Parallel()
	port, err := Reserve()
	require.NoError(t, err)
	again := &Port{Number: port.Number}
	free, err := again.reserve()
	require.NoError(t, err)
	require.False(t, free, "it is reserved")

	_, err = net.Dial("tcp", port.Address())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	listener, err := net.Listen("tcp", port.Address())
	require.NoError(t, err)
	require.NoError(t, port.Close())
	free, err = again.reserve()
	require.NoError(t, err)
	require.False(t, free, "the test listens there")
	require.NoError(t, listener.Close())
	free, err = again.reserve()
	require.NoError(t, err)
	require.True(t, free, "it was given back")
	require.NoError(t, again.Close())
}

// TestUnused gets addresses of which each is another.
func TestUnused(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 20 {
		address := Unused(t)
		require.False(t, seen[address], address)
		seen[address] = true
		_, err := net.Dial("tcp", address)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
}
