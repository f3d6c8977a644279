package drift_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
)

// TestPendingRow holds the alert of an unmanaged row for an hour.
func TestPendingRow(t *testing.T) {
	began := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	there := drift.Observation{Provider: "now", ProviderID: rowID, OfRow: true, Kind: drift.Unmanaged, DBHash: "db", Fields: []drift.Field{{Name: "type", DB: "openai"}}}
	gone := drift.GoneRow(rowID)
	other := there
	other.DBHash = "db2"
	at := func(r drift.RecordedRow, minutes int) drift.RecordedRow {
		r.AlertAfter, r.At = time.Hour, began.Add(time.Duration(minutes)*time.Minute)
		return r
	}
	first := at(drift.RecordedRow{}, 0).Judge(there, drift.AlertUnmanaged)
	require.True(t, first.NewPending)
	require.False(t, first.NewState)
	require.Empty(t, first.Alert)
	require.Equal(t, &drift.Pending{
		State: drift.State{Kind: drift.Unmanaged, ProviderID: rowID, DBHash: "db"}, Fields: there.Fields, Moved: drift.DatabaseMoved, Since: began,
	}, first.Pending)
	first.Pending.Shown = drift.Evidence{Source: "wal", LSN: "0/1"}
	pending := drift.RecordedRow{}.After(first)
	require.Equal(t, "now", pending.Provider)
	require.Nil(t, pending.State)

	t.Run("Lasts", func(t *testing.T) {
		require.False(t, at(pending, 59).Judge(there, drift.AlertUnmanaged).IsNews())
		_, lasted := at(pending, 59).Lasted(rowID, drift.AlertUnmanaged)
		require.False(t, lasted)
		_, lasted = at(pending, 60).Lasted(rowID, drift.WarnUnmanaged)
		require.False(t, lasted, "nothing is alerted")
		_, lasted = at(drift.RecordedRow{}, 60).Lasted(rowID, drift.AlertUnmanaged)
		require.False(t, lasted)
		j := at(pending, 60).Judge(there, drift.AlertUnmanaged)
		require.Equal(t, drift.Unmanaged, j.Alert)
		require.Equal(t, "wal", j.Shown.Source)
		require.True(t, j.NewState && j.EndsPending && !j.NewPending)
		j, lasted = at(pending, 60).Lasted(rowID, drift.AlertUnmanaged)
		require.True(t, lasted)
		require.Equal(t, drift.Subject{Row: rowID}, j.Observation.Subject())
		require.Equal(t, there.Fields, j.Observation.Fields)
		require.Equal(t, "0/1", j.Shown.LSN)
		alerted := at(pending, 60).After(j)
		require.Nil(t, alerted.Pending)
		require.Equal(t, "now", alerted.Provider)
		j = alerted.Judge(gone, drift.AlertUnmanaged)
		require.Equal(t, drift.Resolved, j.Alert)
		require.Equal(t, "now", j.Observation.Provider)
	})
	t.Run("OtherValues", func(t *testing.T) {
		j := at(pending, 30).Judge(other, drift.AlertUnmanaged)
		require.True(t, j.NewPending)
		require.Equal(t, began, j.Pending.Since, "its time goes on")
		require.Empty(t, j.Pending.Shown, "something else has shown these")
		renamed := there
		renamed.Provider = "renamed"
		j = at(pending, 30).Judge(renamed, drift.AlertUnmanaged)
		require.True(t, j.NewPending)
		require.Equal(t, "wal", j.Pending.Shown.Source)
		require.Equal(t, "renamed", at(pending, 30).After(j).Provider)
		require.Empty(t, at(pending, 60).Judge(other, drift.AlertUnmanaged).Shown)
	})
	t.Run("ClockSetBack", func(t *testing.T) {
		back := at(pending, -600).Judge(there, drift.AlertUnmanaged)
		require.True(t, back.NewPending)
		require.Equal(t, began.Add(-10*time.Hour), back.Pending.Since, "it counts from then on")
		require.Equal(t, pending.Pending.Shown, back.Pending.Shown)
		require.Equal(t, drift.Unmanaged, at(pending.After(back), -540).Judge(there, drift.AlertUnmanaged).Alert)
	})
	t.Run("EndsBefore", func(t *testing.T) {
		named := there
		named.Kind, named.IsNamed = drift.InSync, true
		accepted := pending
		accepted.Accepted = &drift.Acceptance{Kind: drift.Unmanaged, DBHash: "db"}
		for name, c := range map[string]struct {
			recorded drift.RecordedRow
			o        drift.Observation
			mode     drift.UnmanagedMode
			kind     drift.Kind
		}{
			"gone":     {pending, gone, drift.AlertUnmanaged, ""},
			"named":    {pending, named, drift.AlertUnmanaged, ""},
			"ignored":  {pending, there, drift.IgnoreUnmanaged, ""},
			"warned":   {pending, there, drift.WarnUnmanaged, ""},
			"accepted": {accepted, there, drift.AlertUnmanaged, drift.InSync},
		} {
			j := at(c.recorded, 59).Judge(c.o, c.mode)
			require.True(t, j.EndsPending, name)
			require.Empty(t, j.Alert, name)
			require.Equal(t, c.kind, j.Kind, name)
			require.Equal(t, "now", j.Observation.Provider, name)
			require.Nil(t, at(c.recorded, 59).After(j).Pending, name)
		}
	})
	t.Run("AcceptedBefore", func(t *testing.T) {
		recorded := at(drift.RecordedRow{
			Provider: "then", State: &drift.State{Kind: drift.InSync, ProviderID: rowID, DBHash: "db"}, Accepted: &drift.Acceptance{Kind: drift.Unmanaged, DBHash: "db"},
		}, 0)
		j := recorded.Judge(other, drift.AlertUnmanaged)
		require.Equal(t, drift.InSync, j.Kind, "what is recorded stands")
		require.False(t, j.NewState || j.IsAccepted())
		require.True(t, j.NewPending)
		require.NotNil(t, j.Withdrawn)
		j = at(recorded.After(j), 60).Judge(other, drift.AlertUnmanaged)
		require.Equal(t, drift.Unmanaged, j.Alert)
	})
	t.Run("Known", func(t *testing.T) {
		known := at(drift.RecordedRow{State: &drift.State{Kind: drift.Known, ProviderID: rowID}}, 0)
		require.False(t, known.Judge(there, drift.AlertUnmanaged).IsNews())
	})
}
