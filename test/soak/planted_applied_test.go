package soak

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// applier plants applies of the moving provider.
type applier struct {
	*script
	entries int // audit entries so far
}

const appliedID = "33333333-0000-0000-0000-000000000003"

// row is a change of the provider's row to a base URL.
func (s *applier) row(action, baseURL string) string {
	return fmt.Sprintf("table public.ai_providers: %s: id[uuid]:'%s' type[ai_provider_type]:'openai' name[text]:'applied' enabled[boolean]:true deleted[boolean]:false base_url[text]:'%s' settings[text]:null settings_key_id[text]:null updated_at[timestamp with time zone]:'%s'",
		action, appliedID, baseURL, stamp)
}

// by is the history row of somebody else's transaction.
func (s *applier) by(op, of string) string {
	return fmt.Sprintf("table soak.history: INSERT: id[uuid]:'%d' op[text]:'%s' providers[text]:'%s'", s.xid, op, of)
}

// applies commits an apply of a base URL with its audit entry, and has that delivered.
func (s *applier) applies(baseURL string) {
	s.t.Helper()
	s.entries++
	entry := func(table string) string {
		return strings.Replace(s.entry(table, s.entries, "provider.update", appliedID, "{}"), "'alpha'", "'applied'", 1)
	}
	s.commit(s.row("UPDATE", baseURL), entry("audit_outbox"))
	s.commit(fmt.Sprintf("table provwatch.audit_outbox: DELETE: seq[bigint]:%d", s.entries), entry("audit_log"))
}

// recorded commits that a worker has recorded the environment with a version.
func (s *applier) recorded(version int) {
	s.t.Helper()
	action := "INSERT"
	if slices.Contains(s.c.environments, environmentDigest(version, false)) {
		action = "UPDATE"
	}
	s.commit(fmt.Sprintf("table provwatch.environments: %s: digest[text]:'%s' generation[bigint]:1 recorded_at[timestamp with time zone]:'%s'",
		action, environmentDigest(version, false), stamp))
}

// testCheckHistoryApplied plants applies.
func testCheckHistoryApplied(t *testing.T) {
	t.Parallel()
	const rogue = "https://rogue.example/1"
	for name, test := range map[string]struct {
		plant func(*applier)
		want  string // empty for nothing
	}{
		"each version":     {func(s *applier) { s.applies(movingURL(1)); s.applies(movingURL(2)) }, ""},
		"the latest alone": {func(s *applier) { s.applies(movingURL(2)) }, ""},
		"after somebody has set the version before": {func(s *applier) {
			s.commit(s.by("move", "applied"), s.row("UPDATE", rogue))
			s.commit(s.by("move", "applied"), s.row("UPDATE", movingURL(1)))
			s.applies(movingURL(2))
		}, ""},
		"a former version that is new to workers": {func(s *applier) {
			s.recorded(2)
			s.applies(movingURL(2))
			s.recorded(1)
			s.applies(movingURL(1))
		}, ""},

		"over what somebody else has set": {func(s *applier) { s.commit(s.by("move", "applied"), s.row("UPDATE", rogue)); s.applies(movingURL(1)) }, ruleApply},
		"an environment that never was":   {func(s *applier) { s.recorded(3) }, ruleEnvironment},
		"what the environment never had":  {func(s *applier) { s.applies(movingURL(3)) }, ruleApply},
		"another host":                    {func(s *applier) { s.applies(rogue) }, ruleApply},
		"a former version":                {func(s *applier) { s.applies(movingURL(2)); s.applies(movingURL(1)) }, ruleApply},
		"a former version that was recorded": {func(s *applier) {
			s.recorded(1)
			s.recorded(2)
			s.applies(movingURL(2))
			s.recorded(1)
			s.applies(movingURL(1))
		}, ruleApply},
		"without an entry": {func(s *applier) { s.commit(s.row("UPDATE", movingURL(1))) }, ruleAuditLost},
		"what it must not write": {func(s *applier) {
			s.commit(strings.Replace(s.row("UPDATE", movingURL(1)), "enabled[boolean]:true", "enabled[boolean]:false", 1))
		}, ruleSeedWrite},
		"without being asked": {func(s *applier) { s.c.applies = false; s.applies(movingURL(1)) }, ruleSeedWrite},
		"to another provider": {func(s *applier) { s.commit(s.update(false)[1]) }, ruleSeedWrite},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &applier{newScript(t, "notify"), 2}
			s.deliver()
			s.c.follow(movingProvider())
			s.c.applies = true
			s.commit(s.by("insert", "applied"), s.row("INSERT", movingURL(0)))
			s.commit(s.by(opVersion, "1"))
			s.commit(s.by(opVersion, "2"))
			test.plant(s)
			rules := s.rules()
			if test.want == "" {
				require.Empty(t, rules, "%v", s.c.violations)
			} else {
				require.Contains(t, rules, test.want, "%v", s.c.violations)
			}
		})
	}
}
