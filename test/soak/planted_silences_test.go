package soak

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clockAt returns a time of the day of [stamp], as test_decoding prints it.
func clockAt(text string) string { return "2026-07-01 " + text + "+00" }

// silencer plants what an operator does about silences.
type silencer struct {
	*script
	entries int // audit entries so far
}

// changed commits a change of a silence of alpha with an audit entry, and has that delivered.
func (s *silencer) changed(change, action string, id int, begins, ends string) {
	s.t.Helper()
	expires, err := parseTime(ends)
	require.NoError(s.t, err)
	s.entries++
	entry := func(table string) string {
		return s.entry(table, s.entries, action, "11111111-0000-0000-0000-000000000001",
			fmt.Sprintf(`{"silence": %d, "reason": "r", "expires": "%s"}`, id, expires.Format(time.RFC3339Nano)))
	}
	s.commit(fmt.Sprintf("table provwatch.silences: %s: id[bigint]:%d provider[text]:'alpha' author[text]:'x' reason[text]:'r' begins_at[timestamp with time zone]:'%s' ends_at[timestamp with time zone]:'%s' ended_by[text]:''",
		change, id, begins, ends), entry("audit_outbox"))
	s.commit(fmt.Sprintf("table provwatch.audit_outbox: DELETE: seq[bigint]:%d", s.entries), entry("audit_log"))
}

// silence silences alpha for a minute from 12:00:00 on, and the command returns a second later.
func (s *silencer) silence() {
	s.t.Helper()
	s.at = clockAt("12:00:00")
	s.changed("INSERT", "silence.create", 1, clockAt("12:00:00"), clockAt("12:01:00"))
	s.at = clockAt("12:00:01")
	s.returned(opSilenced)
	s.at = clockAt("12:00:02")
}

// unsilence ends it at 12:00:30.
func (s *silencer) unsilence() {
	s.t.Helper()
	s.at = clockAt("12:00:30")
	s.changed("UPDATE", "silence.end", 1, clockAt("12:00:00"), clockAt("12:00:30"))
	s.at = clockAt("12:00:31")
	s.returned(opUnsilenced)
	s.at = clockAt("12:00:32")
}

func (s *silencer) returned(op string) {
	s.t.Helper()
	s.commit(fmt.Sprintf("table soak.history: INSERT: id[uuid]:'%s' op[text]:'%s' providers[text]:'1'", op, op))
}

// alpha disables or enables alpha, which is alerted. The alert's row has the columns in more as well.
func (s *silencer) alpha(enabled bool, more string) {
	s.t.Helper()
	kind := disabled
	if enabled {
		kind = resolved
	}
	s.commit(s.update(enabled)...)
	s.commit(s.alert(kind, 0)[0] + more)
}

// repeated alerts the drift of alpha again.
func (s *silencer) repeated(seq int) {
	s.t.Helper()
	line := strings.Replace(s.alert(disabled, 0)[0], "source[text]:'notify'", "source[text]:'silence'", 1)
	s.commit(fmt.Sprintf("%s repeats[bigint]:%d silenced[boolean]:false", line, seq))
}

// testCheckHistorySilences plants silences, and alerts that are right or not.
func testCheckHistorySilences(t *testing.T) {
	t.Parallel()
	const silenced, sent = " silenced[boolean]:true", " silenced[boolean]:false"
	for name, test := range map[string]struct {
		plant func(*silencer)
		want  string // empty for nothing
	}{
		"from the begin to the end": {func(s *silencer) { s.silence(); s.alpha(false, silenced); s.alpha(true, silenced) }, ""},
		"outlived": {func(s *silencer) {
			s.silence()
			s.alpha(false, silenced)
			s.unsilence()
			s.repeated(1)
			s.alpha(true, sent)
		}, ""},
		"expired":                    {func(s *silencer) { s.silence(); s.alpha(false, silenced); s.at = clockAt("12:02:00"); s.repeated(1) }, ""},
		"alerted before":             {func(s *silencer) { s.alpha(false, sent); s.silence(); s.alpha(true, sent) }, ""},
		"ended before it is alerted": {func(s *silencer) { s.silence(); s.unsilence(); s.alpha(false, sent) }, ""},
		"another while it ends": {func(s *silencer) {
			s.silence()
			s.at = clockAt("12:00:30")
			s.changed("UPDATE", "silence.end", 1, clockAt("12:00:00"), clockAt("12:00:30"))
			s.at = clockAt("12:00:31")
			s.alpha(false, silenced) // by a statement that does not see the end
			s.repeated(1)
		}, ""},
		"not known to have returned": {func(s *silencer) {
			s.at = clockAt("12:00:00")
			s.changed("INSERT", "silence.create", 1, clockAt("12:00:00"), clockAt("12:01:00"))
			s.at = clockAt("12:00:02")
			s.alpha(false, sent)
		}, ""},
		"pruned": {func(s *silencer) {
			s.silence()
			s.at = clockAt("12:02:00")
			s.commit("table provwatch.silences: DELETE: id[bigint]:1")
			s.alpha(false, sent)
		}, ""},

		"not silenced":               {func(s *silencer) { s.silence(); s.alpha(false, sent) }, ruleSilenced},
		"silenced by none":           {func(s *silencer) { s.alpha(false, silenced) }, ruleSilenced},
		"silenced before":            {func(s *silencer) { s.alpha(false, silenced); s.silence() }, ruleSilenced},
		"silenced after its end":     {func(s *silencer) { s.silence(); s.at = clockAt("12:01:00"); s.alpha(false, silenced) }, ruleSilenced},
		"silenced once it was ended": {func(s *silencer) { s.silence(); s.unsilence(); s.alpha(false, silenced) }, ruleSilenced},
		"an end that is lost":        {func(s *silencer) { s.alpha(false, sent); s.silence(); s.alpha(true, silenced) }, ruleSilenced},
		"an end of what is unknown":  {func(s *silencer) { s.silence(); s.alpha(false, silenced); s.unsilence(); s.alpha(true, sent) }, ruleSilenced},
		"a gap that is silenced":     {func(s *silencer) { s.silence(); s.commit(s.rewind(false) + silenced) }, ruleSilenced},
		"made longer": {func(s *silencer) {
			s.silence()
			s.changed("UPDATE", "silence.end", 1, clockAt("12:00:00"), clockAt("12:09:00"))
		}, ruleSilenced},
		"repeated though it was sent": {func(s *silencer) { s.alpha(false, sent); s.repeated(1) }, ruleRepeat},
		"repeated twice":              {func(s *silencer) { s.silence(); s.alpha(false, silenced); s.unsilence(); s.repeated(1); s.repeated(2) }, ruleRepeat},
		"repeated after its end": {func(s *silencer) {
			s.silence()
			s.alpha(false, silenced)
			s.alpha(true, silenced)
			s.unsilence()
			s.repeated(1)
		}, ruleRepeat},
		"another one repeated": {func(s *silencer) { s.silence(); s.alpha(false, silenced); s.unsilence(); s.repeated(7) }, ruleRepeat},
		"not repeated":         {func(s *silencer) { s.silence(); s.alpha(false, silenced); s.unsilence(); s.commit() }, ruleOutlived},
		"the end of another":   {func(s *silencer) { s.alpha(false, sent); s.lasting = 7; s.alpha(true, sent) }, ruleContent},
		"without an entry": {func(s *silencer) {
			s.commit(fmt.Sprintf("table provwatch.silences: INSERT: id[bigint]:1 provider[text]:'*' begins_at[timestamp with time zone]:'%[1]s' ends_at[timestamp with time zone]:'%[1]s'", stamp),
				s.entry("audit_outbox", 3, "silence.end", "11111111-0000-0000-0000-000000000001", `{"silence": 1}`))
		}, ruleAudit},
		"pruned while it lasts": {func(s *silencer) { s.silence(); s.commit("table provwatch.silences: DELETE: id[bigint]:1") }, rulePruned},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &silencer{newScript(t, "notify"), 2}
			s.deliver()
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

// testCheckHistoryAlertAfter alerts a drift of two seconds, and earlier.
func testCheckHistoryAlertAfter(t *testing.T) {
	t.Parallel()
	for at, want := range map[string][]string{"12:00:01.9": {ruleEarly}, "12:00:02": nil, "12:00:09": nil} {
		s := newScript(t, "notify")
		s.c.alertAfter = 2 * time.Second
		s.deliver()
		s.at = clockAt("12:00:00")
		s.commit(s.update(false)...)
		s.at = clockAt(at)
		s.commit(s.alert(disabled, 0)...)
		s.commit(s.update(true)...)
		s.commit(s.alert(resolved, 0)...)
		require.Equal(t, want, s.rules(), "%s: %v", at, s.c.violations)
	}
}
