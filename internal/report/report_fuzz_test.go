package report

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/sink"
	"provwatch/internal/status"
)

// FuzzAlert prints what rows can hold that anybody may have written: no control
// character of theirs reaches the terminal, and none of their line breaks makes a
// line that looks like one of ours.
func FuzzAlert(f *testing.F) {
	f.Add("a", "base_url", "https://h/", "\x1b[2J\n#2  resolved  a  (wal)", int64(1782900000), int64(1))
	f.Add("\u202e", "\x00", "\xff", "\u2028\ufffd", int64(-1), int64(-1))
	f.Add("", "", "", "", int64(1)<<40, int64(0))
	f.Fuzz(func(t *testing.T, name, field, env, db string, seconds, seq int64) {
		a := pubsub.DriftAlert{
			V: pubsub.Version, ID: uuid.UUID{1}, Seq: seq, Kind: drift.Kind(db), Provider: name, Source: pubsub.Source(env),
			Fields: []drift.Field{{Name: field, Env: env, DB: db}, {Name: db, Env: name, DB: field}}, DetectedAt: time.Unix(seconds, 0),
		}
		var out bytes.Buffer
		require.NoError(t, New(&out, false, false).Alert(a))
		requirePrintable(t, out.String(), 3)

		out.Reset()
		step := drift.Step{Desired: provider.Desired{Name: "a", Type: provider.OpenAI}, Action: drift.ActionDrifted}
		step.Observation = drift.Observation{Provider: "a", Kind: drift.Changed, Fields: a.Fields}
		require.NoError(t, New(&out, false, false).Verification(drift.Plan{Steps: []drift.Step{step}}, nil, drift.AlertUnmanaged))
		requirePrintable(t, out.String(), 4)

		out.Reset()
		require.NoError(t, New(&out, false, false).Status(status.Status{
			Database:  status.Database{Workers: []status.Session{{Role: env, Leads: true}}},
			Providers: []status.Provider{{Name: name, State: status.Drifted, Kind: drift.Kind(db), Fields: a.Fields}},
			Alerts:    []status.Alert{{Seq: seq, Kind: drift.Kind(env), Provider: db, Fields: a.Fields}},
			Audit:     []status.AuditEntry{{Actor: name, Action: audit.Action(field), Provider: db, Details: audit.Details{Type: env}}},
		}))
		requirePrintable(t, out.String(), 2+4+5+4+2)

		out.Reset()
		require.NoError(t, New(&out, false, false).Status(status.Status{
			Sinks:       []sink.Progress{{Sink: name, Stream: sink.Drift, DeadLetters: 1}},
			DeadLetters: []sink.DeadLetter{{Sink: name, Stream: sink.Drift, Provider: db, Reason: env, Seq: seq, Retry: true}},
		}))
		requirePrintable(t, out.String(), 2+5+2+1+1+2+1+2)

		out.Reset()
		err := New(&out, true, false).Alert(a)
		if year := a.DetectedAt.UTC().Year(); year < 0 || year > 9999 {
			return
		}
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(out.String(), "\n"))
		var again pubsub.DriftAlert
		require.NoError(t, json.Unmarshal(out.Bytes(), &again))
		require.Equal(t, seq, again.Seq)
		require.Equal(t, string([]rune(db)), again.Fields[0].DB)
	})
}

func requirePrintable(t *testing.T, text string, lines int) {
	require.Equal(t, lines, strings.Count(text, "\n"), "%q", text)
	for _, r := range strings.ReplaceAll(text, "\n", "") {
		require.True(t, strconv.IsPrint(r), "%q", text)
	}
}
