package drift_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
)

func TestJudge(t *testing.T) {
	const env, db = "env", "db"
	unreadable, encryptedKey := errors.New("settings"), errors.New("key")
	state := func(kind drift.Kind, dbHash, credentials string) *drift.State {
		return &drift.State{Kind: kind, ProviderID: rowID, EnvHash: env, DBHash: dbHash, Credentials: credentials}
	}
	observe := func(kind drift.Kind, dbHash string) drift.Observation {
		return drift.Observation{Provider: "a", ProviderID: rowID, Kind: kind, EnvHash: env, DBHash: dbHash}
	}
	with := func(o drift.Observation, change func(*drift.Observation)) drift.Observation {
		change(&o)
		return o
	}
	unread := func(o *drift.Observation) { o.Unreadable, o.DBHash = unreadable, "" }
	unreadKey := func(o *drift.Observation) { o.UnreadableCredentials = encryptedKey }
	credentials := func(o *drift.Observation) { o.Credentials = "1 of 2" }
	otherEnv := func(o *drift.Observation) { o.EnvHash = "other" }
	inSync, changed := state(drift.InSync, env, ""), state(drift.Changed, db, "")
	accepted := &drift.Acceptance{Kind: drift.Changed, EnvHash: env, DBHash: db}

	for name, c := range map[string]struct {
		recorded    drift.Recorded
		o           drift.Observation
		kind, alert drift.Kind
		newState    bool
		reason      string
		newReason   bool
		withdrawn   bool
	}{
		"in sync for the first time":        {drift.Recorded{}, observe(drift.InSync, env), drift.InSync, "", true, "", false, false},
		"in sync as before":                 {drift.Recorded{State: inSync}, observe(drift.InSync, env), drift.InSync, "", false, "", false, false},
		"a drift begins":                    {drift.Recorded{State: inSync}, observe(drift.Changed, db), drift.Changed, drift.Changed, true, "", false, false},
		"a drift that was never recorded":   {drift.Recorded{}, observe(drift.Disabled, env), drift.Disabled, drift.Disabled, true, "", false, false},
		"a drift lasts":                     {drift.Recorded{State: changed}, observe(drift.Changed, db), drift.Changed, "", false, "", false, false},
		"a drift to other values":           {drift.Recorded{State: changed}, observe(drift.Changed, "db2"), drift.Changed, drift.Changed, true, "", false, false},
		"a drift of another kind":           {drift.Recorded{State: changed}, observe(drift.Disabled, db), drift.Disabled, drift.Disabled, true, "", false, false},
		"a drift ends":                      {drift.Recorded{State: changed}, observe(drift.InSync, env), drift.InSync, drift.Resolved, true, "", false, false},
		"credentials drift":                 {drift.Recorded{State: inSync}, with(observe(drift.Changed, env), credentials), drift.Changed, drift.Changed, true, "", false, false},
		"credentials drift otherwise":       {drift.Recorded{State: state(drift.Changed, env, "2 of 2")}, with(observe(drift.Changed, env), credentials), drift.Changed, drift.Changed, true, "", false, false},
		"missing, with another environment": {drift.Recorded{State: state(drift.Missing, "", "")}, with(observe(drift.Missing, ""), otherEnv), drift.Missing, "", true, "", false, false},
		"deleted, with other values":        {drift.Recorded{State: state(drift.Deleted, db, "")}, observe(drift.Deleted, "db2"), drift.Deleted, "", true, "", false, false},

		"an accepted drift is in sync":          {drift.Recorded{State: inSync, Accepted: accepted}, observe(drift.Changed, db), drift.InSync, "", true, "", false, false},
		"accepting a drift ends it":             {drift.Recorded{State: changed, Accepted: accepted}, observe(drift.Changed, db), drift.InSync, drift.Resolved, true, "", false, false},
		"an accepted drift to other values":     {drift.Recorded{State: state(drift.InSync, db, ""), Accepted: accepted}, observe(drift.Changed, "db2"), drift.Changed, drift.Changed, true, "", false, true},
		"an accepted drift of another kind":     {drift.Recorded{State: state(drift.InSync, db, ""), Accepted: accepted}, observe(drift.Disabled, db), drift.Disabled, drift.Disabled, true, "", false, false},
		"an accepted drift that is over":        {drift.Recorded{State: state(drift.InSync, db, ""), Accepted: accepted}, observe(drift.InSync, env), drift.InSync, "", true, "", false, true},
		"an accepted disabling that is over":    {drift.Recorded{State: inSync, Accepted: &drift.Acceptance{Kind: drift.Disabled, EnvHash: env, DBHash: env}}, observe(drift.InSync, env), drift.InSync, "", false, "", false, true},
		"an acceptance of another environment":  {drift.Recorded{State: state(drift.InSync, db, ""), Accepted: accepted}, with(observe(drift.Changed, db), otherEnv), drift.Changed, drift.Changed, true, "", false, false},
		"an acceptance of an unreadable row":    {drift.Recorded{State: state(drift.InSync, db, ""), Accepted: accepted}, with(observe(drift.NotComparable, ""), unread), drift.InSync, "", false, "settings", true, false},
		"an accepted deletion that is not read": {drift.Recorded{State: state(drift.InSync, db, ""), Accepted: &drift.Acceptance{Kind: drift.Deleted, EnvHash: env, DBHash: db}}, with(observe(drift.Deleted, ""), unread), drift.InSync, "", false, "", false, false},

		"an unreadable row":                           {drift.Recorded{State: inSync}, with(observe(drift.NotComparable, ""), unread), drift.InSync, "", false, "settings", true, false},
		"an unreadable row that drifts":               {drift.Recorded{State: changed}, with(observe(drift.NotComparable, ""), unread), drift.Changed, "", false, "settings", true, false},
		"an unreadable row as before":                 {drift.Recorded{State: changed, NotComparable: "settings"}, with(observe(drift.NotComparable, ""), unread), drift.Changed, "", false, "settings", false, false},
		"an unreadable row of which nothing is known": {drift.Recorded{}, with(observe(drift.NotComparable, ""), unread), drift.InSync, "", false, "settings", true, false},
		"a row that can be read again":                {drift.Recorded{State: inSync, NotComparable: "settings"}, observe(drift.InSync, env), drift.InSync, "", false, "", true, false},
		"unreadable keys":                             {drift.Recorded{State: inSync}, with(observe(drift.NotComparable, env), unreadKey), drift.InSync, "", false, "key", true, false},
		"unreadable keys, with another environment":   {drift.Recorded{State: inSync}, with(with(observe(drift.NotComparable, env), unreadKey), otherEnv), drift.InSync, "", false, "key", true, false},
		"unreadable keys of a disabled row":           {drift.Recorded{State: state(drift.Disabled, env, "1 of 2")}, with(observe(drift.Disabled, env), unreadKey), drift.Disabled, "", false, "", false, false},
		"unreadable keys end another drift":           {drift.Recorded{State: changed}, with(observe(drift.NotComparable, env), unreadKey), drift.InSync, drift.Resolved, true, "key", true, false},
		"unreadable keys end no drift of credentials": {drift.Recorded{State: state(drift.Changed, env, "1 of 2")}, with(observe(drift.NotComparable, env), unreadKey), drift.Changed, "", false, "key", true, false},
		"unreadable keys leave what drifts beside":    {drift.Recorded{State: state(drift.Changed, db, "1 of 2")}, with(observe(drift.NotComparable, env), unreadKey), drift.Changed, drift.Changed, true, "key", true, false},
		"unreadable keys of a row that drifts":        {drift.Recorded{State: state(drift.Changed, db, "1 of 2")}, with(observe(drift.Changed, db), unreadKey), drift.Changed, "", false, "", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			j := c.recorded.Judge(c.o)
			require.Equal(t, c.kind, j.Kind, "kind")
			require.Equal(t, c.alert, j.Alert, "alert")
			require.Equal(t, c.newState, j.NewState, "new state")
			require.Equal(t, c.reason, j.Reason, "reason")
			require.Equal(t, c.newReason, j.NewReason, "new reason")
			require.Equal(t, c.withdrawn, j.Withdrawn != nil, "withdrawn")
			require.Equal(t, c.newState || c.newReason || c.withdrawn || c.alert != "", j.IsNews())
			require.Equal(t, c.kind == drift.InSync && c.o.IsDrift(), j.IsAccepted())
		})
	}

	t.Run("a row that is gone keeps its id", func(t *testing.T) {
		j := drift.Recorded{State: changed}.Judge(drift.Observation{Provider: "a", Kind: drift.Missing, EnvHash: env})
		require.Equal(t, rowID, j.Observation.ProviderID)
		require.Equal(t, drift.State{Kind: drift.Missing, ProviderID: rowID, EnvHash: env}, j.State())
	})
	t.Run("an accepted deletion that is not read keeps its hash", func(t *testing.T) {
		a := &drift.Acceptance{Kind: drift.Deleted, EnvHash: env, DBHash: db}
		require.Equal(t, db, drift.Recorded{Accepted: a}.Judge(with(observe(drift.Deleted, ""), unread)).State().DBHash)
	})
}

func TestJudgeRow(t *testing.T) {
	observe := func(kind drift.Kind, dbHash string) drift.Observation {
		return drift.Observation{Provider: "a", ProviderID: rowID, Kind: kind, EnvHash: "env", DBHash: dbHash}
	}
	recorded := drift.Recorded{State: &drift.State{Kind: drift.Changed, ProviderID: rowID, EnvHash: "env", DBHash: "env", Credentials: "1 of 2"}}
	t.Run("what is recorded of credentials stands", func(t *testing.T) {
		j, judged := recorded.JudgeRow(observe(drift.InSync, "env"), true)
		require.True(t, judged)
		require.False(t, j.IsNews())
		require.Equal(t, *recorded.State, j.State())
	})
	t.Run("a row that is gone has no credentials", func(t *testing.T) {
		j, judged := recorded.JudgeRow(observe(drift.Missing, ""), true)
		require.True(t, judged)
		require.Equal(t, drift.Missing, j.Alert)
		require.Empty(t, j.State().Credentials)
	})
	t.Run("a row that cannot be read shows no credentials", func(t *testing.T) {
		o := observe(drift.NotComparable, "")
		o.Unreadable = errors.New("settings")
		j, judged := recorded.JudgeRow(o, true)
		require.True(t, judged)
		require.Empty(t, j.Observation.Credentials)
	})
	t.Run("what is not comparable for its keys is not judged", func(t *testing.T) {
		unread := drift.Recorded{State: &drift.State{Kind: drift.InSync, EnvHash: "env", DBHash: "env"}, NotComparable: "key"}
		_, judged := unread.JudgeRow(observe(drift.InSync, "env"), true)
		require.False(t, judged)
		j, judged := unread.JudgeRow(observe(drift.InSync, "env"), false)
		require.True(t, judged)
		require.True(t, j.NewReason)
		_, judged = unread.JudgeRow(observe(drift.Changed, "db"), true)
		require.True(t, judged)
	})
}

func TestIsAccepted(t *testing.T) {
	state := &drift.State{Kind: drift.InSync, EnvHash: "env", DBHash: "db"}
	accepted := &drift.Acceptance{Kind: drift.Changed, EnvHash: "env", DBHash: "db"}
	require.True(t, drift.Recorded{State: state, Accepted: accepted}.IsAccepted())
	for name, r := range map[string]drift.Recorded{
		"nothing accepted":    {State: state},
		"nothing recorded":    {Accepted: accepted},
		"not judged since":    {State: &drift.State{Kind: drift.Changed, EnvHash: "env", DBHash: "db"}, Accepted: accepted},
		"another row since":   {State: &drift.State{Kind: drift.InSync, EnvHash: "env", DBHash: "env"}, Accepted: accepted},
		"another environment": {State: &drift.State{Kind: drift.InSync, EnvHash: "db", DBHash: "db"}, Accepted: accepted},
	} {
		t.Run(name, func(t *testing.T) { require.False(t, r.IsAccepted()) })
	}
}

func TestIsSettled(t *testing.T) {
	inSync := drift.Observation{Kind: drift.InSync}
	for name, c := range map[string]struct {
		j    drift.Judgement
		want bool
	}{
		"in sync":           {drift.Judgement{Kind: drift.InSync, Observation: inSync}, true},
		"drifts":            {drift.Judgement{Kind: drift.Changed, Observation: drift.Observation{Kind: drift.Changed}}, false},
		"an accepted drift": {drift.Judgement{Kind: drift.InSync, Observation: drift.Observation{Kind: drift.Changed}}, false},
		"not comparable":    {drift.Judgement{Kind: drift.InSync, Observation: inSync, Reason: "key"}, false},
		"its credentials":   {drift.Judgement{Kind: drift.InSync, Observation: drift.Observation{Kind: drift.InSync, Credentials: "1 of 2"}}, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.j.IsSettled()) })
	}
}

func TestUnnamed(t *testing.T) {
	j := drift.Unnamed("a", drift.State{Kind: drift.Changed, ProviderID: rowID, EnvHash: "env", DBHash: "db"}, 7)
	require.Equal(t, drift.Resolved, j.Alert)
	require.Equal(t, drift.InSync, j.Kind)
	require.False(t, j.NewState)
	require.Equal(t, drift.Observation{Provider: "a", ProviderID: rowID, DBHash: "db"}, j.Observation)
	require.False(t, drift.Unnamed("a", drift.State{Kind: drift.InSync}, 0).IsNews())
	require.False(t, drift.Unnamed("a", drift.State{}, 0).IsNews(), "nothing was recorded of it")
}

// TestExpiredAcceptance checks that a drift is news once its acceptance has expired, whichever
// way the row was read, and that the acceptance is withdrawn.
func TestExpiredAcceptance(t *testing.T) {
	end := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	o := drift.Observation{Provider: "a", ProviderID: rowID, Kind: drift.Disabled, EnvHash: "env", DBHash: "db"}
	r := drift.Recorded{
		State:    &drift.State{Kind: drift.InSync, ProviderID: rowID, EnvHash: "env", DBHash: "db"},
		Accepted: &drift.Acceptance{Kind: drift.Disabled, EnvHash: "env", DBHash: "db", Expires: end, At: end.Add(-time.Second)},
	}
	require.False(t, r.Judge(o).IsNews())
	require.True(t, r.IsAccepted())
	require.False(t, r.IsExpired())
	r.Accepted.At = end
	require.False(t, r.IsAccepted())
	require.True(t, r.IsExpired())
	row, judged := r.JudgeRow(o, true)
	require.True(t, judged)
	for _, j := range []drift.Judgement{r.Judge(o), row} {
		require.Equal(t, drift.Disabled, j.Alert)
		require.Equal(t, drift.Disabled, j.Kind)
		require.Equal(t, r.Accepted, j.Withdrawn)
		require.False(t, r.After(j).Judge(o).IsNews(), "once")
	}
	o.Kind, o.DBHash = drift.InSync, "env"
	require.Empty(t, r.Judge(o).Alert, "nothing drifts any more")
}
