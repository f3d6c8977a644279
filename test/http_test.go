//go:build e2e

package test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

var addressPattern = regexp.MustCompile(`msg="serving HTTP" address=(\S+)`)

// httpAddress returns the address that the worker serves HTTP on.
func (p *worker) httpAddress() string {
	p.w.t.Helper()
	p.waitFor(`msg="serving HTTP"`)
	return addressPattern.FindStringSubmatch(strings.Join(p.lines(), "\n"))[1]
}

// get fetches a page of the worker.
func (p *worker) get(path string) (status int, body string) {
	p.w.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + p.httpAddress() + path)
	require.NoError(p.w.t, err)
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	require.NoError(p.w.t, err)
	p.w.emit(string(content))
	return response.StatusCode, string(content)
}

// metric returns the sum of all series of a metric.
func (p *worker) metric(name string) float64 {
	p.w.t.Helper()
	status, body := p.get("/metrics")
	require.Equal(p.w.t, http.StatusOK, status)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(p.w.t, err)
	base, isCount := strings.CutSuffix(name, "_count")
	family := families[name]
	if family == nil && isCount {
		family = families[base]
	}
	require.NotNil(p.w.t, family, "metric %s", name)
	sum := 0.0
	for _, m := range family.GetMetric() {
		switch {
		case m.GetHistogram() != nil:
			sum += float64(m.GetHistogram().GetSampleCount())
		case m.GetCounter() != nil:
			sum += m.GetCounter().GetValue()
		default:
			sum += m.GetGauge().GetValue()
		}
	}
	return sum
}

// file writes a file into a folder of the test.
func (w *world) file(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), name)
	w.rewrite(path, content)
	return path
}

func (w *world) rewrite(path, content string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(path, []byte(content), 0o600))
}
