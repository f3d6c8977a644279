package web_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/secret"
	"provwatch/internal/web"
)

func TestAccess(t *testing.T) {
	t.Run("Viewers", testAccessViewers)
	t.Run("LoopbackAddress", testAccessLoopbackAddress)
	t.Run("TokenFile", testAccessTokenFile)
	t.Run("Headers", testAccessHeaders)
}

func testAccessViewers(t *testing.T) {
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	withToken := web.Access{Token: secret.New(token)}
	for name, c := range map[string]struct {
		access web.Access
		change func(*http.Request)
		want   int
		says   string
	}{
		"on loopback as localhost":              {local, host("localhost:9464"), 200, ""},
		"on loopback as Localhost, no port":     {local, host("Localhost"), 200, ""},
		"on loopback by IPv4":                   {local, host("127.0.0.1:9464"), 200, ""},
		"on loopback by IPv6":                   {local, host("[::1]:9464"), 200, ""},
		"on loopback by a name that leads here": {local, host("attacker.example:9464"), 403, "--http-token-file"},
		"on loopback by a name like ours":       {local, host("localhost.attacker.example"), 403, "--http-token-file"},
		"on loopback by another address":        {local, host("192.0.2.1:9464"), 403, "--http-token-file"},
		"on loopback, part of another site":     {local, header("Sec-Fetch-Site", "cross-site"), 403, "Pages of other sites"},
		"on loopback, linked from elsewhere": {local, func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
		}, 200, ""},
		"elsewhere without a token":             {web.Access{}, host("localhost"), 403, "--http-token-file"},
		"elsewhere with any":                    {web.Access{}, header("Authorization", "Bearer "), 403, "--http-token-file"},
		"with a token, not shown":               {withToken, host("worker.example"), 401, "bearer token"},
		"with a token, on loopback, not shown":  {web.Access{Token: secret.New(token), Loopback: true}, host("localhost"), 401, "bearer token"},
		"with a token, as bearer":               {withToken, header("Authorization", "Bearer "+token), 200, ""},
		"with a token, as bearer in lower case": {withToken, header("Authorization", "bearer "+token), 200, ""},
		"with a token, as password":             {withToken, basic("anybody", token), 200, ""},
		"with a token, as user":                 {withToken, basic(token, ""), 401, "bearer token"},
		"with a token, its beginning":           {withToken, header("Authorization", "Bearer "+token[:len(token)-1]), 401, "bearer token"},
		"with a token, and more":                {withToken, basic("", token+"x"), 401, "bearer token"},
		"with a token, by another scheme":       {withToken, header("Authorization", "Digest "+token), 401, "bearer token"},
	} {
		t.Run(name, func(t *testing.T) {
			_, server := serve(t, c.access, nil)
			for _, path := range []string{"/", "/style.css", "/script.js"} {
				response, body := get(t, server, path, c.change)
				require.Equal(t, c.want, response.StatusCode, path)
				require.Contains(t, body, c.says)
				require.NotContains(t, body, token)
				require.Equal(t, c.want == 401, response.Header.Get("WWW-Authenticate") != "")
			}
			if c.want != 200 {
				response, _ := get(t, server, "/events", c.change)
				require.Equal(t, c.want, response.StatusCode, "/events")
			}
		})
	}
}

// testAccessLoopbackAddress checks that an address is loopback only if no other host can
// connect.
func testAccessLoopbackAddress(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "127.1.2.3": true, "::1": true, "0.0.0.0": false, "::": false, "192.0.2.1": false} {
		require.Equal(t, want, web.IsLoopback(&net.TCPAddr{IP: net.ParseIP(address)}), address)
	}
}

// testAccessTokenFile checks that a token is read from a file, and refused without being
// shown.
func testAccessTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	_, err := web.ReadToken(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	for content, want := range map[string]string{
		token + "\n":                 "",
		token + "\r\n\n":             "",
		"short-and-sweet":            "16 characters or more",
		"":                           "16 characters or more",
		"two words of a long token":  "without spaces",
		"schlüsselwort-das-lang-ist": "printable ASCII",
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		read, err := web.ReadToken(path)
		if want == "" {
			require.NoError(t, err)
			require.Equal(t, token, read.Reveal())
			continue
		}
		require.ErrorContains(t, err, want)
		if content != "" {
			require.NotContains(t, err.Error(), content)
		}
	}
}

func testAccessHeaders(t *testing.T) {
	_, server := serve(t, local, nil)
	for _, path := range []string{"/", "/style.css", "/script.js", "/nothing"} {
		for _, name := range []string{"localhost", "attacker.example"} {
			response, _ := get(t, server, path, host(name))
			h := response.Header
			require.Equal(t, "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
				h.Get("Content-Security-Policy"))
			require.Equal(t, []string{"nosniff", "no-referrer", "no-store", "same-origin"},
				[]string{h.Get("X-Content-Type-Options"), h.Get("Referrer-Policy"), h.Get("Cache-Control"), h.Get("Cross-Origin-Resource-Policy")})
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL, nil)
		require.NoError(t, err)
		response, err := server.Client().Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode, method)
	}
}
