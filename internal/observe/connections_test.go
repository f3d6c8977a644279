package observe

import (
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestConnectionLimit opens a connection more than the limit, which closes the
// connection that was quiet for longest.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	c := newConnections(2)
	var ours, theirs []net.Conn
	for range 4 {
		a, b := net.Pipe()
		t.Cleanup(func() { _, _ = a.Close(), b.Close() })
		ours, theirs = append(ours, a), append(theirs, b)
	}
	open := func(i int) bool {
		go func() { _, _ = theirs[i].Read(make([]byte, 1)) }()
		_, err := ours[i].Write([]byte{0})
		return err == nil
	}
	c.changed(ours[0], http.StateNew)
	c.changed(ours[1], http.StateNew)
	c.changed(ours[0], http.StateActive)
	c.changed(ours[2], http.StateNew)
	require.Equal(t, []bool{true, false, true}, []bool{open(0), open(1), open(2)})
	c.changed(ours[1], http.StateClosed)
	c.changed(ours[2], http.StateClosed)
	c.changed(ours[3], http.StateNew)
	require.True(t, open(0), "there is room")
}
