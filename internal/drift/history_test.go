package drift_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

func TestJudgements(t *testing.T) {
	t.Run("OverTime", testJudgementsOverTime)
	t.Run("SameOnEveryPath", testJudgementsSameOnEveryPath)
}

// testJudgementsOverTime changes a provider at random, judges each observation, and
// records what is news.
func testJudgementsOverTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := history{T: t, last: drift.Resolved}
		h.desired, h.row = drawPair(t)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			h.change()
			h.judge(rapid.Bool().Draw(t, "credentials"))
		}
	})
}

// history is a provider over time, with what is recorded of it.
type history struct {
	*rapid.T
	desired  provider.Desired
	row      *provider.Row // nil for none
	recorded drift.Recorded
	last     drift.Kind // of the last alert
}

// change changes a side, brings the row in line, or accepts a drift.
func (h *history) change() {
	switch rapid.IntRange(0, 4).Draw(h.T, "what changes") {
	case 0:
		h.desired = drawDesired(h.T)
	case 1:
		if h.row = drawRow(h.T); rapid.IntRange(0, 5).Draw(h.T, "removed") == 0 {
			h.row = nil
		}
	case 2:
		if h.row != nil {
			h.row.Type, h.row.BaseURL, h.row.Enabled, h.row.Deleted = h.desired.Type, h.desired.BaseURL, true, false
			h.row.Settings, h.row.SettingsKeyID = h.desired.Settings(), ""
		}
	case 3:
		if o := drift.Compare(hasher, h.desired, h.row, false); h.row != nil && o.IsDrift() && o.Unreadable == nil {
			h.recorded.Accepted = &drift.Acceptance{Kind: o.Kind, EnvHash: o.EnvHash, DBHash: o.DBHash}
		}
	}
}

// judge judges the provider, with its credentials or as the WAL shows it, and records what
// is news.
func (h *history) judge(credentials bool) {
	o := drift.Compare(hasher, h.desired, h.row, credentials)
	before := h.recorded
	j, judged := h.judgement(o, credentials)
	if !judged {
		require.Equal(h, drift.InSync, o.Kind)
		require.NotEmpty(h, h.recorded.NotComparable)
		return
	}
	h.recorded = h.recorded.After(j)
	h.requireSound(o, before, j)
	h.requireAlerted(j)
	again, _ := h.judgement(o, credentials)
	require.False(h, again.IsNews(), "the same observation again is no news")
}

func (h *history) judgement(o drift.Observation, credentials bool) (drift.Judgement, bool) {
	if credentials {
		return h.recorded.Judge(o), true
	}
	return h.recorded.JudgeRow(o, true)
}

// requireSound requires that a judgement agrees with its observation and with what was
// recorded before.
func (h *history) requireSound(o drift.Observation, before drift.Recorded, j drift.Judgement) {
	switch {
	case o.Unreadable != nil && o.Kind == drift.NotComparable:
		require.Equal(h, before.State, h.recorded.State, "what was recorded stands")
		require.Empty(h, j.Alert)
		require.Nil(h, j.Withdrawn)
	case j.Reason == "":
		require.Contains(h, []drift.Kind{drift.InSync, j.Observation.Kind}, j.Kind)
		require.Equal(h, j.Observation.IsDrift() && before.Accepted.Holds(j.Observation), j.IsAccepted())
	}
	if o.IsDrift() && !j.IsAccepted() {
		require.Equal(h, o.Kind, j.Kind, "a drift is never taken for in sync")
	}
	if j.IsAccepted() {
		require.True(h, h.recorded.IsAccepted())
	}
	if j.IsSettled() {
		require.NotNil(h, h.row)
		require.True(h, drift.IsInSync(h.desired, h.row))
	}
}

// requireAlerted requires that the last alert has what is recorded.
func (h *history) requireAlerted(j drift.Judgement) {
	if j.Alert != "" {
		require.False(h, j.Alert == drift.Resolved && h.last == drift.Resolved, "a drift ends once")
		h.last = j.Alert
	}
	kind := drift.InSync
	if h.recorded.State != nil {
		kind = h.recorded.State.Kind
	}
	require.Equal(h, kind == drift.InSync, h.last == drift.Resolved)
	if h.last != drift.Resolved {
		require.Equal(h, kind, h.last)
	}
}

// testJudgementsSameOnEveryPath asks for the answer of a boot, of a command, of the
// worker and of the WAL for one pair, with an acceptance or without.
func testJudgementsSameOnEveryPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		desired, row := drawPair(t)
		o := drift.Compare(hasher, desired, row, false)
		recorded := drift.Recorded{State: &drift.State{Kind: drift.InSync, ProviderID: uuid.UUID{1}}}
		if rapid.Bool().Draw(t, "accepted") {
			recorded.Accepted = &drift.Acceptance{Kind: o.Kind, EnvHash: o.EnvHash, DBHash: o.DBHash}
		}
		worker := recorded.Judge(o)
		wal, judged := recorded.JudgeRow(o, true)
		require.True(t, judged)
		require.Equal(t, worker, wal)
		command := drift.Recorded{Accepted: recorded.Accepted}.Judge(o)
		require.Equal(t, []any{worker.Kind, worker.IsAccepted(), worker.Reason}, []any{command.Kind, command.IsAccepted(), command.Reason})
		if boot := o.AtBoot(false); boot == drift.Changed && o.Kind != drift.Disabled {
			require.Equal(t, recorded.Accepted.Covers(o), worker.IsAccepted())
		} else if boot == drift.InSync && o.Kind != drift.Disabled {
			require.Equal(t, drift.InSync, worker.Kind)
		}
	})
}
