package observe

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestTargetMetrics(t *testing.T) {
	targets := NewTargets("test")
	a, b := targets.Add("a"), targets.Add("b")
	a.Leading(true)
	b.Leading(false)
	targets.Up("a")
	targets.Down("b", true)
	problems, err := testutil.GatherAndLint(targets.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	families, err := targets.registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				if label.GetName() == "target" {
					name += " " + label.GetValue()
				}
			}
			values[name] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"provwatch_leader a": 1, "provwatch_leader b": 0, "provwatch_build_info": 1,
		"provwatch_target_up a": 1, "provwatch_target_up b": 0,
		"provwatch_target_failures_total a": 0, "provwatch_target_failures_total b": 1,
	} {
		require.Contains(t, values, name)
		require.Equal(t, want, values[name], name)
	}
	require.NotContains(t, values, "go_goroutines a")
	require.Contains(t, values, "go_goroutines")

	alone, err := NewMetrics("test").registry.Gather()
	require.NoError(t, err)
	for _, family := range alone {
		require.NotContains(t, family.GetName(), "provwatch_target")
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				require.NotEqual(t, "target", label.GetName(), family.GetName())
			}
		}
	}
}
