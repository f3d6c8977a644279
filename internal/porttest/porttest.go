// Package porttest reserves TCP ports for tests: for servers that stop and start again at the
// same port, and as addresses without a listener.
package porttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// Ports are chosen from first to last. Linux gives higher ports to connections, and to
// listeners that ask for any port.
const (
	first = 20000
	last  = 32000
)

// Port is a TCP port of 127.0.0.1 that no other [Port] is, in any process, until Close.
type Port struct {
	Number int
	// lock is what reserves it: the UDP port of the same number, which has no other use.
	lock net.PacketConn
}

// Reserve reserves a port without a listener.
func Reserve() (*Port, error) {
	for _, i := range rand.Perm(last - first + 1) {
		port := &Port{Number: first + i}
		free, err := port.reserve()
		if err != nil {
			return nil, fmt.Errorf("reserve a port for tests: %w", err)
		}
		if free {
			return port, nil
		}
	}
	return nil, fmt.Errorf("reserve a port for tests: all from %d to %d are in use", first, last)
}

// reserve reports whether the port could be reserved.
func (p *Port) reserve() (free bool, err error) {
	p.lock, err = net.ListenPacket("udp4", p.Address())
	if errors.Is(err, syscall.EADDRINUSE) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	listener, err := net.Listen("tcp4", p.Address())
	if err == nil {
		return true, listener.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = nil
	}
	return false, errors.Join(err, p.lock.Close())
}

// Address returns the port with its host, 127.0.0.1.
func (p *Port) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Number)) }

// Close gives the port back.
func (p *Port) Close() error { return p.lock.Close() }

// Unused returns an address without a listener. Until the end of the test only the test can
// listen there.
func Unused(t testing.TB) string {
	t.Helper()
	port, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	return port.Address()
}
