package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"provwatch/internal/regularfile"
	"provwatch/internal/secret"
)

// minToken is the least length of a token, in characters.
const minToken = 16

// Access decides which clients can see the page, and other handlers that it guards.
type Access struct {
	// Token is what a client must show, by "Authorization: Bearer" or as the
	// password of HTTP Basic. Absent: only a loopback address serves the page.
	Token secret.Text
	// Loopback: the address that is listened on is one.
	Loopback bool
}

// IsLoopback reports whether only this machine can connect to the address.
func IsLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// ReadToken reads the file of a token, whose white space at the end is dropped.
// An error holds nothing of it.
func ReadToken(path string) (secret.Text, error) {
	content, err := regularfile.ReadGuarded(path, regularfile.Limit)
	if err != nil {
		return secret.Text{}, fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimRight(string(content), "\r\n\t ")
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return secret.Text{}, errors.New("the token must be one line of printable ASCII without spaces")
	}
	if len(token) < minToken {
		return secret.Text{}, fmt.Errorf("the token must have %d characters or more, such as the output of \"openssl rand -hex 32\"", minToken)
	}
	return secret.New(token), nil
}

const (
	refusedAddress = "This page is not served on this address without a token.\n" +
		"Start the worker with --http-token-file FILE, or bind --http-addr to 127.0.0.1.\n"
	refusedHost = "This page is served without a token under the names localhost, 127.0.0.1 and [::1] only.\n" +
		"Use one of them, or start the worker with --http-token-file FILE.\n"
	refusedSite  = "Pages of other sites cannot load this page.\n"
	refusedToken = "This page needs the token of --http-token-file, as a bearer token or as the password of any user.\n"
)

// Guard lets those through who may see the page, and sets the headers that its
// answers have.
func (a Access) Guard(next http.Handler) http.Handler { return secured(a.guard(next)) }

// guard lets those through who may see the page.
func (a Access) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A link to the page is followed, but nothing of it is embedded.
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			refuse(w, http.StatusForbidden, refusedSite)
			return
		}
		switch {
		case !a.Token.IsZero() && !a.shown(r):
			w.Header().Set("WWW-Authenticate", `Basic realm="provwatch", charset="UTF-8"`)
			refuse(w, http.StatusUnauthorized, refusedToken)
		case !a.Token.IsZero():
			next.ServeHTTP(w, r)
		case !a.Loopback:
			refuse(w, http.StatusForbidden, refusedAddress)
		case !isLocal(r.Host):
			// A name of somebody else's that leads here (DNS rebinding) would let his
			// pages read this one.
			refuse(w, http.StatusForbidden, refusedHost)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// shown reports whether the request shows the token.
func (a Access) shown(r *http.Request) bool {
	_, given, ok := r.BasicAuth()
	if !ok {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return false
		}
		given = strings.TrimSpace(token)
	}
	// Of digests, so that not even the length takes its time.
	want, have := sha256.Sum256([]byte(a.Token.Reveal())), sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(want[:], have[:]) == 1
}

func isLocal(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

func refuse(w http.ResponseWriter, code int, reason string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(reason))
}

// secured sets the headers that every answer has, refusals included.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// policy lets a page load its own style and script and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
