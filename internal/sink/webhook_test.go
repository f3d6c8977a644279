package sink

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/porttest"
)

const webhookSecret = "a secret of the webhook's"

// consumer is an HTTP server that takes CloudEvents, or fails.
type consumer struct {
	t      *testing.T
	server *httptest.Server
	// fail answers a request instead of the consumer, and reports whether it has.
	fail func(w http.ResponseWriter, r *http.Request, event received) bool

	mu    sync.Mutex
	taken []received
	tries int
}

func newConsumer(t *testing.T, fail func(http.ResponseWriter, *http.Request, received) bool) *consumer {
	t.Helper()
	c := &consumer{t: t, fail: fail}
	c.server = httptest.NewUnstartedServer(c)
	c.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(c.server.Close)
	return c
}

func (c *consumer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	event, err := parse(body)
	if err != nil {
		c.t.Errorf("%v: %.200s", err, body)
	}
	if err := verifySignature(r, body, webhookSecret); err != nil {
		c.t.Error(err)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/cloudevents+json" || r.Header.Get("webhook-id") != event.ID() {
		c.t.Errorf("%s with %v", r.Method, r.Header)
	}
	c.mu.Lock()
	c.tries++
	c.mu.Unlock()
	if c.fail != nil && c.fail(w, r, event) {
		return
	}
	if r.Context().Err() != nil {
		return // the worker has given the request up
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken = append(c.taken, event)
}

// verifySignature verifies as the Standard Webhooks specification requires.
func verifySignature(r *http.Request, body []byte, key string) error {
	seconds, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("timestamp %q", r.Header.Get("webhook-timestamp"))
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(r.Header.Get("webhook-id") + "." + r.Header.Get("webhook-timestamp") + "." + string(body)))
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !slices.Contains(strings.Split(r.Header.Get("webhook-signature"), " "), want) {
		return fmt.Errorf("signature %q", r.Header.Get("webhook-signature"))
	}
	return nil
}

// got returns the alerts, or entries, taken so far, each "kind provider".
func (c *consumer) got(stream Stream) (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.taken {
		if e.stream == stream {
			list = append(list, e.kind+" "+e.provider)
		}
	}
	return list
}

func (c *consumer) expect(stream Stream, want ...string) {
	c.t.Helper()
	eventually(c.t, func() bool { return len(c.got(stream)) >= len(want) }, "the consumer gets %q", want)
	require.Equal(c.t, want, c.got(stream))
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func newWebhook(t *testing.T, url string) *Webhook {
	t.Helper()
	w, err := NewWebhook(url, secretFile(t, webhookSecret+"\n"), "")
	require.NoError(t, err)
	return w
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	t.Run("SignedAndInOrder", testWebhookSignedAndInOrder)
	t.Run("RefusedEvent", testWebhookRefusedEvent)
	t.Run("NotThereOrNotTrusted", testWebhookNotThereOrNotTrusted)
	t.Run("RetryAfter", testWebhookRetryAfter)
	t.Run("ErrorsHideTheURL", testWebhookErrorsHideTheURL)
	t.Run("EachSecretSigns", testWebhookEachSecretSigns)
}

func testWebhookSignedAndInOrder(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	c := newConsumer(t, nil)
	c.server.Start()
	f.alert("changed a", "missing b")
	f.audit("a", "b")
	runner, _ := f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, "changed a", "missing b")
	c.expect(Audit, "provider.create a", "provider.create b")

	// More than are read at a time.
	var want []string
	for i := range 2*window + 1 {
		want = append(want, fmt.Sprintf("missing p%d", i%9))
	}
	f.alert(want...)
	runner.Wake(Drift)
	c.expect(Drift, append([]string{"changed a", "missing b"}, want...)...)
	eventually(t, func() bool {
		return f.cursor("webhook", Drift) == int64(len(want)+2) && f.cursor("webhook", Audit) == 2
	}, "the cursors are at the end")
	eventually(t, func() bool { return f.metrics.of("lag webhook drift") == 0 }, "nothing is behind")
	require.Empty(t, f.letters())
	require.Equal(t, len(want)+2, f.metrics.of("delivered webhook drift"))
	require.Zero(t, f.metrics.of("failed webhook drift"))
}

// testWebhookRefusedEvent checks that a refused event is not sent again, and that the next
// one is sent.
func testWebhookRefusedEvent(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	codes := []int{400, 401, 403, 404, 409, 410, 413, 422}
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request, e received) bool {
		code, err := strconv.Atoi(e.provider)
		if err == nil {
			w.WriteHeader(code)
			_, _ = fmt.Fprintf(w, "I do not like\x1b[31m it%s", strings.Repeat("!", 1<<20))
		}
		return err == nil
	})
	c.server.Start()
	for _, code := range codes {
		f.alert(fmt.Sprint("missing ", code), "missing other")
	}
	f.run(time.Hour, newWebhook(t, c.server.URL))
	c.expect(Drift, slices.Repeat([]string{"missing other"}, len(codes))...)
	eventually(t, func() bool { return f.cursor("webhook", Drift) == int64(2*len(codes)) }, "the cursor moves on")
	letters, announced := f.letters(), f.announcements()
	require.Len(t, letters, len(codes))
	for i, code := range codes {
		l, seq := letters[i], int64(2*i+1)
		require.Equal(t, []any{"webhook", Drift, seq, strconv.Itoa(code), 1, false}, []any{l.Sink, l.Stream, l.Seq, l.Provider, l.Attempts, l.Retry})
		require.Contains(t, l.Reason, fmt.Sprintf("HTTP %d %s: I do not like", code, http.StatusText(code)))
		require.NotContains(t, l.Reason, "\x1b")
		require.Less(t, len(l.Reason), 300)
		require.Equal(t, fmt.Sprintf("dead_letter: sink webhook, drift %d: %s", seq, l.Reason), announced[i])
	}
	require.Equal(t, 2*len(codes), c.tries)
	require.Equal(t, len(codes), f.metrics.of("dead webhook drift"))
}

// testWebhookNotThereOrNotTrusted checks that a webhook gets everything once it is there
// and trusted.
func testWebhookNotThereOrNotTrusted(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	c := newConsumer(t, nil)
	require.NoError(t, c.server.Listener.Close())
	address := porttest.Unused(t)
	f.alert("missing a", "missing b")
	_, stop := f.run(time.Hour, newWebhook(t, "http://"+address))
	eventually(t, func() bool { return f.metrics.of("failed webhook drift") > 2 }, "connections are refused")
	require.Empty(t, c.got(Drift))
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	c.server.Listener = listener
	c.server.Start()
	// Either provider can be the first to be retried.
	eventually(t, func() bool { return f.metrics.of("delivered webhook drift") == 2 }, "the consumer gets both")
	require.ElementsMatch(t, []string{"missing a", "missing b"}, c.got(Drift))
	stop()

	secure := newConsumer(t, nil)
	secure.server.StartTLS()
	f.alert("resolved a")
	_, stop = f.run(time.Hour, newWebhook(t, secure.server.URL))
	before := f.metrics.of("failed webhook drift")
	eventually(t, func() bool { return f.metrics.of("failed webhook drift") > before+2 }, "the certificate is not trusted")
	stop()
	require.Empty(t, secure.got(Drift))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.server.Certificate().Raw}), 0o600))
	trusting, err := NewWebhook(secure.server.URL, secretFile(t, webhookSecret), ca)
	require.NoError(t, err)
	require.EqualValues(t, tls.VersionTLS12, trusting.poster.client.Transport.(*http.Transport).TLSClientConfig.MinVersion)
	f.run(time.Hour, trusting)
	secure.expect(Drift, "resolved a")
}

func testWebhookRetryAfter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		value  string
		want   time.Duration
	}{
		"seconds":              {429, "120", 120 * time.Second},
		"a date that is over":  {429, "Wed, 21 Oct 2015 07:28:00 GMT", 0},
		"nothing":              {429, "", 0},
		"not a time":           {503, "-1", 0},
		"one that cannot wait": {500, "120", 0},
	} {
		response := &http.Response{StatusCode: c.status, Header: http.Header{"Retry-After": {c.value}}}
		require.Equal(t, c.want, retryAfter(response), name)
	}
	began := time.Now()
	at := began.Add(time.Hour).UTC().Truncate(time.Second)
	after := retryAfter(&http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {at.Format(http.TimeFormat)}}})
	require.LessOrEqual(t, time.Until(at), after)
	require.LessOrEqual(t, after, at.Sub(began))
}

func testWebhookErrorsHideTheURL(t *testing.T) {
	t.Parallel()
	const hidden = "s3cret-token"
	w := newWebhook(t, "http://user:"+hidden+"@127.0.0.1:1/"+hidden+"?token="+hidden)
	err := w.Send(t.Context(), Event{Stream: Drift, Provider: "a", Data: []byte("{}")})
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), hidden)
	// Nor when the server repeats it.
	repeats := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		http.Error(rw, fmt.Sprintf("Cannot POST %s (%s), %s for %s; %s", r.RequestURI, r.URL.Path, path.Base(r.URL.Path), password, r.FormValue("token")), http.StatusNotFound)
	}))
	t.Cleanup(repeats.Close)
	w = newWebhook(t, strings.Replace(repeats.URL, "//", "//user:"+hidden+"@", 1)+"/v1/"+hidden+"%2F"+hidden+"?token="+hidden)
	err = w.Send(t.Context(), Event{Stream: Drift, Provider: "a", Data: []byte("{}")})
	require.ErrorContains(t, err, "HTTP 404 Not Found: Cannot POST … (…), … for …; …")
	require.NotContains(t, err.Error(), hidden)
	for _, url := range []string{hidden, "ftp://" + hidden, "http://" + hidden + "%zz", "http://[" + hidden, ":" + hidden} {
		_, err := NewWebhook(url, secretFile(t, webhookSecret), "")
		require.ErrorContains(t, err, "want an absolute http or https URL")
		require.NotContains(t, err.Error(), hidden)
		_, err = NewNATS(url, "", "provwatch", "", "")
		require.ErrorContains(t, err, "want URLs such as nats://")
		require.NotContains(t, err.Error(), hidden)
	}
}

func testWebhookEachSecretSigns(t *testing.T) {
	t.Parallel()
	const other = "another secret, the next one"
	w, err := NewWebhook("http://127.0.0.1:1", secretFile(t, webhookSecret+"\n\n whsec_"+base64.StdEncoding.EncodeToString([]byte(other))+"\n"), "")
	require.NoError(t, err)
	request := httptest.NewRequest(http.MethodPost, "/", nil)
	request.Header.Set("webhook-id", "7")
	w.sign(request.Header, time.Now(), []byte("body"))
	require.NoError(t, verifySignature(request, []byte("body"), webhookSecret))
	require.NoError(t, verifySignature(request, []byte("body"), other))
	require.Error(t, verifySignature(request, []byte("body"), "none of them at all"))
	require.Error(t, verifySignature(request, []byte("another"), other))
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", w, w, w), webhookSecret)

	for text, problem := range map[string]string{
		"\n": "holds no secret", "short": "fewer than 16 bytes", "whsec_???": "not base64",
	} {
		file := secretFile(t, text)
		_, err := NewWebhook("http://127.0.0.1:1", file, "")
		require.ErrorContains(t, err, problem)
		require.NotContains(t, strings.ReplaceAll(err.Error(), file, ""), "???")
	}
	_, err = NewWebhook("http://127.0.0.1:1", secretFile(t, webhookSecret), secretFile(t, "no PEM"))
	require.ErrorContains(t, err, "no certificate")
}
