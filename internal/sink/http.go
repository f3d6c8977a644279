package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"provwatch/internal/regularfile"
)

const (
	// maxResponse is how much of a response is read, in bytes, and maxShown how much
	// of a refusal's is shown.
	maxResponse = 64 << 10
	maxShown    = 200
)

// poster posts JSON to one URL.
type poster struct {
	url    string
	client *http.Client
	// hide replaces what an answer repeats of the URL, which can hold a secret.
	hide *strings.Replacer
}

// newPoster returns a poster to an http or https URL. The CAs in the PEM file caFile
// verify the server's certificate, the system's CAs where it is empty. The error is a
// [*SettingError] that holds no part of the URL.
func newPoster(to, caFile string) (*poster, error) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, &SettingError{"url", errors.New("want an absolute http or https URL")}
	}
	if isSplitPassword(u) {
		return nil, &SettingError{"url", errSplitPassword}
	}
	config, err := tlsConfig(caFile)
	if err != nil {
		return nil, &SettingError{"ca-file", err}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	transport.Proxy = func(request *http.Request) (*url.URL, error) {
		proxy, err := http.ProxyFromEnvironment(request)
		if err != nil { // which quotes it, with its password
			return nil, errors.New("the proxy of HTTPS_PROXY or HTTP_PROXY is no URL that can be used")
		}
		return proxy, nil
	}
	transport.MaxIdleConnsPerHost = 2 // one for each stream
	transport.MaxResponseHeaderBytes = maxResponse
	return &poster{url: to, hide: hider(u), client: &http.Client{
		Transport: transport,
		// A signature and the credentials of the URL are for one server alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

var errSplitPassword = errors.New("it has an @ after its host and port, which may be a part of the password: " +
	"percent-encode special characters of the user and the password, / as %2F, ? as %3F, # as %23, @ as %40; and an @ elsewhere as %40")

// isSplitPassword reports whether the host and port of a URL may be the user and the
// beginning of the password, which a special character that is not escaped ends.
func isSplitPassword(u *url.URL) bool {
	return u.User == nil && u.Port() != "" && strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@")
}

// tlsConfig trusts the CAs in a file, or the system's.
func tlsConfig(caFile string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return config, nil
	}
	text, err := regularfile.ReadGuarded(caFile, regularfile.Limit)
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", caFile)
	}
	return config, nil
}

func (p *poster) post(ctx context.Context, body []byte, header http.Header) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("User-Agent", "provwatch")
	response, err := p.client.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer func() { _ = response.Body.Close() }()
	// The whole answer, so that the connection can be used again. Half an answer counts as a failure.
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	switch {
	case err != nil:
		return fmt.Errorf("HTTP %s, but no whole answer: %w", response.Status, withoutURL(err))
	case response.StatusCode/100 == 2:
		return nil
	}
	reason := "HTTP " + response.Status
	if shown := shownAnswer(p.hide.Replace(string(answer))); shown != "" {
		reason += ": " + shown
	}
	switch {
	case response.StatusCode/100 == 3:
		return errors.New("HTTP " + response.Status + ": redirects are not followed; configure the URL that it leads to")
	case retryAfter(response) > 0:
		return &BusyError{Reason: reason, After: retryAfter(response)}
	case response.StatusCode/100 == 4 && response.StatusCode != http.StatusRequestTimeout &&
		response.StatusCode != http.StatusTooEarly && response.StatusCode != http.StatusTooManyRequests:
		return &RefusedError{Reason: reason}
	default:
		return errors.New(reason)
	}
}

func (p *poster) close() { p.client.CloseIdleConnections() }

// hider replaces the parts of a URL that can hold a secret: its userinfo, its query, its
// path, and each part of the path that is long enough. Servers often repeat an unknown
// path in their answer.
func hider(u *url.URL) *strings.Replacer {
	var hidden []string
	hide := func(least int, texts ...string) {
		for _, text := range texts {
			if len(text) >= least {
				hidden = append(hidden, text, url.PathEscape(text), url.QueryEscape(text), html.EscapeString(text))
			}
		}
	}
	const short = 8 // as are "api", "alerts" and the like
	hide(2, u.Path, u.EscapedPath(), u.RequestURI())
	hide(short, strings.Split(u.Path, "/")...)
	hide(short, strings.Split(u.EscapedPath(), "/")...)
	hide(1, u.RawQuery)
	for _, values := range u.Query() {
		hide(short, values...)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		hide(1, u.User.String(), password)
		hide(short, u.User.Username())
	}
	// At one place the first that fits is taken.
	slices.SortFunc(hidden, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(hidden))
	for _, text := range hidden {
		pairs = append(pairs, text, "…")
	}
	return strings.NewReplacer(pairs...)
}

// withoutURL returns an error without the URL, which can hold a secret.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// retryAfter returns how long the server asks to wait before the next request, 0
// if it does not. Only some statuses can have the header.
func retryAfter(response *http.Response) time.Duration {
	switch response.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusServiceUnavailable:
	default:
		return 0
	}
	value := response.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// shownAnswer returns the beginning of an answer, in printable characters.
func shownAnswer(answer string) string {
	text := answer[:min(len(answer), maxShown)]
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, text))
}
