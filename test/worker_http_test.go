//go:build e2e

package test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

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
	return p.getWithToken(path, "")
}

// headerLimit is how long the worker waits for the request of a client that has connected.
const headerLimit = 5 * time.Second

// getWithToken fetches a page of the worker that asks for a token.
func (p *worker) getWithToken(path, token string) (code int, body string) {
	p.w.t.Helper()
	request, err := http.NewRequestWithContext(p.w.t.Context(), http.MethodGet, "http://"+p.httpAddress()+path, nil)
	require.NoError(p.w.t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	began := time.Now()
	response, err := client.Do(request)
	for errors.Is(err, io.EOF) && time.Since(began) >= headerLimit && !p.hasEnded() {
		// Between the connection and the request, this process stood still for too long.
		p.w.t.Logf("asked for %s again after %s: %v", path, time.Since(began), err)
		began = time.Now()
		response, err = client.Do(request)
	}
	require.NoError(p.w.t, err, "after %s; the worker has ended: %t", time.Since(began), p.hasEnded())
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	require.NoError(p.w.t, err)
	p.w.emit(string(content))
	return response.StatusCode, string(content)
}

// hasEnded reports whether the process of the worker has ended.
func (p *worker) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
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

// series returns all series of the worker, as in the exposition format; of a
// histogram the count alone.
func (p *worker) series() map[string]float64 {
	p.w.t.Helper()
	status, body := p.get("/metrics")
	require.Equal(p.w.t, http.StatusOK, status)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(p.w.t, err)
	series := map[string]float64{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, label := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
			}
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case m.GetHistogram() != nil:
				series[key] = float64(m.GetHistogram().GetSampleCount())
			case m.GetCounter() != nil:
				series[key] = m.GetCounter().GetValue()
			default:
				series[key] = m.GetGauge().GetValue()
			}
		}
	}
	return series
}
