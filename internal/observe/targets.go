package observe

import "github.com/prometheus/client_golang/prometheus"

// Targets are the metrics of a worker that watches several databases: those of
// each, told apart by the label target, and once those of the process.
type Targets struct {
	registry *prometheus.Registry
	up       *prometheus.GaugeVec
	failures *prometheus.CounterVec
}

// NewTargets returns the metrics of a process, without any target.
func NewTargets(version string) *Targets {
	t := &Targets{
		registry: newRegistry(version),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "provwatch", Name: "target_up",
			Help: "Whether the worker has booted and watches the target (1) or not (0).",
		}, []string{"target"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "provwatch", Name: "target_failures_total",
			Help: "Failures of a target's boot or watch; the worker retries each.",
		}, []string{"target"}),
	}
	t.registry.MustRegister(t.up, t.failures)
	return t
}

// Add returns the metrics of a target, whose name is not that of another.
func (t *Targets) Add(target string) *Metrics {
	t.up.WithLabelValues(target)
	t.failures.WithLabelValues(target)
	return newMetrics(t.registry, prometheus.WrapRegistererWith(prometheus.Labels{"target": target}, t.registry))
}

// Up records that a target is watched.
func (t *Targets) Up(target string) { t.up.WithLabelValues(target).Set(1) }

// Down records that a target is not watched, after a failure or because it stops.
func (t *Targets) Down(target string, failed bool) {
	t.up.WithLabelValues(target).Set(0)
	if failed {
		t.failures.WithLabelValues(target).Inc()
	}
}

// Exposed is what /metrics can serve: [Metrics] or [Targets].
type Exposed interface{ exposed() *prometheus.Registry }

func (m *Metrics) exposed() *prometheus.Registry { return m.registry }
func (t *Targets) exposed() *prometheus.Registry { return t.registry }
