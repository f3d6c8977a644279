package drift_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

func TestObserveRow(t *testing.T) {
	row := provider.Row{ID: rowID, Name: "rogue", Type: provider.Anthropic, BaseURL: "https://user:q7zleak@h/?key=q7zleak", Enabled: true}
	row.Settings = (&provider.Bedrock{Region: "us-east-1"}).Encode()
	with := func(change func(*provider.Row)) *provider.Row {
		changed := row
		change(&changed)
		return &changed
	}

	o := drift.ObserveRow(hasher, &row, false)
	require.Equal(t, drift.Unmanaged, o.Kind)
	require.Equal(t, drift.Subject{Row: rowID}, o.Subject())
	require.Equal(t, hasher.Hash(provider.Canonical{Type: provider.AmazonBedrock, BaseURL: row.BaseURL, BedrockRegion: "us-east-1"}), o.DBHash)
	require.Empty(t, o.EnvHash)
	require.Equal(t, []drift.Field{
		{Name: "type", DB: "anthropic (Bedrock)"}, {Name: "base_url", DB: "https://h/"}, {Name: "bedrock_region", DB: "us-east-1"},
	}, o.Fields)

	for name, o := range map[string]drift.Observation{
		"disabled":               drift.ObserveRow(hasher, with(func(r *provider.Row) { r.Enabled = false }), false),
		"soft-deleted":           drift.ObserveRow(hasher, with(func(r *provider.Row) { r.Deleted = true }), false),
		"named":                  drift.ObserveRow(hasher, &row, true),
		"gone":                   drift.GoneRow(rowID),
		"disabled, as the named": drift.ObserveRow(hasher, with(func(r *provider.Row) { r.Enabled = false }), true),
	} {
		require.Equal(t, drift.InSync, o.Kind, name)
		require.Empty(t, o.Fields, name)
		require.Equal(t, rowID, o.Subject().Row, name)
	}

	unreadable := drift.ObserveRow(hasher, with(func(r *provider.Row) { r.SettingsKeyID = "k" }), false)
	require.Equal(t, drift.Unmanaged, unreadable.Kind, "it is enabled, whatever its settings")
	require.Error(t, unreadable.Unreadable)
	require.Empty(t, unreadable.DBHash)
	require.Equal(t, "settings", unreadable.Fields[2].Name)

	hashes := provider.RowHashes{Alone: "of the mirror"}
	require.Equal(t, "of the mirror", drift.ObserveRow(hasher, with(func(r *provider.Row) { r.Hashes = &hashes }), false).DBHash)
	require.Equal(t, drift.Subject{Provider: "a"}, drift.Observation{Provider: "a", ProviderID: rowID}.Subject())
}

func TestJudgeUnmanaged(t *testing.T) {
	const hash = "db"
	state := func(kind drift.Kind) *drift.State { return &drift.State{Kind: kind, ProviderID: rowID, DBHash: hash} }
	there := drift.Observation{Provider: "now", ProviderID: rowID, OfRow: true, Kind: drift.Unmanaged, DBHash: hash}
	with := func(change func(*drift.Observation)) drift.Observation {
		o := there
		change(&o)
		return o
	}
	other := with(func(o *drift.Observation) { o.DBHash = "db2" })
	unreadable := with(func(o *drift.Observation) { o.DBHash, o.Unreadable = "", errors.New("settings") })
	disabled := with(func(o *drift.Observation) { o.Kind = drift.InSync })
	named := with(func(o *drift.Observation) { o.Kind, o.IsNamed = drift.InSync, true })
	accepted := &drift.Acceptance{Kind: drift.Unmanaged, DBHash: hash}
	now := time.Now()
	expired := &drift.Acceptance{Kind: drift.Unmanaged, DBHash: hash, Expires: now, At: now}
	alerted := drift.RecordedRow{Provider: "then", State: state(drift.Unmanaged), AlertSeq: 7}
	for name, c := range map[string]struct {
		recorded        drift.RecordedRow
		o               drift.Observation
		mode            drift.UnmanagedMode
		kind, alert     drift.Kind
		how             drift.How
		provider        string
		news, withdrawn bool
	}{
		"nothing":                                {drift.RecordedRow{}, disabled, drift.AlertUnmanaged, "", "", "", "now", false, false},
		"a new row":                              {drift.RecordedRow{}, there, drift.AlertUnmanaged, drift.Unmanaged, drift.Unmanaged, "", "now", true, false},
		"a new row that cannot be read":          {drift.RecordedRow{}, unreadable, drift.AlertUnmanaged, drift.Unmanaged, drift.Unmanaged, "", "now", true, false},
		"a row that was named before":            {drift.RecordedRow{NamedBefore: true}, there, drift.AlertUnmanaged, drift.Known, "", "", "now", true, false},
		"a row that is named":                    {drift.RecordedRow{NamedBefore: true}, named, drift.AlertUnmanaged, "", "", "", "now", false, false},
		"a new row that was accepted":            {drift.RecordedRow{Accepted: accepted}, there, drift.AlertUnmanaged, drift.InSync, "", "", "now", true, false},
		"a known row":                            {drift.RecordedRow{State: state(drift.Known)}, other, drift.AlertUnmanaged, drift.Known, "", "", "now", false, false},
		"a known row is disabled":                {drift.RecordedRow{State: state(drift.Known)}, disabled, drift.AlertUnmanaged, "", "", "", "now", true, false},
		"a known row is gone":                    {drift.RecordedRow{State: state(drift.Known)}, drift.GoneRow(rowID), drift.AlertUnmanaged, "", "", "", "", true, false},
		"a known row with an acceptance":         {drift.RecordedRow{State: state(drift.Known), Accepted: accepted}, other, drift.AlertUnmanaged, drift.Known, "", "", "now", true, true},
		"a drift lasts":                          {alerted, there, drift.AlertUnmanaged, drift.Unmanaged, "", "", "then", false, false},
		"a drift with other values":              {alerted, other, drift.AlertUnmanaged, drift.Unmanaged, "", "", "then", false, false},
		"a drift is disabled":                    {alerted, disabled, drift.AlertUnmanaged, "", drift.Resolved, drift.Reverted, "then", true, false},
		"a drift is gone":                        {alerted, drift.GoneRow(rowID), drift.AlertUnmanaged, "", drift.Resolved, drift.Reverted, "then", true, false},
		"a drift is named":                       {alerted, named, drift.AlertUnmanaged, "", drift.Resolved, drift.EnvironmentChanged, "then", true, false},
		"a drift is accepted":                    {drift.RecordedRow{Provider: "then", State: state(drift.Unmanaged), Accepted: accepted}, there, drift.AlertUnmanaged, drift.InSync, drift.Resolved, drift.Accepted, "then", true, false},
		"an acceptance of other values":          {drift.RecordedRow{Provider: "then", State: state(drift.Unmanaged), Accepted: accepted}, other, drift.AlertUnmanaged, drift.Unmanaged, "", "", "then", true, true},
		"an accepted drift lasts":                {drift.RecordedRow{State: state(drift.InSync), Accepted: accepted}, there, drift.AlertUnmanaged, drift.InSync, "", "", "now", false, false},
		"an accepted drift that cannot be read":  {drift.RecordedRow{State: state(drift.InSync), Accepted: accepted}, unreadable, drift.AlertUnmanaged, drift.InSync, "", "", "now", false, false},
		"an accepted drift gets other values":    {drift.RecordedRow{State: state(drift.InSync), Accepted: accepted}, other, drift.AlertUnmanaged, drift.Unmanaged, drift.Unmanaged, "", "now", true, true},
		"an acceptance ends":                     {drift.RecordedRow{State: state(drift.InSync), Accepted: expired}, there, drift.AlertUnmanaged, drift.Unmanaged, drift.Unmanaged, "", "now", true, true},
		"an accepted drift is disabled":          {drift.RecordedRow{State: state(drift.InSync), Accepted: accepted}, disabled, drift.AlertUnmanaged, "", "", "", "now", true, true},
		"a new row, warned of":                   {drift.RecordedRow{}, there, drift.WarnUnmanaged, "", "", "", "now", false, false},
		"a named row, with a warning":            {drift.RecordedRow{NamedBefore: true}, there, drift.WarnUnmanaged, drift.Known, "", "", "now", true, false},
		"a drift, warned of from now on":         {alerted, there, drift.WarnUnmanaged, "", drift.Resolved, drift.EnvironmentChanged, "then", true, false},
		"a drift, ignored from now on":           {alerted, there, drift.IgnoreUnmanaged, "", drift.Resolved, drift.EnvironmentChanged, "then", true, false},
		"an accepted drift, ignored from now on": {drift.RecordedRow{State: state(drift.InSync), Accepted: accepted}, there, drift.IgnoreUnmanaged, "", "", "", "now", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			j := c.recorded.Judge(c.o, c.mode)
			require.Equal(t, c.kind, j.Kind, "kind")
			require.Equal(t, c.alert, j.Alert, "alert")
			require.Equal(t, c.how, j.How, "how")
			require.Equal(t, c.provider, j.Observation.Provider, "provider")
			require.Equal(t, c.news, j.IsNews(), "news")
			require.Equal(t, c.withdrawn, j.Withdrawn != nil, "withdrawn")
			if c.alert == drift.Unmanaged {
				require.Equal(t, drift.DatabaseMoved, j.Moved)
			}
			require.Equal(t, c.recorded.AlertSeq, j.AlertSeq)
			require.False(t, c.recorded.After(j).Judge(c.o, c.mode).IsNews(), "what was recorded is no news")
		})
	}
}

func TestUnmanagedRow(t *testing.T) {
	o := drift.Observation{Provider: "a", ProviderID: rowID, OfRow: true, Kind: drift.Unmanaged, DBHash: "db"}
	accepted := &drift.Acceptance{Kind: drift.Unmanaged, DBHash: "db", Expires: time.Unix(9, 0), At: time.Unix(8, 0)}
	for name, c := range map[string]struct {
		recorded                       drift.RecordedRow
		isAlerted, isAccepted, isDrift bool
	}{
		"not recorded":       {drift.RecordedRow{}, false, false, false},
		"known":              {drift.RecordedRow{State: &drift.State{Kind: drift.Known}}, false, false, false},
		"known and accepted": {drift.RecordedRow{State: &drift.State{Kind: drift.Known}, Accepted: accepted}, false, true, false},
		"alerted":            {drift.RecordedRow{State: &drift.State{Kind: drift.Unmanaged}}, true, false, true},
		"just accepted":      {drift.RecordedRow{State: &drift.State{Kind: drift.Unmanaged}, Accepted: accepted}, true, true, false},
		"accepted":           {drift.RecordedRow{State: &drift.State{Kind: drift.InSync}, Accepted: accepted}, true, true, false},
		"no longer accepted": {drift.RecordedRow{State: &drift.State{Kind: drift.InSync}}, true, false, true},
		"accepted otherwise": {drift.RecordedRow{State: &drift.State{Kind: drift.InSync}, Accepted: &drift.Acceptance{DBHash: "other"}}, true, false, true},
	} {
		u := drift.UnmanagedRow{Observation: o, Recorded: c.recorded}
		require.Equal(t, []bool{c.isAlerted, c.isAccepted, c.isDrift}, []bool{u.IsAlerted(), u.IsAccepted(), u.IsDrift()}, name)
	}
	require.Equal(t, time.Unix(9, 0), drift.UnmanagedRow{Recorded: drift.RecordedRow{Accepted: accepted}}.AcceptedUntil())
	require.Zero(t, drift.UnmanagedRow{}.AcceptedUntil())
}

// TestUnmanagedProperty has a row of the provider table, and what the environment names,
// change in any order, and compares the alerts with what must be alerted.
func TestUnmanagedProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := &provider.Row{ID: uuid.UUID{1}, Name: "a", Type: provider.OpenAI}
		var recorded drift.RecordedRow
		named, known, alerted := false, false, false
		isThere := func() bool { return row != nil && row.Enabled && !row.Deleted && !named }
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"enable", "disable", "delete", "values", "name", "drop", "gone"}).Draw(t, "step") {
			case "enable":
				row.Enabled, row.Deleted = true, false
			case "disable":
				row.Enabled = false
			case "delete":
				row.Deleted = true
			case "values":
				row.BaseURL += "/"
			case "name":
				named = true
			case "drop":
				known = known || named && row.Enabled && !row.Deleted
				recorded.NamedBefore, named = named, false
			case "gone":
				require.False(t, recorded.Judge(drift.GoneRow(uuid.UUID{2}), drift.AlertUnmanaged).Alert == drift.Unmanaged)
			}
			o := drift.ObserveRow(hasher, row, named)
			j := recorded.Judge(o, drift.AlertUnmanaged)
			known = known && isThere()
			want := drift.Kind("")
			switch now := isThere() && !known; {
			case now && !alerted:
				want = drift.Unmanaged
			case !now && alerted:
				want = drift.Resolved
			}
			require.Equal(t, want, j.Alert)
			alerted = isThere() && !known
			recorded = recorded.After(j)
			recorded.NamedBefore = false // nothing recorded shows it any more
			require.False(t, recorded.Judge(o, drift.AlertUnmanaged).IsNews())
		}
	})
}
