package status_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/sink"
	"provwatch/internal/status"
)

// TestLabels covers the words that differ from the values.
func TestLabels(t *testing.T) {
	t.Parallel()
	for state, want := range map[status.State]string{
		status.Drifted: "drifted", status.NotComparable: "not comparable", status.SoftDeleted: "soft-deleted", status.Unmanaged: "unmanaged", status.Pending: "pending",
		status.Unsupported: "unsupported type", status.Unverified: "not verified yet", status.Accepted: "accepted", status.InSync: "in sync",
	} {
		require.Equal(t, want, state.Label())
	}
	for kind, want := range map[drift.Kind]string{
		drift.Deleted: "soft-deleted", drift.InSync: "in sync", drift.NotComparable: "not comparable", drift.Missing: "missing", drift.Gap: "gap",
	} {
		require.Equal(t, want, status.KindLabel(kind))
	}
	for want, p := range map[string]status.Provider{
		"changed":                {State: status.Drifted, Kind: drift.Changed},
		"soft-deleted, accepted": {State: status.Accepted, Kind: drift.Deleted},
		"soft-deleted, pending":  {State: status.Pending, Kind: drift.Deleted},
		"accepted":               {State: status.Accepted},
		"unmanaged, alerted":     {State: status.Drifted, Kind: drift.Unmanaged},
		"unmanaged, accepted":    {State: status.Accepted, Kind: drift.Unmanaged},
		"unmanaged":              {State: status.Unmanaged},
		"soft-deleted":           {State: status.SoftDeleted, Kind: drift.Deleted},
		"not verified yet":       {State: status.Unverified, Kind: drift.Missing},
		"missing, silenced":      {State: status.Drifted, Kind: drift.Missing, SilencedUntil: &time.Time{}},
		"soft-deleted, silenced": {State: status.SoftDeleted, Kind: drift.Deleted, SilencedUntil: &time.Time{}},
		"in sync":                {State: status.InSync, SilencedUntil: &time.Time{}},
	} {
		require.Equal(t, want, p.Label())
	}
	require.Equal(t, "session 7 of role r from 10.0.0.1", status.Session{PID: 7, Role: "hidden", Address: "10.0.0.1"}.Label("r"))
	require.Equal(t, "observing session 7 of role r", status.Session{PID: 7, Observes: true}.Label("r"))
	require.Equal(t, "none; session 7 holds the leader's lock and is no worker", status.HolderLabel("session 7"))
	require.Equal(t, "all providers", status.SilencedLabel("*"))
	require.Equal(t, "openai", status.SilencedLabel("openai"))
	for want, p := range map[string]sink.Progress{"dead letters": {DeadLetters: 1, Behind: 1}, "behind": {Behind: 1}, "delivering": {MovedAt: time.Now()}, "nothing sent yet": {Seq: 7}} {
		require.Equal(t, want, status.SinkLabel(p))
	}
}
