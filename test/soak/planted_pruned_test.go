package soak

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// cursor moves the cursor of the webhook.
func (s *script) cursor(stream string, seq int) string {
	return fmt.Sprintf("table provwatch.sink_cursors: UPDATE: sink[text]:'webhook' stream[text]:'%s' seq[bigint]:%d", stream, seq)
}

// pruned is what a transaction does that prunes: it deletes alerts, and stores up to which.
func (s *script) pruned(upTo int, seqs ...int) (lines []string) {
	for _, seq := range seqs {
		lines = append(lines, fmt.Sprintf("table provwatch.drift_alerts: DELETE: seq[bigint]:%d", seq))
	}
	return append(lines, fmt.Sprintf("table provwatch.pruned: INSERT: stream[text]:'drift' seq[bigint]:%d", upTo))
}

// testCheckHistoryPruned has four alerts and two audit entries, of which some are pruned.
func testCheckHistoryPruned(t *testing.T) {
	t.Parallel()
	entry := func(n, upTo int) []string {
		return []string{
			fmt.Sprintf("table provwatch.audit_log: DELETE: id[uuid]:'entry-1-%d'", n),
			fmt.Sprintf("table provwatch.pruned: INSERT: stream[text]:'audit' seq[bigint]:%d", upTo),
		}
	}
	letter := "table provwatch.sink_dead_letters: INSERT: sink[text]:'webhook' stream[text]:'drift' seq[bigint]:1 event_id[uuid]:'alert-1'"
	for name, test := range map[string]struct {
		drift, audit int // the cursors
		plant        func(*script)
		wrong        bool
	}{
		"what all sinks have had": {4, 2, func(s *script) { s.commit(append(s.pruned(3, 1, 2, 3), entry(1, 1)...)...) }, false},
		"in two transactions":     {4, 2, func(s *script) { s.commit(s.pruned(1, 1)...); s.commit(s.pruned(2, 2)...) }, false},
		"a dead letter that was retried": {4, 2, func(s *script) {
			s.commit(letter)
			s.commit("table provwatch.sink_dead_letters: DELETE: sink[text]:'webhook' stream[text]:'drift' seq[bigint]:1 event_id[uuid]:'alert-1'")
			s.commit(s.pruned(2, 1, 2)...)
		}, false},
		"what a sink has not had":          {2, 2, func(s *script) { s.commit(s.pruned(3, 1, 2, 3)...) }, true},
		"what a sink needs to end it":      {1, 2, func(s *script) { s.commit(s.pruned(1, 1)...) }, true},
		"an end without what it ends":      {2, 2, func(s *script) { s.commit(s.pruned(2, 2)...) }, true},
		"a dead letter":                    {4, 2, func(s *script) { s.commit(letter); s.commit(s.pruned(2, 1, 2)...) }, true},
		"the last alert":                   {4, 2, func(s *script) { s.commit(s.pruned(4, 1, 2, 3, 4)...) }, true},
		"without a word of it":             {4, 2, func(s *script) { s.commit(s.pruned(1, 1, 2)...) }, true},
		"an alert that was not there":      {4, 2, func(s *script) { s.commit(s.pruned(2, 1, 2)...); s.commit(s.pruned(2, 2)...) }, true},
		"an entry that a sink has not had": {4, 0, func(s *script) { s.commit(entry(1, 1)...) }, true},
		"the last entry":                   {4, 2, func(s *script) { s.commit(entry(2, 2)...) }, true},
		"an entry without a word of it":    {4, 2, func(s *script) { s.commit(entry(1, 0)...) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, "notify")
			s.deliver()
			for i, kind := range []string{disabled, resolved, disabled, resolved} {
				s.commit(s.update(i%2 == 1)...)
				s.commit(s.alert(kind, 0)...)
			}
			s.commit(s.cursor("drift", test.drift), s.cursor("audit", test.audit))
			test.plant(s)
			rules := s.rules()
			if test.wrong {
				require.Contains(t, rules, rulePruned)
			} else {
				require.Empty(t, s.c.violations)
			}
		})
	}
}
