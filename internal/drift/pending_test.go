package drift_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
)

// TestPending holds alerts until their drifts have lasted for 30 s.
func TestPending(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	observe := func(kind drift.Kind, dbHash, credentials string) drift.Observation {
		fields := []drift.Field{{Name: "base_url", Env: "env", DB: dbHash}}
		if kind == drift.InSync {
			fields = nil
		}
		return drift.Observation{Provider: "a", ProviderID: rowID, Kind: kind, EnvHash: "env", DBHash: dbHash, Credentials: credentials, Fields: fields}
	}
	inSync := drift.Recorded{State: &drift.State{Kind: drift.InSync, ProviderID: rowID, EnvHash: "env", DBHash: "env"}, AlertAfter: 30 * time.Second, At: start}
	at := func(r drift.Recorded, seconds int) drift.Recorded {
		r.At = start.Add(time.Duration(seconds) * time.Second)
		return r
	}
	pend := func(o drift.Observation) drift.Recorded {
		j := inSync.Judge(o)
		require.True(t, j.NewPending)
		j.Pending.Shown = drift.Evidence{Source: "wal", LSN: "0/1", XID: 7, CommittedAt: start}
		return inSync.After(j)
	}
	changed := observe(drift.Changed, "db", "")
	pending := pend(changed)

	j := inSync.Judge(changed)
	require.Empty(t, j.Alert)
	require.False(t, j.NewState, "what is recorded stands")
	require.False(t, j.IsAccepted())
	require.False(t, j.IsSettled())
	require.True(t, j.IsNews())
	require.Equal(t, drift.InSync, j.Kind)
	require.Equal(t, &drift.Pending{
		State:  drift.State{Kind: drift.Changed, ProviderID: rowID, EnvHash: "env", DBHash: "db"},
		Fields: changed.Fields, Moved: drift.UnknownMoved, Since: start,
	}, j.Pending)
	require.Equal(t, inSync.State, pending.State)

	// It lasts: nothing is news until it has lasted for long enough.
	require.False(t, at(pending, 29).Judge(changed).IsNews())
	j = at(pending, 30).Judge(changed)
	require.Equal(t, drift.Changed, j.Alert)
	require.True(t, j.NewState && j.EndsPending)
	require.Equal(t, pending.Pending.Shown, j.Shown)
	require.Nil(t, pending.After(j).Pending)
	require.Equal(t, drift.Changed, pending.After(j).State.Kind)

	// Other values and another kind do not restart the time.
	other := at(pending, 20).Judge(observe(drift.Disabled, "db2", ""))
	require.True(t, other.NewPending)
	require.Equal(t, start, other.Pending.Since)
	require.Empty(t, other.Pending.Shown, "something else has shown it")
	require.Equal(t, drift.Disabled, other.Pending.Kind)
	j = at(pending.After(other), 30).Judge(observe(drift.Changed, "db3", ""))
	require.Equal(t, drift.Changed, j.Alert)
	require.Empty(t, j.Shown)

	// Where the clock is set back, as by a failover, it counts from then on.
	back := at(pending, -3600).Judge(changed)
	require.True(t, back.NewPending)
	require.Equal(t, start.Add(-time.Hour), back.Pending.Since)
	require.Equal(t, pending.Pending.Shown, back.Pending.Shown)
	require.Equal(t, drift.Changed, at(pending.After(back), -3570).Judge(changed).Alert)

	// It ends before.
	j = at(pending, 29).Judge(observe(drift.InSync, "env", ""))
	require.Empty(t, j.Alert)
	require.True(t, j.EndsPending && j.IsNews())
	require.False(t, j.NewState)
	require.Nil(t, pending.After(j).Pending)
	again := at(pending.After(j), 40).Judge(changed)
	require.Equal(t, start.Add(40*time.Second), again.Pending.Since, "another drift has its own time")

	// What cannot be compared leaves it pending.
	unreadable := drift.Observation{Provider: "a", ProviderID: rowID, Kind: drift.NotComparable, EnvHash: "env", Unreadable: errors.New("settings")}
	j = at(pending, 60).Judge(unreadable)
	require.Empty(t, j.Alert)
	require.False(t, j.EndsPending || j.NewPending)

	// A drift that was alerted before is alerted at once when it changes.
	alerted := inSync
	alerted.State = &drift.State{Kind: drift.Disabled, ProviderID: rowID, EnvHash: "env", DBHash: "env"}
	require.Equal(t, drift.Changed, alerted.Judge(changed).Alert)
	require.Equal(t, drift.Resolved, alerted.Judge(observe(drift.InSync, "env", "")).Alert)

	// Without a least time, a pending drift is alerted at once.
	pending.AlertAfter = 0
	require.Equal(t, drift.Changed, pending.Judge(changed).Alert)
	// The first observation of a provider has a time as well.
	require.NotNil(t, drift.Recorded{AlertAfter: time.Second}.Judge(changed).Pending)
}

// TestPendingCredentials has a drift of credentials pending, of which the WAL knows nothing.
func TestPendingCredentials(t *testing.T) {
	t.Parallel()
	inSync := drift.Recorded{State: &drift.State{Kind: drift.InSync, ProviderID: rowID, EnvHash: "env", DBHash: "env"}, AlertAfter: time.Minute}
	o := drift.Observation{Provider: "a", ProviderID: rowID, Kind: drift.Changed, EnvHash: "env", DBHash: "env", Credentials: "1 of 2"}
	pending := inSync.After(inSync.Judge(o))
	row := o
	row.Kind, row.Credentials = drift.InSync, ""
	j, judged := pending.JudgeRow(row, true)
	require.True(t, judged)
	require.False(t, j.EndsPending, "the row does not show the credentials")
	require.Equal(t, "1 of 2", j.Pending.Credentials)
	require.False(t, j.NewPending)
}

// TestLasted judges a pending drift by the time of a later commit.
func TestLasted(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	pending := drift.Recorded{
		State: &drift.State{Kind: drift.InSync, ProviderID: rowID}, AlertAfter: 30 * time.Second, At: start.Add(29 * time.Second), NotComparable: "settings",
		Pending: &drift.Pending{
			State: drift.State{Kind: drift.Disabled, ProviderID: rowID, EnvHash: "env", DBHash: "db"}, Fields: []drift.Field{drift.RowDisabled},
			Moved: drift.DatabaseMoved, Since: start, Shown: drift.Evidence{Source: "wal", XID: 7},
		},
	}
	_, lasted := pending.Lasted("a")
	require.False(t, lasted)
	pending.At = start.Add(30 * time.Second)
	j, lasted := pending.Lasted("a")
	require.True(t, lasted)
	require.Equal(t, drift.Disabled, j.Alert)
	require.Equal(t, drift.DatabaseMoved, j.Moved)
	require.Equal(t, []drift.Field{drift.RowDisabled}, j.Observation.Fields)
	require.Equal(t, pending.Pending.Shown, j.Shown)
	require.Equal(t, pending.Pending.State, j.State())
	require.False(t, j.NewReason)
	after := pending.After(j)
	require.Nil(t, after.Pending)
	resolved := after.Judge(drift.Observation{Provider: "a", ProviderID: rowID, Kind: drift.InSync, EnvHash: "env", DBHash: "env"})
	require.Equal(t, drift.Resolved, resolved.Alert)

	// A worker of another version has alerted it meanwhile.
	pending.State = &drift.State{Kind: drift.Disabled, ProviderID: rowID}
	_, lasted = pending.Lasted("a")
	require.False(t, lasted)
	_, lasted = drift.Recorded{}.Lasted("a")
	require.False(t, lasted)
}

// TestAcceptedPending has a pending drift accepted before it has lasted, while no worker runs: the
// drift ended then, whatever a worker sees later.
func TestAcceptedPending(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	held := drift.State{Kind: drift.Changed, ProviderID: rowID, EnvHash: "env", DBHash: "db"}
	provider := func(accepted, now int) drift.Recorded {
		return drift.Recorded{
			State: &drift.State{Kind: drift.InSync, ProviderID: rowID, EnvHash: "env", DBHash: "env"}, AlertAfter: 30 * time.Second, At: at(now),
			Pending:  &drift.Pending{State: held, Since: began},
			Accepted: &drift.Acceptance{Kind: drift.Changed, EnvHash: "env", DBHash: "db", AcceptedAt: at(accepted), At: at(now)},
		}
	}
	row := func(accepted, now int) drift.RecordedRow {
		held := drift.State{Kind: drift.Unmanaged, ProviderID: rowID, DBHash: "db"}
		return drift.RecordedRow{
			Provider: "rogue", AlertAfter: 30 * time.Second, At: at(now), Pending: &drift.Pending{State: held, Since: began},
			Accepted: &drift.Acceptance{Kind: drift.Unmanaged, DBHash: "db", AcceptedAt: at(accepted), At: at(now)},
		}
	}
	same := drift.Observation{Provider: "a", ProviderID: rowID, Kind: drift.Changed, EnvHash: "env", DBHash: "db"}
	other := same
	other.DBHash = "other"
	rowSame := drift.Observation{Provider: "rogue", ProviderID: rowID, OfRow: true, Kind: drift.Unmanaged, DBHash: "db"}
	rowOther := rowSame
	rowOther.DBHash = "other"
	for name, c := range map[string]struct {
		lasted                func(accepted, now int) bool
		judgeSame, judgeOther func(accepted, now int) drift.Judgement
		alert                 drift.Kind
	}{
		"provider": {
			func(accepted, now int) bool { _, lasted := provider(accepted, now).Lasted("a"); return lasted },
			func(accepted, now int) drift.Judgement { return provider(accepted, now).Judge(same) },
			func(accepted, now int) drift.Judgement { return provider(accepted, now).Judge(other) },
			drift.Changed,
		},
		"row": {
			func(accepted, now int) bool {
				_, lasted := row(accepted, now).Lasted(rowID, drift.AlertUnmanaged)
				return lasted
			},
			func(accepted, now int) drift.Judgement {
				return row(accepted, now).JudgeCommit(rowSame, drift.AlertUnmanaged)
			},
			func(accepted, now int) drift.Judgement {
				return row(accepted, now).JudgeCommit(rowOther, drift.AlertUnmanaged)
			},
			drift.Unmanaged,
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.False(t, c.lasted(20, 40))
			require.True(t, c.lasted(30, 40), "it had lasted by then")
			require.True(t, c.lasted(-10, 40), "another drift was accepted")
			j := c.judgeSame(20, 40)
			require.True(t, j.EndsPending)
			require.Empty(t, j.Alert)
			require.True(t, j.IsAccepted())

			// Other values are another drift.
			j = c.judgeOther(20, 40)
			require.Empty(t, j.Alert)
			require.True(t, j.NewPending)
			require.Equal(t, at(40), j.Pending.Since)
			require.NotNil(t, j.Withdrawn)
			require.Equal(t, c.alert, c.judgeOther(30, 40).Alert)
			require.Equal(t, c.alert, c.judgeOther(-10, 40).Alert)
		})
	}
}

// TestAcceptedPendingExpired has the acceptance of a pending drift expire while no worker runs: the drift
// began again then.
func TestAcceptedPendingExpired(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return began.Add(time.Duration(minutes) * time.Minute) }
	// It was accepted after 5 minutes, for 5 more; readAt is when that was read.
	accepted := func(kind drift.Kind, env string, readAt int) *drift.Acceptance {
		return &drift.Acceptance{Kind: kind, EnvHash: env, DBHash: "db", AcceptedAt: at(5), Expires: at(10), At: at(readAt)}
	}
	provider := func(now, readAt int) drift.Recorded {
		return drift.Recorded{
			State: &drift.State{Kind: drift.InSync, ProviderID: rowID, EnvHash: "env", DBHash: "env"}, AlertAfter: 30 * time.Minute, At: at(now),
			Pending:  &drift.Pending{State: drift.State{Kind: drift.Changed, ProviderID: rowID, EnvHash: "env", DBHash: "db"}, Since: began},
			Accepted: accepted(drift.Changed, "env", readAt),
		}
	}
	row := func(now, readAt int) drift.RecordedRow {
		return drift.RecordedRow{
			Provider: "rogue", AlertAfter: 30 * time.Minute, At: at(now),
			Pending:  &drift.Pending{State: drift.State{Kind: drift.Unmanaged, ProviderID: rowID, DBHash: "db"}, Since: began},
			Accepted: accepted(drift.Unmanaged, "", readAt),
		}
	}
	same := drift.Observation{Provider: "a", ProviderID: rowID, Kind: drift.Changed, EnvHash: "env", DBHash: "db"}
	rowSame := drift.Observation{Provider: "rogue", ProviderID: rowID, OfRow: true, Kind: drift.Unmanaged, DBHash: "db"}
	for name, c := range map[string]struct {
		lasted func(now, readAt int) bool
		judge  func(now, readAt int) drift.Judgement
		alert  drift.Kind
	}{
		"provider": {
			func(now, readAt int) bool { _, lasted := provider(now, readAt).Lasted("a"); return lasted },
			func(now, readAt int) drift.Judgement { return provider(now, readAt).Judge(same) },
			drift.Changed,
		},
		"row": {
			func(now, readAt int) bool {
				_, lasted := row(now, readAt).Lasted(rowID, drift.AlertUnmanaged)
				return lasted
			},
			func(now, readAt int) drift.Judgement { return row(now, readAt).Judge(rowSame, drift.AlertUnmanaged) },
			drift.Unmanaged,
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.False(t, c.lasted(39, 60))
			require.True(t, c.lasted(40, 60), "it has lasted since the acceptance expired")
			require.False(t, c.lasted(9, 9), "it is accepted")
			require.False(t, c.lasted(60, 9), "it was accepted when that was read")
			j := c.judge(20, 20)
			require.True(t, j.NewPending)
			require.Equal(t, at(10), j.Pending.Since)
			require.NotNil(t, j.Withdrawn)
			require.Equal(t, c.alert, c.judge(60, 60).Alert, "a start does not begin its time again")
		})
	}
}
