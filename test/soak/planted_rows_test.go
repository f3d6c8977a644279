package soak

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const rogueID = "33333333-0000-0000-0000-000000000001"

// rogue is a writer's transaction that makes the row of the id be so.
func (s *script) rogue(action, id, name string, enabled bool) []string {
	return []string{
		fmt.Sprintf("table soak.history: INSERT: id[uuid]:'%d' op[text]:'rogue' providers[text]:'alpha'", s.xid),
		fmt.Sprintf("table public.ai_providers: %s: id[uuid]:'%s' type[ai_provider_type]:'openai' name[text]:'%s' display_name[text]:null enabled[boolean]:%v deleted[boolean]:false base_url[text]:'https://rogue.example/' settings[text]:null settings_key_id[text]:null updated_at[timestamp with time zone]:'%s'",
			action, id, name, enabled, stamp),
	}
}

// rowAlert writes an alert about the row of the id, and what is recorded of it then.
func (s *script) rowAlert(kind, id, recorded string) []string {
	s.seq++
	resolves := "null"
	if lasting := s.c.silences.lasting["row "+id]; kind == resolved && len(lasting) > 0 {
		resolves = fmt.Sprint(lasting[len(lasting)-1].seq)
	}
	row := fmt.Sprintf("table provwatch.unmanaged_rows: DELETE: provider_id[uuid]:'%s'", id)
	if recorded != "" {
		row = fmt.Sprintf("table provwatch.unmanaged_rows: INSERT: provider_id[uuid]:'%s' provider[text]:'rogue' kind[text]:'%s' db_hash[text]:'' alert_seq[bigint]:%d", id, recorded, s.seq)
	}
	return []string{fmt.Sprintf("table provwatch.drift_alerts: INSERT: seq[bigint]:%d id[uuid]:'alert-%d' kind[text]:'%s' provider[text]:'rogue' provider_id[uuid]:'%s' fields[jsonb]:'[]' env_hash[text]:'' db_hash[text]:'' source[text]:'notify' detected_at[timestamp with time zone]:'%s' lsn[pg_lsn]:null xid[bigint]:null committed_at[timestamp with time zone]:null resolves[bigint]:%s unmanaged[boolean]:true",
		s.seq, s.seq, kind, id, stamp, resolves), row}
}

// testCheckHistoryUnmanaged plants alerts of a row that the environment does not name.
func testCheckHistoryUnmanaged(t *testing.T) {
	t.Parallel()
	alpha := "11111111-0000-0000-0000-000000000001"
	stateOfAlpha := fmt.Sprintf("table provwatch.drift_state: INSERT: provider[text]:'alpha' provider_id[uuid]:'%s' kind[text]:'in_sync' env_hash[text]:'' db_hash[text]:'' observed_at[timestamp with time zone]:'%s'", alpha, stamp)
	known := func(id string) string {
		return fmt.Sprintf("table provwatch.unmanaged_rows: INSERT: provider_id[uuid]:'%s' provider[text]:'rogue' kind[text]:'known' db_hash[text]:'' alert_seq[bigint]:null", id)
	}
	for name, test := range map[string]struct {
		plant func(s *script)
		rule  string // empty for none
	}{
		"alerted and ended": {func(s *script) {
			s.commit(s.rogue("INSERT", rogueID, "rogue", true)...)
			s.commit(s.rowAlert(unmanaged, rogueID, unmanaged)...)
			s.commit(s.rogue("UPDATE", rogueID, "rogue", false)...)
			s.commit(s.rowAlert(resolved, rogueID, "")...)
		}, ""},
		"known": {func(s *script) {
			s.commit(s.rogue("INSERT", rogueID, "rogue", true)...)
			s.commit(known(rogueID))
		}, ""},
		"alerted twice": {func(s *script) {
			s.commit(s.rogue("INSERT", rogueID, "rogue", true)...)
			s.commit(s.rowAlert(unmanaged, rogueID, unmanaged)...)
			s.commit(s.rowAlert(unmanaged, rogueID, unmanaged)...)
		}, ruleDoubled},
		"repeated though it was sent": {func(s *script) {
			s.commit(s.rogue("INSERT", rogueID, "rogue", true)...)
			s.commit(s.rowAlert(unmanaged, rogueID, unmanaged)...)
			again := s.rowAlert(unmanaged, rogueID, unmanaged)
			again[0] = strings.Replace(again[0], "'notify'", "'silence'", 1) + " repeats[bigint]:1"
			s.commit(again...)
		}, ruleRepeat},
		"ended twice": {func(s *script) {
			s.commit(s.rogue("INSERT", rogueID, "rogue", false)...)
			s.commit(s.rowAlert(resolved, rogueID, "")...)
		}, ruleOrder},
		"never enabled": {func(s *script) {
			s.commit(s.rogue("INSERT", rogueID, "rogue", false)...)
			s.commit(s.rowAlert(unmanaged, rogueID, unmanaged)...)
		}, rulePhantom},
		"not alerted": {func(s *script) { s.commit(s.rogue("INSERT", rogueID, "rogue", true)...) }, ruleState},
		"not ended": {func(s *script) {
			s.commit(s.rogue("INSERT", rogueID, "rogue", true)...)
			s.commit(s.rowAlert(unmanaged, rogueID, unmanaged)...)
			s.commit(s.rogue("UPDATE", rogueID, "rogue", false)...)
		}, ruleState},
		"recorded without an alert": {func(s *script) {
			s.commit(s.rogue("INSERT", rogueID, "rogue", true)...)
			s.commit(s.rowAlert(unmanaged, rogueID, "known")...)
		}, ruleState},
		"the row of a provider": {func(s *script) {
			s.commit(stateOfAlpha)
			s.commit(s.rogue("UPDATE", alpha, "rogue", true)...)
			s.commit(s.rowAlert(unmanaged, alpha, unmanaged)...)
		}, rulePhantom},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, "notify")
			s.deliver()
			test.plant(s)
			rules := s.rules()
			if test.rule == "" {
				require.Empty(t, rules, "%v", s.c.violations)
			} else {
				require.Contains(t, rules, test.rule)
			}
		})
	}
}
