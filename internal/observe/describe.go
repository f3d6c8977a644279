package observe

import "github.com/prometheus/client_golang/prometheus"

// Describe sends the descriptors of all metrics, those without a series yet
// included, for checks of what is written about them.
func (m *Metrics) Describe(descs chan<- *prometheus.Desc) { m.registry.Describe(descs) }

// Describe sends the descriptors of the metrics of targets themselves, and of the
// process.
func (t *Targets) Describe(descs chan<- *prometheus.Desc) { t.registry.Describe(descs) }
