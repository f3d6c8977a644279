package observe

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
)

// descPattern takes a descriptor's string apart, the one way to its parts.
var descPattern = regexp.MustCompile(`^Desc\{fqName: "(provwatch_[^"]*)", .*, constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// registered returns the labels of every metric of our own, by name.
func registered(t *testing.T, m *Metrics) map[string]string {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		m.registry.Describe(descs)
	}()
	labels := map[string]string{}
	for d := range descs {
		if parts := descPattern.FindStringSubmatch(d.String()); parts != nil {
			constant, _, _ := strings.Cut(parts[2], "=")
			labels[parts[1]] = strings.ReplaceAll(constant+parts[3], ",", ", ")
		}
	}
	require.Greater(t, len(labels), 10)
	return labels
}

func TestMetrics(t *testing.T) {
	t.Run("README", testMetricsREADME)
	t.Run("Conventions", testMetricsConventions)
	t.Run("Counts", testMetricsCounts)
	t.Run("ProviderDrifts", testMetricsProviderDrifts)
}

// testMetricsProviderDrifts has more providers drift than have a series of their own.
func testMetricsProviderDrifts(t *testing.T) {
	m := NewMetrics("test")
	drifting := map[string]drift.Kind{}
	for i := range maxDriftSeries + 3 {
		drifting[fmt.Sprintf("p-%03d", i)] = drift.Changed
	}
	m.DriftsObserved(drifting)
	require.Equal(t, 3, testutil.CollectAndCount(m.byProvider), "a standby has no series of a provider")
	m.Leading(true)
	require.Equal(t, maxDriftSeries+3, testutil.CollectAndCount(m.byProvider))
	m.DriftsObserved(map[string]drift.Kind{"b": drift.Disabled, "a": drift.Missing})
	require.NoError(t, testutil.CollectAndCompare(m.byProvider, strings.NewReader(`
# HELP provwatch_pending_providers Providers whose drift is pending, so not alerted yet, while leading.
# TYPE provwatch_pending_providers gauge
provwatch_pending_providers 0
# HELP provwatch_provider_drift 1 for each provider that drifts now, by kind, and 0 while its drift is pending: at most 100, the first by name, silenced and pending ones last, and only while leading.
# TYPE provwatch_provider_drift gauge
provwatch_provider_drift{kind="disabled",provider="b"} 1
provwatch_provider_drift{kind="missing",provider="a"} 1
# HELP provwatch_provider_drift_omitted Providers that drift now, are not silenced, and have no series of their own.
# TYPE provwatch_provider_drift_omitted gauge
provwatch_provider_drift_omitted 0
# HELP provwatch_silenced_providers Providers that drift now and whose alerts are silenced, while leading.
# TYPE provwatch_silenced_providers gauge
provwatch_silenced_providers 0
`)))
	m.SilencedObserved(map[string]bool{"a": true})
	require.NoError(t, testutil.CollectAndCompare(m.byProvider, strings.NewReader(`
# HELP provwatch_provider_silenced 1 for each provider of provwatch_provider_drift whose alerts are silenced now.
# TYPE provwatch_provider_silenced gauge
provwatch_provider_silenced{kind="missing",provider="a"} 1
# HELP provwatch_silenced_providers Providers that drift now and whose alerts are silenced, while leading.
# TYPE provwatch_silenced_providers gauge
provwatch_silenced_providers 1
`), "provwatch_provider_silenced", "provwatch_silenced_providers"))
	m.SilencedObserved(nil)
	m.DriftsObserved(drifting)
	// There is no room for a series of a pending one, which is counted all the same.
	m.PendingObserved(map[string]drift.Kind{"z-1": drift.Disabled, "z-2": drift.Unmanaged})
	require.Equal(t, maxDriftSeries+3, testutil.CollectAndCount(m.byProvider))
	require.NoError(t, testutil.CollectAndCompare(m.byProvider, strings.NewReader(`
# HELP provwatch_pending_providers Providers whose drift is pending, so not alerted yet, while leading.
# TYPE provwatch_pending_providers gauge
provwatch_pending_providers 2
`), "provwatch_pending_providers"))
	m.PendingObserved(nil)
	require.NoError(t, testutil.CollectAndCompare(m.byProvider, strings.NewReader(`
# HELP provwatch_provider_drift_omitted Providers that drift now, are not silenced, and have no series of their own.
# TYPE provwatch_provider_drift_omitted gauge
provwatch_provider_drift_omitted 3
`), "provwatch_provider_drift_omitted"))
	// Silenced ones give their series to the others, and are not counted as left out.
	silenced := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(drifting))[:4] {
		silenced[name] = true
	}
	m.SilencedObserved(silenced)
	require.NoError(t, testutil.CollectAndCompare(m.byProvider, strings.NewReader(`
# HELP provwatch_provider_drift_omitted Providers that drift now, are not silenced, and have no series of their own.
# TYPE provwatch_provider_drift_omitted gauge
provwatch_provider_drift_omitted 0
# HELP provwatch_silenced_providers Providers that drift now and whose alerts are silenced, while leading.
# TYPE provwatch_silenced_providers gauge
provwatch_silenced_providers 4
`), "provwatch_provider_drift_omitted", "provwatch_silenced_providers"))
	require.Equal(t, maxDriftSeries+1+3, testutil.CollectAndCount(m.byProvider), "one of the four has room")
	m.Leading(false)
	require.Equal(t, 3, testutil.CollectAndCount(m.byProvider))
}

func testMetricsREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## Metrics\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| \\w+ \\|([^|]*)\\| .* \\|$").FindAllStringSubmatch(section, -1) {
		require.NotContains(t, documented, row[1], "twice in the table")
		documented[row[1]] = strings.TrimSpace(strings.ReplaceAll(row[2], "`", ""))
	}
	require.Equal(t, registered(t, NewMetrics("test")), documented)
}

func testMetricsConventions(t *testing.T) {
	m := NewMetrics("test")
	m.Seeded(drift.Plan{Steps: []drift.Step{{Action: drift.ActionInsert}}})
	m.Verified(verify.Full, time.Millisecond, nil)
	m.Verified(verify.Hinted, time.Millisecond, errors.New("x"))
	m.AlertPublished(drift.Changed, pubsub.SourceNotify)
	m.Leading(true)
	m.DriftsObserved(map[string]drift.Kind{"a": drift.Changed})
	m.OutboxObserved(audit.Outbox{Depth: 1, Oldest: time.Now()})
	m.EntriesDelivered(1)
	m.NotificationReceived(true)
	m.ListenerConnected(true)
	problems, err := testutil.GatherAndLint(m.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func testMetricsCounts(t *testing.T) {
	m := NewMetrics("test")
	value := testutil.ToFloat64

	m.Seeded(drift.Plan{Steps: []drift.Step{{Action: drift.ActionInsert}, {Action: drift.ActionInsert}, {Action: drift.ActionUnchanged}}})
	require.Equal(t, 2.0, value(m.seedProviders.WithLabelValues("insert")))
	require.Equal(t, 0.0, value(m.seedProviders.WithLabelValues("drift")), "a series is there before its first event")

	m.DriftsObserved(map[string]drift.Kind{"a": drift.Missing, "b": drift.Missing})
	m.DriftsObserved(map[string]drift.Kind{"a": drift.Changed})
	require.Equal(t, 0.0, value(m.drifts.WithLabelValues("missing")))
	require.Equal(t, 1.0, value(m.drifts.WithLabelValues("changed")))

	m.Verified(verify.Full, time.Second, errors.New("x"))
	require.Equal(t, 1.0, value(m.verifyErrors.WithLabelValues("full")))
	require.Zero(t, testutil.CollectAndCount(m.lastVerified), "a failure is no success")
	began := time.Now().Unix()
	m.Verified(verify.Full, time.Second, nil)
	verified := value(m.lastVerified.WithLabelValues("full"))
	require.LessOrEqual(t, float64(began), verified)
	require.LessOrEqual(t, verified, float64(time.Now().Unix()+1))

	m.NotificationReceived(false)
	m.NotificationReceived(true)
	require.Equal(t, 2.0, value(m.notifications))
	require.Equal(t, 1.0, value(m.coalesced))

	m.ListenerConnected(false)
	m.ListenerLost()
	require.Equal(t, 0.0, value(m.listening))
	m.ListenerConnected(true)
	require.Equal(t, 1.0, value(m.listening))
	require.Equal(t, 1.0, value(m.reconnects))

	require.Equal(t, 0.0, m.outboxOldestAge())
	oldest := time.Now().Add(-time.Hour)
	m.OutboxObserved(audit.Outbox{Depth: 2, Oldest: oldest})
	require.Equal(t, 2.0, value(m.outboxDepth))
	age := m.outboxOldestAge()
	require.LessOrEqual(t, 3600.0, age)
	require.LessOrEqual(t, age, time.Since(oldest).Seconds())
	m.OutboxObserved(audit.Outbox{})
	require.Equal(t, 0.0, m.outboxOldestAge())
	m.EntriesDelivered(5)
	require.Equal(t, 5.0, value(m.delivered))
}
