package sink

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"provwatch/internal/regularfile"
	"provwatch/internal/secret"
)

// Headers of a request, those of the Standard Webhooks specification.
const (
	headerID        = "Webhook-Id"        // the event's id
	headerTimestamp = "Webhook-Timestamp" // when it is sent, in Unix seconds
	headerSignature = "Webhook-Signature" // one for each secret, separated by spaces
)

// minSecret is the least length of a secret, in bytes.
const minSecret = 16

// Webhook posts each event to a URL as CloudEvents 1.0 JSON, signed.
type Webhook struct {
	poster  *poster
	secrets []secret.Text
}

// NewWebhook returns a webhook to an http or https URL. secretFile holds one or
// more secrets, a line each, by every one of which is signed; caFile, if it is
// not empty, the CAs that may have signed the server's certificate. The error
// is a [*SettingError], which holds neither a secret nor a part of the URL.
func NewWebhook(to, secretFile, caFile string) (*Webhook, error) {
	poster, err := newPoster(to, caFile)
	if err != nil {
		return nil, err
	}
	secrets, err := readSecrets(secretFile)
	if err != nil {
		return nil, &SettingError{"secret-file", err}
	}
	return &Webhook{poster: poster, secrets: secrets}, nil
}

// readSecrets reads secrets, one a line: in the form "whsec_" and base64, or as plain
// text.
func readSecrets(file string) ([]secret.Text, error) {
	text, err := regularfile.ReadGuarded(file, regularfile.Limit)
	if err != nil {
		return nil, err
	}
	var secrets []secret.Text
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key := line
		if encoded, found := strings.CutPrefix(line, "whsec_"); found {
			decoded, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				return nil, fmt.Errorf("a secret in %s begins with whsec_ and is not base64", file)
			}
			key = string(decoded)
		}
		if len(key) < minSecret {
			return nil, fmt.Errorf("a secret in %s has fewer than %d bytes", file, minSecret)
		}
		secrets = append(secrets, secret.New(key))
	}
	if len(secrets) == 0 {
		return nil, fmt.Errorf("%s holds no secret", file)
	}
	return secrets, nil
}

// Name implements [Sink].
func (*Webhook) Name() string { return webhookName }

// Streams implements [Sink].
func (*Webhook) Streams() []Stream { return []Stream{Drift, Audit} }

// Close implements [Sink].
func (w *Webhook) Close() { w.poster.close() }

// Send implements [Sink].
func (w *Webhook) Send(ctx context.Context, e Event) error {
	body, err := e.CloudEvent()
	if err != nil {
		return &RefusedError{Reason: "it cannot be a CloudEvent: " + err.Error()}
	}
	header := http.Header{
		"Content-Type": {event.ApplicationCloudEventsJSON},
		headerID:       {e.ID.String()},
	}
	w.sign(header, time.Now(), body)
	return w.poster.post(ctx, body, header)
}

// sign signs the id, the time and the body.
func (w *Webhook) sign(header http.Header, now time.Time, body []byte) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	var signatures []string
	for _, key := range w.secrets {
		mac := hmac.New(sha256.New, []byte(key.Reveal()))
		_, _ = fmt.Fprintf(mac, "%s.%s.%s", header.Get(headerID), timestamp, body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	header.Set(headerTimestamp, timestamp)
	header.Set(headerSignature, strings.Join(signatures, " "))
}
