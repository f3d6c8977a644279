//go:build e2e

package test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// relay is the way to a server, by which some sessions do not get there.
type relay struct {
	address string // host:port
	to      string
	refused atomic.Pointer[string]
}

// newRelay starts a relay to the server at host:port, without TLS.
func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{address: listener.Addr().String(), to: to}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go r.handle(client)
		}
	}()
	return r
}

// refuse makes the relay close new connections whose first message holds the text; empty
// for none.
func (r *relay) refuse(text string) { r.refused.Store(&text) }

func (r *relay) handle(client net.Conn) {
	defer func() { _ = client.Close() }()
	first := make([]byte, 4)
	if _, err := io.ReadFull(client, first); err != nil {
		return
	}
	first = append(first, make([]byte, binary.BigEndian.Uint32(first)-4)...)
	if _, err := io.ReadFull(client, first[4:]); err != nil {
		return
	}
	if text := r.refused.Load(); text != nil && *text != "" && bytes.Contains(first, []byte(*text)) {
		return
	}
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if _, err := server.Write(first); err != nil {
		return
	}
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}
	both.Go(func() { pass(server, client) })
	both.Go(func() { pass(client, server) })
	both.Wait()
}
