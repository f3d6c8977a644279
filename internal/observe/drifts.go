package observe

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"provwatch/internal/drift"
)

// maxDriftSeries bounds the providers that have a series of their own.
const maxDriftSeries = 100

// providerDrifts are the metrics of each provider that drifts. Only a leader has them, since
// only its count is current. Verifications replace what Prometheus collects, under mu.
type providerDrifts struct {
	drift, omitted *prometheus.Desc

	mu       sync.Mutex
	leading  bool
	drifting map[string]drift.Kind
}

func newProviderDrifts() *providerDrifts {
	return &providerDrifts{
		drift: prometheus.NewDesc("provwatch_provider_drift",
			"1 for each provider that drifts now, by kind: at most 100, the first by name, and only while leading.", []string{"provider", "kind"}, nil),
		omitted: prometheus.NewDesc("provwatch_provider_drift_omitted",
			"Providers that drift now and have no series of their own.", nil, nil),
	}
}

// lead records whether this worker leads.
func (p *providerDrifts) lead(leading bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leading = leading
}

// set replaces the providers that drift. The map is not changed any more.
func (p *providerDrifts) set(drifting map[string]drift.Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drifting = drifting
}

// Describe implements [prometheus.Collector].
func (p *providerDrifts) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- p.drift
	descriptions <- p.omitted
}

// Collect implements [prometheus.Collector].
func (p *providerDrifts) Collect(metrics chan<- prometheus.Metric) {
	p.mu.Lock()
	drifting := p.drifting
	if !p.leading {
		drifting = nil
	}
	p.mu.Unlock()
	names := slices.Sorted(maps.Keys(drifting))
	shown := names[:min(len(names), maxDriftSeries)]
	for _, name := range shown {
		metrics <- prometheus.MustNewConstMetric(p.drift, prometheus.GaugeValue, 1, name, string(drifting[name]))
	}
	metrics <- prometheus.MustNewConstMetric(p.omitted, prometheus.GaugeValue, float64(len(names)-len(shown)))
}
