package observe

import "github.com/prometheus/client_golang/prometheus"

// Describe sends the descriptors of all metrics, those without a series yet
// included, for checks of what is written about them.
func (m *Metrics) Describe(descs chan<- *prometheus.Desc) { m.registry.Describe(descs) }
