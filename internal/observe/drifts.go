package observe

import (
	"cmp"
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
	drift, omitted, silenced, silencedCount, pendingCount *prometheus.Desc

	mu       sync.Mutex
	leading  bool
	drifting map[string]drift.Kind
	pending  map[string]drift.Kind // the providers whose drift is not alerted yet
	silences map[string]bool       // the providers that drift and are silenced
}

func newProviderDrifts() *providerDrifts {
	return &providerDrifts{
		drift: prometheus.NewDesc("provwatch_provider_drift",
			"1 for each provider that drifts now, by kind, and 0 while its drift is pending: at most 100, the first by name, silenced and pending ones last, and only while leading.", []string{"provider", "kind"}, nil),
		omitted: prometheus.NewDesc("provwatch_provider_drift_omitted",
			"Providers that drift now, are not silenced, and have no series of their own.", nil, nil),
		silenced: prometheus.NewDesc("provwatch_provider_silenced",
			"1 for each provider of provwatch_provider_drift whose alerts are silenced now.", []string{"provider", "kind"}, nil),
		silencedCount: prometheus.NewDesc("provwatch_silenced_providers",
			"Providers that drift now and whose alerts are silenced, while leading.", nil, nil),
		pendingCount: prometheus.NewDesc("provwatch_pending_providers",
			"Providers whose drift is pending, so not alerted yet, while leading.", nil, nil),
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

// pend replaces the providers whose drift is pending. The map is not changed any more.
func (p *providerDrifts) pend(pending map[string]drift.Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = pending
}

// silence replaces the providers that drift and are silenced. The map is not changed any more.
func (p *providerDrifts) silence(silenced map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silences = silenced
}

// collected returns the providers to collect: none where this worker does not lead.
func (p *providerDrifts) collected() (drifting, pending map[string]drift.Kind, silenced map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leading {
		return nil, nil, nil
	}
	return p.drifting, p.pending, p.silences
}

// Describe implements [prometheus.Collector].
func (p *providerDrifts) Describe(descriptions chan<- *prometheus.Desc) {
	for _, description := range []*prometheus.Desc{p.drift, p.omitted, p.silenced, p.silencedCount, p.pendingCount} {
		descriptions <- description
	}
}

// Collect implements [prometheus.Collector].
func (p *providerDrifts) Collect(metrics chan<- prometheus.Metric) {
	drifting, pending, silenced := p.collected()
	count := 0 // of silenced ones
	names := slices.SortedFunc(maps.Keys(drifting), func(a, b string) int {
		switch {
		case silenced[a] == silenced[b]:
			return cmp.Compare(a, b)
		case silenced[a]:
			return 1
		default:
			return -1
		}
	})
	for i, name := range names {
		if silenced[name] {
			count++
		}
		if i >= maxDriftSeries {
			continue
		}
		kind := string(drifting[name])
		metrics <- prometheus.MustNewConstMetric(p.drift, prometheus.GaugeValue, 1, name, kind)
		if silenced[name] {
			metrics <- prometheus.MustNewConstMetric(p.silenced, prometheus.GaugeValue, 1, name, kind)
		}
	}
	room := max(maxDriftSeries-len(names), 0)
	for i, name := range slices.Sorted(maps.Keys(pending)) {
		if i < room {
			metrics <- prometheus.MustNewConstMetric(p.drift, prometheus.GaugeValue, 0, name, string(pending[name]))
		}
	}
	metrics <- prometheus.MustNewConstMetric(p.omitted, prometheus.GaugeValue, float64(max(len(names)-count-maxDriftSeries, 0)))
	metrics <- prometheus.MustNewConstMetric(p.silencedCount, prometheus.GaugeValue, float64(count))
	metrics <- prometheus.MustNewConstMetric(p.pendingCount, prometheus.GaugeValue, float64(len(pending)))
}
