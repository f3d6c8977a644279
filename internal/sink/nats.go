package sink

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"provwatch/internal/regularfile"
)

// maxSubject bounds a subject, in bytes: the server ends a connection for a
// protocol line of more than 4,096.
const maxSubject = 2048

// NATS publishes each event to a stream of NATS JetStream as CloudEvents 1.0 JSON,
// on the subject PREFIX.CLUSTER.drift.PROVIDER or PREFIX.CLUSTER.audit.PROVIDER.
// The event's id is the message's, by which the stream drops repeats.
type NATS struct {
	servers string
	stream  string
	prefix  string
	options []nats.Option

	// turn is held while connecting or closing.
	turn chan struct{}
	conn *nats.Conn // nil until something is sent
	js   jetstream.JetStream
}

// NewNATS returns the servers at URLs separated by commas. An acknowledgement must
// come from the stream, unless it is empty. credentials is the file of a user's
// JWT and seed, empty for none. caFile is as for [NewWebhook], and a file makes
// TLS required. The error is a [*SettingError] that holds no part of a URL.
func NewNATS(servers, stream, prefix, credentials, caFile string) (*NATS, error) {
	for server := range strings.SplitSeq(servers, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss" {
			return nil, &SettingError{"url", errors.New("want URLs such as nats://host:4222 or tls://host:4222")}
		}
		if isSplitPassword(u) {
			return nil, &SettingError{"url", errSplitPassword}
		}
	}
	for part := range strings.SplitSeq(prefix, ".") {
		if part == "" || strings.ContainsAny(part, "*> \t\r\n") {
			return nil, &SettingError{"subject", errors.New("it must be tokens separated by dots, without wildcards")}
		}
	}
	if strings.ContainsAny(stream, ".*> \t\r\n/\\") {
		return nil, &SettingError{"stream", errors.New("this is no name of a stream")}
	}
	if _, err := tlsConfig(caFile); err != nil {
		return nil, &SettingError{"ca-file", err}
	}
	options := []nats.Option{
		nats.Name("provwatch"),
		nats.Timeout(sendTimeout / 2),
		nats.MaxReconnects(-1),
		nats.ReconnectJitter(100*time.Millisecond, time.Second),
		// The delivery retries what cannot be sent now.
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		// The default prints the error, and Send returns the errors of its event.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}
	if caFile != "" {
		// Read again by each connect, since it may have been renewed.
		options = append(options, nats.ClientTLSConfig(nil, func() (*x509.CertPool, error) {
			config, err := tlsConfig(caFile)
			if err != nil {
				return nil, err
			}
			return config.RootCAs, nil
		}))
	}
	if credentials != "" {
		if _, err := regularfile.ReadGuarded(credentials, regularfile.Limit); err != nil {
			return nil, &SettingError{"creds", err}
		}
		options = append(options, userOf(credentials))
	}
	return &NATS{servers: servers, stream: stream, prefix: prefix, options: options, turn: make(chan struct{}, 1)}, nil
}

// userOf authenticates as the user of a credentials file, which each connect reads
// again.
func userOf(credentials string) nats.Option {
	return nats.UserJWT(func() (string, error) {
		content, err := regularfile.ReadGuarded(credentials, regularfile.Limit)
		if err != nil {
			return "", err
		}
		defer clear(content)
		return nkeys.ParseDecoratedJWT(content)
	}, func(nonce []byte) ([]byte, error) {
		content, err := regularfile.ReadGuarded(credentials, regularfile.Limit)
		if err != nil {
			return nil, err
		}
		defer clear(content)
		pair, err := nkeys.ParseDecoratedNKey(content)
		if err != nil {
			return nil, errors.New("the credentials hold no seed that can be used")
		}
		defer pair.Wipe()
		return pair.Sign(nonce)
	})
}

// Name implements [Sink].
func (*NATS) Name() string { return natsName }

// Streams implements [Sink].
func (*NATS) Streams() []Stream { return []Stream{Drift, Audit} }

// Close implements [Sink].
func (n *NATS) Close() {
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	if n.conn != nil {
		n.conn.Close()
		n.conn, n.js = nil, nil
	}
}

// Send implements [Sink].
func (n *NATS) Send(ctx context.Context, e Event) error {
	body, err := e.CloudEvent()
	if err != nil {
		return &RefusedError{Reason: "it cannot be a CloudEvent: " + err.Error()}
	}
	subject := strings.Join([]string{n.prefix, token(e.Cluster), string(e.Stream), token(e.Provider)}, ".")
	if len(subject) > maxSubject {
		return &RefusedError{Reason: fmt.Sprintf("its subject would be longer than %d bytes", maxSubject)}
	}
	conn, js, err := n.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	message := &nats.Msg{Subject: subject, Data: body, Header: nats.Header{"Content-Type": {event.ApplicationCloudEventsJSON}}}
	options := []jetstream.PublishOpt{jetstream.WithMsgID(e.ID.String())}
	if n.stream != "" {
		options = append(options, jetstream.WithExpectStream(n.stream))
	}
	connected, release := whileConnected(ctx, conn)
	defer release()
	_, err = js.PublishMsg(connected, message, options...)
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled) && context.Cause(connected) == errConnectionLost:
		return errConnectionLost
	case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return &RefusedError{Reason: fmt.Sprintf("%v (%d bytes)", err, len(body))}
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return errors.New("not connected")
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w: no stream has the subject %s", err, subject)
	default:
		return err
	}
}

// errConnectionLost leaves open whether the stream has the event. The queue sends
// it again, and the stream drops the repeat.
var errConnectionLost = errors.New("connection lost before the acknowledgement")

// whileConnected returns a context that ends with errConnectionLost as its cause as
// soon as conn leaves the status CONNECTED. The library lets a request wait for its
// own context instead, although the acknowledgement of a lost connection never
// comes. It must be called before the publish, so that no loss is missed. release
// frees what it holds.
func whileConnected(ctx context.Context, conn *nats.Conn) (connected context.Context, release func()) {
	connected, cancel := context.WithCancelCause(ctx)
	left := conn.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// Removing the listener closes the channel. The library drops further changes
		// once the channel's buffer is full, so that it need not be drained.
		if _, changed := <-left; changed {
			cancel(errConnectionLost)
		}
	}()
	return connected, func() {
		conn.RemoveStatusListener(left)
		<-ended
		cancel(context.Canceled)
	}
}

// connect connects, the first time. The library takes no context for it: what it
// still does when ctx ends, it ends by itself.
func (n *NATS) connect(ctx context.Context) (*nats.Conn, jetstream.JetStream, error) {
	select {
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case n.turn <- struct{}{}:
	}
	defer func() { <-n.turn }()
	if n.js != nil && !n.conn.IsClosed() {
		return n.conn, n.js, nil
	}
	type connected struct {
		conn *nats.Conn
		err  error
	}
	done := make(chan connected, 1)
	go func() {
		conn, err := nats.Connect(n.servers, n.options...)
		done <- connected{conn, err}
	}()
	select {
	case <-ctx.Done():
		go func() {
			if late := <-done; late.err == nil {
				late.conn.Close()
			}
		}()
		return nil, nil, ctx.Err()
	case c := <-done:
		if c.err != nil {
			return nil, nil, c.err
		}
		js, err := jetstream.New(c.conn)
		if err != nil {
			c.conn.Close()
			return nil, nil, err
		}
		n.conn, n.js = c.conn, js
		return c.conn, js, nil
	}
}
