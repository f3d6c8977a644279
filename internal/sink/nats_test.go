package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"provwatch/internal/porttest"
	"provwatch/internal/waittest"
)

// natsServer is a NATS server with JetStream, in this process.
type natsServer struct {
	t       *testing.T
	options *server.Options
	server  *server.Server
}

func startNATS(t *testing.T, change ...func(*server.Options)) *natsServer {
	t.Helper()
	port, err := porttest.Reserve() // it stops, and starts at the same port
	require.NoError(t, err)
	t.Cleanup(func() { _ = port.Close() })
	n := &natsServer{t: t, options: &server.Options{
		Host: "127.0.0.1", Port: port.Number, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 64 << 10, MaxPending: 64 << 10,
	}}
	for _, c := range change {
		c(n.options)
	}
	n.start()
	t.Cleanup(n.stop)
	return n
}

func (n *natsServer) start() {
	n.t.Helper()
	s, err := server.NewServer(n.options)
	require.NoError(n.t, err)
	n.server = s
	go s.Start()
	require.True(n.t, s.ReadyForConnections(waittest.Patience))
}

func (n *natsServer) stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

func (n *natsServer) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.options.Port) }

// storedStream is a stream as a consumer sees it.
type storedStream struct {
	t      *testing.T
	stream jetstream.Stream
}

// stream makes a stream.
func (n *natsServer) stream(config jetstream.StreamConfig, options ...nats.Option) *storedStream {
	n.t.Helper()
	conn, err := nats.Connect(n.url(), append(options, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))...)
	require.NoError(n.t, err)
	n.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(n.t, err)
	config.Duplicates = time.Hour // far longer than any test waits
	stream, err := js.CreateStream(n.t.Context(), config)
	require.NoError(n.t, err)
	return &storedStream{n.t, stream}
}

// messages returns all that is stored. The server must run.
func (s *storedStream) messages() []*jetstream.RawStreamMsg {
	s.t.Helper()
	messages, err := s.read()
	require.NoError(s.t, err)
	return messages
}

func (s *storedStream) read() ([]*jetstream.RawStreamMsg, error) {
	info, err := s.stream.Info(s.t.Context())
	if err != nil {
		return nil, err
	}
	var messages []*jetstream.RawStreamMsg
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		message, err := s.stream.GetMsg(s.t.Context(), seq)
		if err != nil {
			return nil, err
		}
		messages = append(messages, message)
	}
	return messages, nil
}

// wait waits until n messages are stored and returns them. Errors are those of a
// server that is starting again; the last is in the failure.
func (s *storedStream) wait(n int, message string) (messages []*jetstream.RawStreamMsg) {
	s.t.Helper()
	var err error
	eventually(s.t, func() bool {
		var read []*jetstream.RawStreamMsg
		read, err = s.read()
		if err == nil {
			messages = read
		}
		return err == nil && len(read) >= n
	}, "%s: %s stored, want %d, last error %s", message, waittest.Lazy(func() any { return len(messages) }), n, waittest.Lazy(func() any { return err }))
	require.Len(s.t, messages, n, message)
	return messages
}

func (n *natsServer) sink(stream string) *NATS {
	n.t.Helper()
	s, err := NewNATS(n.url(), stream, "ops.provwatch", "", "")
	require.NoError(n.t, err)
	n.t.Cleanup(s.Close)
	return s
}

func TestNATS(t *testing.T) {
	t.Parallel()
	t.Run("SharedStreamOverTLS", testNATSSharedStreamOverTLS)
	t.Run("SilentServer", testNATSSilentServer)
	t.Run("UnusableOptions", testNATSUnusableOptions)
	t.Run("LostConnection", testNATSLostConnection)
}

func testNATSSharedStreamOverTLS(t *testing.T) {
	t.Parallel()
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(certified.Close)
	n := startNATS(t, func(o *server.Options) { o.TLSConfig = &tls.Config{Certificates: certified.TLS.Certificates} })
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certified.Certificate().Raw}), 0o600))
	stream := n.stream(jetstream.StreamConfig{Name: "FLEET", Subjects: []string{"provwatch.>"}}, nats.RootCAs(ca))

	trusting, err := NewNATS(n.url(), "FLEET", "provwatch", "", ca)
	require.NoError(t, err)
	t.Cleanup(trusting.Close)
	var ids []string
	for _, cluster := range []string{"eu.1", "eu", "us"} {
		e := Event{Stream: Drift, ID: uuid.New(), Provider: "a", Cluster: cluster, Data: []byte("{}")}
		ids = append(ids, e.ID.String())
		for range 2 {
			require.NoError(t, trusting.Send(t.Context(), e))
		}
	}
	var subjects, got []string
	for _, m := range stream.messages() {
		subjects, got = append(subjects, m.Subject), append(got, m.Header.Get(nats.MsgIdHdr))
	}
	require.Equal(t, []string{"provwatch.eu%2E1.drift.a", "provwatch.eu.drift.a", "provwatch.us.drift.a"}, subjects)
	require.Equal(t, ids, got)

	other, err := NewNATS(n.url(), "", "provwatch", "", "")
	require.NoError(t, err)
	require.ErrorContains(t, other.Send(t.Context(), Event{Stream: Drift, Provider: "a", Data: []byte("{}")}), "certificate")
}

// testNATSSilentServer lets connections be accepted by a server that never speaks.
func testNATSSilentServer(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	s, err := NewNATS("nats://"+silent.Addr().String(), "", "provwatch", "", "")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	accepted := make(chan net.Conn, 1)
	go func() {
		if conn, err := silent.Accept(); err == nil {
			accepted <- conn
			stop()
		}
	}()
	require.ErrorIs(t, s.Send(ctx, Event{Stream: Drift, Provider: "a", Data: []byte("{}")}), context.Canceled)
	s.Close()
	require.NoError(t, (<-accepted).Close(), "which ends what is left of it")
}

func testNATSUnusableOptions(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, c := range []struct{ url, stream, prefix, creds, ca, problem string }{
		{"nats://h, http://h", "", "p", "", "", "want URLs such as"},
		{"nats://h", "a.b", "p", "", "", "no name of a stream"},
		{"nats://h", "", "p.*", "", "", "without wildcards"},
		{"nats://h", "", "p.", "", "", "tokens separated by dots"},
		{"nats://h", "", "p", empty + "not", "", "no such file"},
		{"nats://h", "", "p", "", empty, "no certificate"},
	} {
		_, err := NewNATS(c.url, c.stream, c.prefix, c.creds, c.ca)
		require.ErrorContains(t, err, c.problem)
	}
}

// lateDialer makes connections whose end the client learns of only when the test
// ends it: until then it believes that it is connected, and what it writes is lost.
type lateDialer struct {
	// published receives once an event is written on a connection.
	published chan struct{}

	mu    sync.Mutex
	learn chan struct{} // of the connections that are made from now on
}

func newLateDialer() *lateDialer {
	return &lateDialer{published: make(chan struct{}, 1), learn: make(chan struct{})}
}

// Dial implements [nats.CustomDialer].
func (d *lateDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return &lateConn{conn, d.published, d.learn}, nil
}

// report lets the client learn of the end of the connections that there are.
func (d *lateDialer) report() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.learn)
	d.learn = make(chan struct{})
}

// close does so for good, also for connections that are made later.
func (d *lateDialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.learn)
}

type lateConn struct {
	net.Conn
	published chan<- struct{}
	learn     <-chan struct{}
}

func (c *lateConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		<-c.learn
	}
	return n, err
}

// Write never fails, as while the system still buffers data for a peer that no longer
// exists.
func (c *lateConn) Write(b []byte) (int, error) {
	_, _ = c.Conn.Write(b)
	if bytes.Contains(b, []byte("HPUB ")) {
		select {
		case c.published <- struct{}{}:
		default:
		}
	}
	return len(b), nil
}

// testNATSLostConnection checks that a send ends as soon as its connection is lost.
func testNATSLostConnection(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	stream := n.stream(jetstream.StreamConfig{Name: "FLEET", Subjects: []string{"ops.provwatch.>"}})
	s := n.sink("FLEET")
	late := newLateDialer()
	t.Cleanup(late.close)
	s.options = append(s.options, nats.SetCustomDialer(late), nats.ReconnectWait(time.Millisecond), nats.ReconnectJitter(0, 0))
	event := func() Event {
		return Event{Stream: Drift, ID: uuid.New(), Provider: "a", Cluster: "fleet 7", Data: []byte("{}")}
	}
	// A send that nothing ends but its own limit is a failure.
	limited, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	// Each reconnect is a connection whose loss must be noticed again.
	for round := range 3 {
		stored := len(stream.wait(round, "those of the rounds before"))
		eventually(t, func() bool { return s.Send(limited, event()) == nil }, "the server takes an event")
		stream.wait(stored+1, "it is stored once")
		<-late.published
		n.stop()
		result := make(chan error, 1)
		go func() { result <- s.Send(limited, event()) }()
		<-late.published
		select {
		case err := <-result:
			t.Fatalf("the send ended before the client could know: %v", err)
		default:
		}
		late.report()
		require.ErrorIs(t, <-result, errConnectionLost)
		require.NoError(t, limited.Err())
		require.ErrorContains(t, s.Send(limited, event()), "not connected", "nothing is buffered for later")
		n.start()
	}
}
