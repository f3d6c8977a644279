package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	grafanaprometheus "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/require"

	"provwatch/internal/observe"
)

var promQL = parser.NewParser(parser.Options{})

// origin are the labels that a scrape adds, and with several targets the worker.
var origin = []string{"job", "instance", "pod", "target"}

// registered returns the labels of every metric that the worker registers.
func registered(t *testing.T) map[string][]string {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		observe.NewMetrics("test").Describe(descs)
		observe.NewTargets("test").Describe(descs)
	}()
	pattern := regexp.MustCompile(`^Desc\{fqName: "([^"]+)", .*, constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	metrics := map[string][]string{}
	for desc := range descs {
		if parts := pattern.FindStringSubmatch(desc.String()); parts != nil {
			labels := strings.Split(parts[3], ",")
			for _, constant := range regexp.MustCompile(`(\w+)=`).FindAllStringSubmatch(parts[2], -1) {
				labels = append(labels, constant[1])
			}
			metrics[parts[1]] = slices.DeleteFunc(labels, func(l string) bool { return l == "" })
		}
	}
	require.Equal(t, []string{"kind", "source"}, metrics["provwatch_drift_alerts_total"])
	require.Equal(t, []string{"version"}, metrics["provwatch_build_info"])
	return metrics
}

// problems returns the metrics and labels of an expression that no worker has;
// shown are labels that a text about its result names.
func problems(t *testing.T, metrics map[string][]string, expression string, shown ...string) (list []string) {
	t.Helper()
	expression = strings.ReplaceAll(expression, "$__rate_interval", "5m") // Grafana's
	tree, err := promQL.ParseExpr(expression)
	require.NoError(t, err, expression)
	available := slices.Clone(origin)
	used := slices.Clone(shown)
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			labels, known := metrics[n.Name]
			if base, ok := strings.CutSuffix(n.Name, "_bucket"); ok && !known {
				labels, known = metrics[base]
				labels = append(slices.Clone(labels), "le")
			}
			if base, ok := strings.CutSuffix(n.Name, "_count"); ok && !known {
				labels, known = metrics[base]
			}
			if !known {
				list = append(list, "metric "+n.Name)
			}
			available = append(available, labels...)
			for _, matcher := range n.LabelMatchers {
				if matcher.Name != "__name__" && !slices.Contains(append(labels, origin...), matcher.Name) {
					list = append(list, "label "+matcher.Name+" of "+n.Name)
				}
			}
		case *parser.AggregateExpr:
			used = append(used, n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				used = append(used, n.VectorMatching.MatchingLabels...)
				used = append(used, n.VectorMatching.Include...)
			}
		}
		return nil
	})
	for _, label := range used {
		if !slices.Contains(available, label) {
			list = append(list, "label "+label)
		}
	}
	return list
}

// TestUnknownMetrics checks that metrics and labels that do not exist are found.
func TestUnknownMetrics(t *testing.T) {
	metrics := registered(t)
	for expression, want := range map[string][]string{
		`provwatch_leader == 1`: nil,
		`sum by (le) (rate(provwatch_verification_duration_seconds_bucket[$__rate_interval]))`: nil,
		`provwatch_leaders == 1`:           {"metric provwatch_leaders"},
		`provwatch_leader{kind="x"}`:       {"label kind of provwatch_leader"},
		`sum by (kind) (provwatch_leader)`: {"label kind"},
		`provwatch_leader * on (instance, source) provwatch_listener_connected`:                     {"label source"},
		`increase(provwatch_leader_total[5m]) > 0 or absent(provwatch_source{source="wal", x="y"})`: {"metric provwatch_leader_total", "label x of provwatch_source"},
	} {
		require.ElementsMatch(t, want, problems(t, metrics, expression), expression)
	}
	require.Equal(t, []string{"label kind"}, problems(t, metrics, "provwatch_leader", "kind"))
}

func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.Parse([]byte(readDeploy(t, "prometheus/provwatch.rules.yaml")), false, model.UTF8Validation, promQL, slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	require.Len(t, groups.Groups, 1)
	require.Greater(t, len(groups.Groups[0].Rules), 10)
	return groups.Groups[0].Rules
}

func TestRules(t *testing.T) {
	t.Run("MetricsAndRunbook", testRulesMetricsAndRunbook)
	t.Run("Fire", testRulesFire)
}

// testRulesMetricsAndRunbook checks that the rules name metrics that the worker has, and
// that each is in the runbook.
func testRulesMetricsAndRunbook(t *testing.T) {
	metrics := registered(t)
	runbook, err := os.ReadFile(filepath.Join(repository, "docs", "runbook.md"))
	require.NoError(t, err)
	for _, rule := range rules(t) {
		var shown []string
		for _, label := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(rule.Annotations["summary"], -1) {
			shown = append(shown, label[1])
		}
		require.Empty(t, problems(t, metrics, rule.Expr, shown...), rule.Alert)
		require.Equal(t, "docs/runbook.md#"+strings.ToLower(rule.Alert), rule.Annotations["runbook_url"])
		require.Contains(t, string(runbook), "\n### "+rule.Alert+"\n")
		require.Contains(t, []string{"warning", "critical"}, rule.Labels["severity"])
		require.NotEmpty(t, rule.Annotations["summary"])
	}
}

// testRulesFire evaluates each expression after an hour of samples, one a minute.
func testRulesFire(t *testing.T) {
	// Two workers of a database: a leads, b stands by.
	const healthy = `
		provwatch_build_info{job="w", instance="a", version="1"} 1x60
		provwatch_build_info{job="w", instance="b", version="1"} 1x60
		provwatch_target_up{job="w", instance="a"} 1x60
		provwatch_providers{job="w", instance="a"} 2x60
		provwatch_providers{job="w", instance="b"} 2x60
		provwatch_providers{job="w", instance="booting"} 0x60
		provwatch_last_reload_successful{job="w", instance="a"} 1x60
		provwatch_last_reload_success_timestamp_seconds{job="w", instance="a"} 100x60
		provwatch_last_reload_successful{job="w", instance="booting"} 0x60
		provwatch_last_reload_success_timestamp_seconds{job="w", instance="booting"} 0x60
		provwatch_leader{job="w", instance="a"} 1x60
		provwatch_leader{job="w", instance="b"} 0x60
		provwatch_environment_older{job="w", instance="a"} 0x60
		provwatch_environment_older{job="w", instance="b"} 0x60
		provwatch_listener_connected{job="w", instance="a"} 1x60
		provwatch_listener_connected{job="w", instance="b"} 1x60
		provwatch_listener_reconnects_total{job="w", instance="a"} 0x30 1x29
		provwatch_drift_providers{job="w", instance="a", kind="changed"} 0x60
		provwatch_drift_providers{job="w", instance="b", kind="changed"} 3x60
		provwatch_provider_drift{job="w", instance="a", provider="anthropic", kind="missing"} 1x60
		provwatch_provider_silenced{job="w", instance="a", provider="anthropic", kind="missing"} 1x60
		provwatch_provider_drift{job="w", instance="a", provider="pending", kind="disabled"} 0x60
		provwatch_provider_drift{job="w", instance="a", provider="rogue", kind="unmanaged"} 1x60
		provwatch_provider_silenced{job="w", instance="a", provider="rogue", kind="unmanaged"} 1x60
		provwatch_provider_drift_omitted{job="w", instance="a"} 0x60
		provwatch_last_gap_timestamp_seconds{job="w", instance="a", kind="gap"} 0x60
		provwatch_last_gap_timestamp_seconds{job="w", instance="a", kind="rewound"} 0x60
		provwatch_not_comparable_providers{job="w", instance="a"} 0x60
		provwatch_not_comparable_providers{job="w", instance="b"} 0x60
		provwatch_last_verification_timestamp_seconds{job="w", instance="a", scope="full"} 0+60x60
		provwatch_last_verification_timestamp_seconds{job="w", instance="a", scope="hinted"} 0x60
		provwatch_verification_errors_total{job="w", instance="a", scope="full"} 0x59 1
		provwatch_verification_errors_total{job="w", instance="a", scope="hinted"} 0x59 1
		provwatch_audit_outbox_oldest_age_seconds{job="w", instance="a"} 1x60
		provwatch_slot_retained_bytes{job="w", instance="a"} 1000x60
		provwatch_slot_retained_bytes{job="w", instance="b"} 9000000000x60
		provwatch_slot_wal_status{job="w", instance="a", status="reserved"} 1x60
		provwatch_slot_wal_status{job="w", instance="a", status="lost"} 0x60
		provwatch_slot_wal_status{job="w", instance="b", status="lost"} 1x60
		provwatch_source{job="w", instance="a", source="wal"} 1x60
		provwatch_source{job="w", instance="a", source="notify"} 0x60
		provwatch_source{job="w2", instance="c", source="notify"} 1x60
		provwatch_source{job="w2", instance="c", source="wal"} 0x60
		provwatch_notify_queue_usage_ratio{job="w", instance="a"} 0.1x60
		provwatch_sink_lag_events{job="w", instance="a", sink="webhook", stream="drift"} 0x60
		provwatch_sink_lag_events{job="w", instance="b", sink="webhook", stream="drift"} 5x60
		provwatch_sink_dead_letters_total{job="w", instance="a", sink="webhook", stream="drift"} 2x60
		provwatch_sink_gaps_total{job="w", instance="a", sink="webhook", stream="drift"} 0x60`
	// The series that are otherwise, by the rule that is to fire then; a rule fires
	// in no other case than its own, unless another names it.
	cases := map[string]struct{ series, also string }{
		"ProvwatchDrift":               {series: `provwatch_provider_drift{job="w", instance="a", provider="openai", kind="changed"} _x50 1x9`},
		"ProvwatchUnmanaged":           {series: `provwatch_provider_drift{job="w", instance="a", provider="openai", kind="unmanaged"} _x50 1x9`},
		"ProvwatchManyDrifts":          {series: `provwatch_provider_drift_omitted{job="w", instance="a"} 0x50 2x9`},
		"ProvwatchNotComparable":       {series: `provwatch_not_comparable_providers{job="w", instance="a"} 0x50 1x9`},
		"ProvwatchGap":                 {series: `provwatch_last_gap_timestamp_seconds{job="w", instance="a", kind="gap"} 0x50 3000x9`},
		"ProvwatchRewound":             {series: `provwatch_last_gap_timestamp_seconds{job="w", instance="a", kind="rewound"} 0x50 3000x9`},
		"ProvwatchAbsent":              {series: `provwatch_build_info{job="w", instance="a", version="1"} _x60` + "\n" + `provwatch_build_info{job="w", instance="b", version="1"} _x60`},
		"ProvwatchNoLeader":            {series: `provwatch_leader{job="w", instance="a"} 1x50 0x9`},
		"ProvwatchOlderEnvironment":    {series: `provwatch_environment_older{job="w", instance="b"} 0x50 1x9`},
		"ProvwatchTwoLeaders":          {series: `provwatch_leader{job="w", instance="b"} 1x60`, also: "ProvwatchSlotRetainsWAL ProvwatchSlotAtRisk ProvwatchSinkBehind"},
		"ProvwatchTargetDown":          {series: `provwatch_target_up{job="w", instance="a"} 1x50 0x9`},
		"ProvwatchWatchesNothing":      {series: `provwatch_providers{job="w", instance="a"} 2x50 0x9`},
		"ProvwatchReloadRefused":       {series: `provwatch_last_reload_successful{job="w", instance="a"} 1x50 0x9`},
		"ProvwatchNotListening":        {series: `provwatch_listener_connected{job="w", instance="b"} 1x50 0x9`},
		"ProvwatchReconnecting":        {series: `provwatch_listener_reconnects_total{job="w", instance="a"} 0x30 0+1x29`},
		"ProvwatchVerificationStale":   {series: `provwatch_last_verification_timestamp_seconds{job="w", instance="a", scope="full"} 0+60x40 2400x19`},
		"ProvwatchVerificationFailing": {series: `provwatch_verification_errors_total{job="w", instance="a", scope="full"} 0x50 0+1x9`},
		"ProvwatchAuditStuck":          {series: `provwatch_audit_outbox_oldest_age_seconds{job="w", instance="a"} 0+10x60`},
		"ProvwatchSlotRetainsWAL":      {series: `provwatch_slot_retained_bytes{job="w", instance="a"} 3000000000x60`},
		"ProvwatchSlotAtRisk":          {series: `provwatch_slot_wal_status{job="w", instance="a", status="lost"} 0x50 1x9`},
		"ProvwatchNotifyQueueFilling":  {series: `provwatch_notify_queue_usage_ratio{job="w", instance="a"} 0.1x50 0.6x9`},
		"ProvwatchSinkBehind":          {series: `provwatch_sink_lag_events{job="w", instance="a", sink="webhook", stream="drift"} 0x30 4x29`},
		"ProvwatchSinkLostEvents":      {series: `provwatch_sink_dead_letters_total{job="w", instance="a", sink="webhook", stream="drift"} 2x50 3x9`},
		"ProvwatchFellBack": {series: `provwatch_source{job="w", instance="a", source="wal"} 1x50 0x9` + "\n" +
			`provwatch_source{job="w", instance="a", source="notify"} 0x50 1x9`},
	}
	// The same of one of several targets.
	targeted := strings.NewReplacer(`{job=`, `{target="t", job=`)
	fired := func(t *testing.T, healthy, different string) (list []string) {
		t.Helper()
		load := "load 1m\n"
		replaced := map[string]bool{}
		for line := range strings.Lines(different) {
			series, _, _ := strings.Cut(strings.TrimSpace(line), "} ")
			replaced[series] = true
			load += "\t" + strings.TrimSpace(line) + "\n"
		}
		for line := range strings.Lines(healthy) {
			series, _, _ := strings.Cut(strings.TrimSpace(line), "} ")
			if series != "" && !replaced[series] {
				load += "\t" + strings.TrimSpace(line) + "\n"
			}
		}
		storage := promqltest.LoadedStorage(t, load)
		defer func() { _ = storage.Close() }()
		engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 10000)
		for _, rule := range rules(t) {
			query, err := engine.NewInstantQuery(t.Context(), storage, nil, rule.Expr, time.Unix(3600, 0))
			require.NoError(t, err)
			result := query.Exec(t.Context())
			require.NoError(t, result.Err, rule.Alert)
			vector, err := result.Vector()
			require.NoError(t, err)
			if len(vector) > 0 {
				list = append(list, rule.Alert)
			}
			query.Close()
		}
		return list
	}
	firing := func(t *testing.T, different string) []string {
		t.Helper()
		list := fired(t, healthy, different)
		require.Equal(t, list, fired(t, targeted.Replace(healthy), targeted.Replace(different)), "with the label target")
		return list
	}
	require.Empty(t, firing(t, ""), "nothing fires while all is well")
	require.Len(t, cases, len(rules(t)), "each rule has a case")
	for alert, c := range cases {
		t.Run(alert, func(t *testing.T) {
			require.ElementsMatch(t, append(strings.Fields(c.also), alert), firing(t, c.series))
		})
	}
}

func TestDashboard(t *testing.T) {
	t.Run("Fields", testDashboardFields)
	t.Run("Metrics", testDashboardMetrics)
	t.Run("Drifts", testDashboardDrifts)
}

// testDashboardFields decodes it by the types that are made from Grafana's own schemas.
func testDashboardFields(t *testing.T) {
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(statetimeline.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(grafanaprometheus.VariantConfig())
	content := readDeploy(t, "grafana/provwatch.json")
	mistakes := func(content string) (list []string) {
		t.Helper()
		//lint:ignore SA1019 What every Grafana can import is of this version.
		var d dashboard.Dashboard
		err := d.UnmarshalJSONStrict([]byte(content))
		if err == nil {
			err = d.Validate()
		}
		var all cog.BuildErrors
		if err != nil && !errors.As(err, &all) {
			return []string{err.Error()}
		}
		for _, mistake := range all {
			// Grafana has a default for each.
			if mistake.Message != "required field is missing from input" {
				list = append(list, mistake.Error())
			}
		}
		return list
	}
	require.Empty(t, mistakes(content))
	for _, name := range []string{"gridPos", "colorMode", "legendFormat", "reduceOptions", "schemaVersion"} {
		require.Contains(t, content, `"`+name+`"`)
		require.Len(t, mistakes(strings.Replace(content, `"`+name+`"`, `"`+name+`x"`, 1)), 1, name)
	}
}

// panels are those of the dashboard, and its variables.
type panels struct {
	Panels []struct {
		ID          int
		Title, Type string
		Description string
		Datasource  struct{ UID string }
		GridPos     struct{ X, Y, W, H int }
		FieldConfig map[string]any
		Targets     []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

func readPanels(t *testing.T) (read panels) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(readDeploy(t, "grafana/provwatch.json")), &read))
	return read
}

// testDashboardDrifts evaluates the panel that names the providers: each is there once, as
// alerted, silenced or pending.
func testDashboardDrifts(t *testing.T) {
	storage := promqltest.LoadedStorage(t, `load 1m
		provwatch_provider_drift{job="w", instance="a", target="t", provider="openai", kind="changed"} 1x60
		provwatch_provider_drift{job="w", instance="a", target="t", provider="anthropic", kind="missing"} 1x60
		provwatch_provider_silenced{job="w", instance="a", target="t", provider="anthropic", kind="missing"} 1x60
		provwatch_provider_drift{job="w", instance="a", target="t", provider="bedrock", kind="disabled"} 0x60
		provwatch_provider_drift_omitted{job="w", instance="a", target="t"} 0x60
		provwatch_silenced_providers{job="w", instance="a", target="t"} 1x60
		provwatch_pending_providers{job="w", instance="a", target="t"} 7x60
	`)
	defer func() { _ = storage.Close() }()
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 10000)
	var shown []string
	for _, panel := range readPanels(t).Panels {
		if panel.Title != "Drifting providers" {
			continue
		}
		for _, target := range panel.Targets {
			query, err := engine.NewInstantQuery(t.Context(), storage, nil, strings.NewReplacer("$job", ".*", "$target", ".*").Replace(target.Expr), time.Unix(3600, 0))
			require.NoError(t, err)
			vector, err := query.Exec(t.Context()).Vector()
			require.NoError(t, err, target.Expr)
			for _, sample := range vector {
				legend := regexp.MustCompile(`\{\{(\w+)\}\}`).ReplaceAllStringFunc(target.LegendFormat, func(label string) string {
					return sample.Metric.Get(strings.Trim(label, "{}"))
				})
				shown = append(shown, fmt.Sprintf("%s: %v", legend, sample.F))
			}
			query.Close()
		}
	}
	require.ElementsMatch(t, []string{
		"t openai changed: 1", "t anthropic missing silenced: 1", "t bedrock disabled pending: 1", "without a series: 0", "all silenced: 1", "all pending: 7",
	}, shown)
}

func testDashboardMetrics(t *testing.T) {
	dashboard := readPanels(t)
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range dashboard.Templating.List {
		variables[v.Name] = true
	}
	metrics := registered(t)
	shown, ids := map[string]bool{}, map[int]bool{}
	for _, panel := range dashboard.Panels {
		require.False(t, ids[panel.ID], "panel %d is there twice", panel.ID)
		ids[panel.ID] = true
		require.Equal(t, "${datasource}", panel.Datasource.UID)
		require.NotEmpty(t, panel.Targets, panel.Title)
		require.LessOrEqual(t, panel.GridPos.X+panel.GridPos.W, 24, panel.Title)
		for _, target := range panel.Targets {
			for _, variable := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				require.True(t, variables[variable[1]], "$%s in %s", variable[1], target.Expr)
			}
			var labels []string
			for _, label := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				labels = append(labels, label[1])
			}
			require.Empty(t, problems(t, metrics, target.Expr, labels...), "%s: %s", panel.Title, target.Expr)
			for _, name := range regexp.MustCompile(`provwatch_\w+`).FindAllString(target.Expr, -1) {
				shown[strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")] = true
			}
		}
	}
	for name := range metrics {
		if strings.HasPrefix(name, "provwatch_") {
			require.True(t, shown[name], "%s is on the dashboard", name)
		}
	}
}
