//go:build e2e

package test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/porttest"
)

// testStatusPageOfManyTargets has one target that is watched, one whose database
// takes connections and says nothing, one whose database does not run, and one of which not even the database's URL
// can be read.
func testStatusPageOfManyTargets(t *testing.T) {
	t.Parallel()
	w := newOwnerWorld(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	_, down, err := net.SplitHostPort(porttest.Unused(t))
	require.NoError(t, err)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "good.env"), "CODER_AIBRIDGE_OPENAI_KEY="+w.secret(openAIKey)+"\n")
	file := writeFile(t, filepath.Join(dir, "provwatch.yaml"), fmt.Sprintf(`
targets:
  - {name: good, env_file: good.env, database_url_env: GOOD_URL, resync: 1h}
  - {name: silent, env_prefix: SILENT_, database: "host=127.0.0.1 port=%d dbname=x sslmode=disable"}
  - {name: down, env_prefix: SILENT_, database: "host=127.0.0.1 port=%s dbname=y sslmode=disable"}
  - {name: unread, env_prefix: UNREAD_, database_url_file: unread.url}
`, silent.Addr().(*net.TCPAddr).Port, down))
	token := w.secret("token-0123456789-abcdefghij")
	p := w.start(environ{"DATABASE_URL": "", "PROVWATCH_SOURCE": "notify", "GOOD_URL": w.url, "SILENT_OPENAI_KEY": w.secret("sk-silent-0123456789")},
		"run", "--config="+file, "--connect-timeout=1h", "--http-addr=0.0.0.0:0", "--debug", "--http-token-file="+w.file("token", token))
	p.waitFor("msg=ready", "target=good")
	p.waitFor("the target has failed", "target=unread")
	p.waitFor("database not reachable yet", "target=down")
	for _, path := range []string{"/", "/events", "/targets/good/", "/targets/good/events", "/targets/nothing/", "/debug/pprof/", "/debug/pprof/cmdline"} {
		code, _ := p.get(path)
		require.Equal(t, http.StatusUnauthorized, code, path)
	}
	look := func(path string, want int) string {
		t.Helper()
		code, body := p.getWithToken(path, token)
		require.Equal(t, want, code, path)
		return body
	}
	eventually(t, func() bool { return strings.Contains(look("/", 200), "leads, source notify") }, "it leads")
	body := look("/", 200)
	for _, says := range []string{
		"Targets not ready: 2 of 4. Providers drifted or soft-deleted: 0.", `href="targets/good/"`, "<dd>1, none drifting</dd>", "starting", "unread.url: no such file",
		"booting: cannot connect to PostgreSQL at 127.0.0.1:",
	} {
		require.Contains(t, body, says)
	}
	require.Less(t, strings.Index(body, `href="targets/unread/"`), strings.Index(body, `href="targets/silent/"`))
	require.Less(t, strings.Index(body, `href="targets/down/"`), strings.Index(body, `href="targets/silent/"`))
	_, readiness := p.get("/readyz")
	require.Contains(t, readiness, "target silent: booting\n")
	require.Regexp(t, `target down: booting: cannot connect to PostgreSQL at 127.0.0.1:\d+/y: .*connection refused`, readiness)
	require.Contains(t, look("/targets/down/", 503), "booting: cannot connect to PostgreSQL at 127.0.0.1:")
	require.Less(t, strings.Index(body, `href="targets/silent/"`), strings.Index(body, `href="targets/good/"`))

	// What changes is told on the overview and on the target's own page.
	streams := map[string]*bufio.Scanner{}
	for _, path := range []string{"/events", "/targets/good/events"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.httpAddress()+path, nil)
		require.NoError(t, err)
		request.SetBasicAuth("anybody", token)
		response, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		require.NoError(t, err)
		t.Cleanup(func() { _ = response.Body.Close() })
		require.Equal(t, http.StatusOK, response.StatusCode)
		streams[path] = bufio.NewScanner(response.Body)
	}
	w.exec(`UPDATE ai_providers SET base_url = 'https://elsewhere.example/'`)
	for path, lines := range streams {
		for lines.Scan() && !strings.Contains(lines.Text(), "alerts") {
		}
		require.Contains(t, lines.Text(), "alerts", path)
	}
	eventually(t, func() bool { return strings.Contains(look("/", 200), "<dd>1, of them 1 changed</dd>") }, "the drift is on the overview")
	require.Empty(t, w.statusSessions(), "nobody has looked at a database yet")

	// While the page of a database waits that says nothing, the others do not.
	waits := make(chan int)
	go func() {
		request, _ := http.NewRequest(http.MethodGet, "http://"+p.httpAddress()+"/targets/silent/", nil)
		request.SetBasicAuth("anybody", token)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			waits <- 0
			return
		}
		_ = response.Body.Close()
		waits <- response.StatusCode
	}()
	require.Contains(t, look("/targets/good/", 200), "https://elsewhere.example/")
	require.Len(t, w.statusSessions(), 1)
	body = look("/targets/unread/", http.StatusServiceUnavailable)
	require.Contains(t, body, "as long as the target cannot be opened")
	require.Contains(t, body, "unread.url: no such file")
	require.Contains(t, look("/targets/nothing/", http.StatusNotFound), "no target of this name")
	look("/", 200)
	p.stop()
	require.Equal(t, http.StatusServiceUnavailable, <-waits)
}
