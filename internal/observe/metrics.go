// Package observe shows the worker to its operators over HTTP: Prometheus
// metrics, liveness and readiness.
package observe

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/retention"
	"provwatch/internal/verify"
	"provwatch/internal/wal"
)

// Metrics are the worker's metrics. They hold no value of a provider, and name at most
// [maxDriftSeries] of them, so that their number is bounded.
type Metrics struct {
	registry *prometheus.Registry

	providers     prometheus.Gauge
	reloadOK      prometheus.Gauge
	reloadOKTime  prometheus.Gauge
	seedProviders *prometheus.CounterVec
	drifts        *prometheus.GaugeVec
	byProvider    *providerDrifts
	notComparable prometheus.Gauge
	unmanaged     prometheus.Gauge
	alerts        *prometheus.CounterVec
	passed        prometheus.Counter
	lastGap       *prometheus.GaugeVec
	verifyTime    *prometheus.HistogramVec
	verifyErrors  *prometheus.CounterVec
	lastVerified  *prometheus.GaugeVec
	notifications prometheus.Counter
	coalesced     prometheus.Counter
	reconnects    prometheus.Counter
	listening     prometheus.Gauge
	notifyQueue   prometheus.Gauge
	outboxDepth   prometheus.Gauge
	outboxOldest  atomic.Pointer[time.Time]
	delivered     prometheus.Counter
	leader        prometheus.Gauge
	observing     prometheus.Gauge
	older         prometheus.Gauge
	source        *prometheus.GaugeVec
	slotRetained  prometheus.Gauge
	slotStatus    *prometheus.GaugeVec
	transactions  prometheus.Counter

	sinkDelivered   *prometheus.CounterVec
	sinkFailures    *prometheus.CounterVec
	sinkDeadLetters *prometheus.CounterVec
	sinkGaps        *prometheus.CounterVec
	sinkLag         *prometheus.GaugeVec

	rowsPruned *prometheus.CounterVec
}

// NewMetrics returns metrics in a registry of their own, together with those of
// the Go runtime and the process.
func NewMetrics(version string) *Metrics {
	registry := newRegistry(version)
	return newMetrics(registry, registry)
}

// newRegistry returns a registry of what there is once in a process.
func newRegistry(version string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "provwatch", Name: "build_info", Help: "Always 1; the version is a label.",
			ConstLabels: prometheus.Labels{"version": version},
		}, func() float64 { return 1 }),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}

func newMetrics(registry *prometheus.Registry, in prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "provwatch", Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "provwatch", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "provwatch", Name: name, Help: help})
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "provwatch", Name: name, Help: help}, labels)
	}

	m := &Metrics{
		registry: registry,

		providers: gauge("providers", "Watched providers: the providers of the environment whose type the database has."),
		reloadOK: gauge("last_reload_successful",
			"Whether the environment last read, at the start or by a reload, is in use (1) or was refused (0)."),
		reloadOKTime:  gauge("last_reload_success_timestamp_seconds", "When the environment in use was read, as Unix time."),
		seedProviders: counters("seed_providers_total", "Providers that seeds checked, by action.", "action"),
		drifts:        gauges("drift_providers", "Providers that drift now, by kind.", "kind"),
		byProvider:    newProviderDrifts(),
		notComparable: gauge("not_comparable_providers", "Providers that cannot be compared now: their rows cannot be decoded or decrypted."),
		unmanaged:     gauge("unmanaged_providers", "Enabled, live rows that the environment does not name, alerted or not; 0 with --unmanaged=ignore, and while not leading."),
		alerts:        counters("drift_alerts_total", "Drift alerts published, by kind and by source of the verification.", "kind", "source"),
		passed:        counter("unalerted_drifts_total", "Drifts that ended before they had lasted for --alert-after, and were not alerted."),
		lastGap: gauges("last_gap_timestamp_seconds",
			"When changes were last possibly missed (gap), or the sequence of alerts was last rewound (rewound), as Unix time; 0 for never, and while not leading.", "kind"),
		verifyTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "provwatch", Name: "verification_duration_seconds",
			Help:    "Duration of verifications, by scope.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"scope"}),
		verifyErrors:  counters("verification_errors_total", "Failed verifications, by scope; the worker retries each.", "scope"),
		lastVerified:  gauges("last_verification_timestamp_seconds", "When the last verification succeeded, as Unix time, by scope.", "scope"),
		notifications: counter("notifications_received_total", "Notifications received on ai_providers_changed."),
		coalesced:     counter("notifications_coalesced_total", "Notifications that joined a verification already waiting."),
		reconnects:    counter("listener_reconnects_total", "Reconnects of the listening connection."),
		listening:     gauge("listener_connected", "Whether LISTEN is in effect (1) or not (0)."),
		notifyQueue:   gauge("notify_queue_usage_ratio", "How full the server's queue of notifications is, from 0 to 1, at the last check."),
		outboxDepth:   gauge("audit_outbox_entries", "Audit entries that wait for delivery, at the last check."),
		delivered:     counter("audit_delivered_entries_total", "Audit entries delivered."),
		leader:        gauge("leader", "Whether this worker leads and publishes alerts (1) or stands by (0)."),
		observing:     gauge("observing", "Whether this worker observes (1): it writes nothing to the provider tables, and does not seed (--observe)."),
		older:         gauge("environment_older", "Whether another worker has a newer environment (1): this worker seeds, alerts and applies nothing, and does not lead."),
		source:        gauges("source", "The source of alerts: 1 for the source in use, while leading.", "source"),
		slotRetained:  gauge("slot_retained_bytes", "Bytes of WAL that the replication slot retains, at the last check."),
		slotStatus:    gauges("slot_wal_status", "The replication slot's wal_status: 1 for the current status, at the last check.", "status"),
		transactions:  counter("wal_transactions_total", "WAL transactions processed."),

		sinkDelivered:   counters("sink_delivered_total", "Events that a sink acknowledged.", "sink", "stream"),
		sinkFailures:    counters("sink_failures_total", "Failed deliveries to a sink.", "sink", "stream"),
		sinkDeadLetters: counters("sink_dead_letters_total", "Events that became dead letters, since the sink refused them or retries ran out of time.", "sink", "stream"),
		sinkGaps:        counters("sink_gaps_total", "Times that events were deleted before their delivery to a sink.", "sink", "stream"),
		sinkLag:         gauges("sink_lag_events", "Events that a sink has not acknowledged yet, at the last check, while leading.", "sink", "stream"),

		rowsPruned: counters("pruned_rows_total", "Rows deleted since they were older than --keep, by table.", "table"),
	}
	in.MustRegister(
		m.providers, m.reloadOK, m.reloadOKTime,
		m.seedProviders, m.drifts, m.byProvider, m.notComparable, m.unmanaged, m.alerts, m.passed, m.lastGap, m.verifyTime, m.verifyErrors, m.lastVerified,
		m.notifications, m.coalesced, m.reconnects, m.listening, m.notifyQueue, m.outboxDepth, m.delivered,
		m.leader, m.observing, m.older, m.source, m.slotRetained, m.slotStatus, m.transactions,
		m.sinkDelivered, m.sinkFailures, m.sinkDeadLetters, m.sinkGaps, m.sinkLag, m.rowsPruned,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "provwatch", Name: "audit_outbox_oldest_age_seconds",
			Help: "Age of the oldest audit entry that waits for delivery; 0 when no entry waits.",
		}, m.outboxOldestAge),
	)
	// A series that appears only with its first event hides that event from
	// rate() and increase().
	for _, kind := range driftKinds {
		m.drifts.WithLabelValues(string(kind))
	}
	for _, action := range []drift.Action{
		drift.ActionInsert, drift.ActionUnchanged, drift.ActionAccepted, drift.ActionDrifted, drift.ActionNotComparable, drift.ActionStickyDeleted, drift.ActionUnsupported,
	} {
		m.seedProviders.WithLabelValues(string(action))
	}
	for _, kind := range append(driftKinds, drift.Resolved) {
		for _, source := range []pubsub.Source{pubsub.SourceBoot, pubsub.SourceNotify, pubsub.SourceResync, pubsub.SourceReload, pubsub.SourceWAL} {
			m.alerts.WithLabelValues(string(kind), string(source))
		}
	}
	for _, kind := range driftKinds {
		m.alerts.WithLabelValues(string(kind), string(pubsub.SourceSilence))
	}
	for _, source := range []pubsub.Source{pubsub.SourceNotify, pubsub.SourceWAL} {
		m.alerts.WithLabelValues(string(drift.Gap), string(source))
	}
	for _, source := range []pubsub.Source{pubsub.SourceBoot, pubsub.SourceResync} {
		m.alerts.WithLabelValues(string(drift.Rewound), string(source))
	}
	m.noGaps()
	for _, table := range retention.Tables {
		m.rowsPruned.WithLabelValues(table)
	}
	m.SourceUsed("")
	for _, scope := range []verify.Scope{verify.Full, verify.Hinted} {
		m.verifyTime.WithLabelValues(string(scope))
		m.verifyErrors.WithLabelValues(string(scope))
	}
	return m
}

var driftKinds = []drift.Kind{drift.Missing, drift.Deleted, drift.Disabled, drift.Changed, drift.Unmanaged}

// Watching records how many providers are watched.
func (m *Metrics) Watching(providers int) { m.providers.Set(float64(providers)) }

// Loaded records whether the environment that was read is in use.
func (m *Metrics) Loaded(inUse bool) {
	if !inUse {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadOKTime.SetToCurrentTime()
}

// Seeded counts the steps of a seed.
func (m *Metrics) Seeded(plan drift.Plan) {
	for _, step := range plan.Steps {
		m.seedProviders.WithLabelValues(string(step.Action)).Inc()
	}
}

// Verified implements [verify.Metrics].
func (m *Metrics) Verified(scope verify.Scope, took time.Duration, err error) {
	m.verifyTime.WithLabelValues(string(scope)).Observe(took.Seconds())
	if err != nil {
		m.verifyErrors.WithLabelValues(string(scope)).Inc()
		return
	}
	m.lastVerified.WithLabelValues(string(scope)).SetToCurrentTime()
}

// AlertPublished implements [verify.Metrics].
func (m *Metrics) AlertPublished(kind drift.Kind, source pubsub.Source) {
	m.alerts.WithLabelValues(string(kind), string(source)).Inc()
}

// GapObserved implements [verify.Metrics].
func (m *Metrics) GapObserved(kind drift.Kind, at time.Time) {
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	m.lastGap.WithLabelValues(string(kind)).Set(float64(at.UnixMicro()) / 1e6)
}

// noGaps is for a worker that does not lead.
func (m *Metrics) noGaps() {
	for _, kind := range []drift.Kind{drift.Gap, drift.Rewound} {
		m.GapObserved(kind, time.Time{})
	}
}

// DriftsObserved implements [verify.Metrics].
func (m *Metrics) DriftsObserved(drifting map[string]drift.Kind) {
	m.byProvider.set(drifting)
	byKind := drift.Count(drifting)
	for _, kind := range driftKinds {
		m.drifts.WithLabelValues(string(kind)).Set(float64(byKind[kind]))
	}
}

// PendingObserved implements [verify.Metrics].
func (m *Metrics) PendingObserved(pending map[string]drift.Kind) { m.byProvider.pend(pending) }

// DriftPassed implements [verify.Metrics].
func (m *Metrics) DriftPassed() { m.passed.Inc() }

// SilencedObserved implements [verify.Metrics].
func (m *Metrics) SilencedObserved(silenced map[string]bool) { m.byProvider.silence(silenced) }

// NotComparableObserved implements [verify.Metrics].
func (m *Metrics) NotComparableObserved(reasons map[string]string) {
	m.notComparable.Set(float64(len(reasons)))
}

// UnmanagedObserved implements [verify.Metrics].
func (m *Metrics) UnmanagedObserved(rows int) { m.unmanaged.Set(float64(rows)) }

// OutboxObserved implements [audit.Metrics].
func (m *Metrics) OutboxObserved(outbox audit.Outbox) {
	m.outboxDepth.Set(float64(outbox.Depth))
	m.outboxOldest.Store(&outbox.Oldest)
}

// EntriesDelivered implements [audit.Metrics].
func (m *Metrics) EntriesDelivered(n int) { m.delivered.Add(float64(n)) }

func (m *Metrics) outboxOldestAge() float64 {
	oldest := m.outboxOldest.Load()
	if oldest == nil || oldest.IsZero() {
		return 0
	}
	return time.Since(*oldest).Seconds()
}

// NotificationReceived counts a notification, and whether it coalesced.
func (m *Metrics) NotificationReceived(coalesced bool) {
	m.notifications.Inc()
	if coalesced {
		m.NotificationCoalesced()
	}
}

// NotificationCoalesced counts that a notification has coalesced that was
// received before.
func (m *Metrics) NotificationCoalesced() { m.coalesced.Inc() }

// ListenerConnected records that LISTEN is in effect.
func (m *Metrics) ListenerConnected(reconnected bool) {
	m.listening.Set(1)
	if reconnected {
		m.reconnects.Inc()
	}
}

// NotifyQueue records how full the server's queue of notifications is, from 0 to
// 1.
func (m *Metrics) NotifyQueue(usage float64) { m.notifyQueue.Set(usage) }

// ListenerLost records that the listening connection is lost.
func (m *Metrics) ListenerLost() { m.listening.Set(0) }

// Leading records whether this worker is the leader.
func (m *Metrics) Leading(leads bool) {
	m.byProvider.lead(leads)
	if leads {
		m.leader.Set(1)
		return
	}
	m.leader.Set(0)
	m.SourceUsed("")
	// The leader's tell.
	m.sinkLag.Reset()
	m.unmanaged.Set(0)
	m.noGaps()
}

// Older records whether another worker has a newer environment.
func (m *Metrics) Older(older bool) {
	m.older.Set(0)
	if older {
		m.older.Set(1)
	}
}

// Observing records whether this worker observes.
func (m *Metrics) Observing(observes bool) {
	m.observing.Set(0)
	if observes {
		m.observing.Set(1)
	}
}

// SourceUsed records the source that alerts come from, empty for none.
func (m *Metrics) SourceUsed(source string) { setOne(m.source, source, "notify", "wal", "resync") }

// SlotObserved implements [wal.Metrics].
func (m *Metrics) SlotObserved(s wal.SlotStatus) {
	m.slotRetained.Set(float64(s.RetainedBytes))
	setOne(m.slotStatus, s.WALStatus, "reserved", "extended", "unreserved", "lost")
}

// TransactionsHandled implements [wal.Metrics].
func (m *Metrics) TransactionsHandled(n int) { m.transactions.Add(float64(n)) }

// RowsPruned implements [retention.Metrics].
func (m *Metrics) RowsPruned(table string, rows int64) {
	m.rowsPruned.WithLabelValues(table).Add(float64(rows))
}

// SinkConfigured implements [sink.Metrics].
func (m *Metrics) SinkConfigured(sink, stream string) {
	for _, counters := range []*prometheus.CounterVec{m.sinkDelivered, m.sinkFailures, m.sinkDeadLetters, m.sinkGaps} {
		counters.WithLabelValues(sink, stream)
	}
}

// SinkDelivered implements [sink.Metrics].
func (m *Metrics) SinkDelivered(sink, stream string) {
	m.sinkDelivered.WithLabelValues(sink, stream).Inc()
}

// SinkFailed implements [sink.Metrics].
func (m *Metrics) SinkFailed(sink, stream string) { m.sinkFailures.WithLabelValues(sink, stream).Inc() }

// SinkDeadLetter implements [sink.Metrics].
func (m *Metrics) SinkDeadLetter(sink, stream string) {
	m.sinkDeadLetters.WithLabelValues(sink, stream).Inc()
}

// SinkGap implements [sink.Metrics].
func (m *Metrics) SinkGap(sink, stream string) { m.sinkGaps.WithLabelValues(sink, stream).Inc() }

// SinkLag implements [sink.Metrics].
func (m *Metrics) SinkLag(sink, stream string, events int64) {
	m.sinkLag.WithLabelValues(sink, stream).Set(float64(events))
}

// setOne sets the series of one value to 1 and those of the others to 0.
func setOne(gauges *prometheus.GaugeVec, value string, all ...string) {
	for _, v := range all {
		gauges.WithLabelValues(v).Set(0)
	}
	if value != "" {
		gauges.WithLabelValues(value).Set(1)
	}
}
