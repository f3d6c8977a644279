package pubsub_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
)

// FuzzPayload publishes whatever rows, operators and other programs can put into
// a message. Each payload is one that PostgreSQL takes and that its schema
// allows, and is decoded to what was encoded, as far as it is not truncated.
func FuzzPayload(f *testing.F) {
	f.Add("openai", "https://h/", "us-east-1", "operator:root", "provider.create", `{"keys":1}`, int64(1782900000123456), int64(7))
	f.Add("a\xff\x00<&>\u2028", strings.Repeat(`"`, 3000), "\\", strings.Repeat("\x01", 300), strings.Repeat("é", 200), "", int64(-1), int64(1))
	f.Add(strings.Repeat("\x8a", 9000), "", "", "", "", "", int64(1), int64(1))
	f.Add("a", "", "", "", "", strings.Repeat("[", 10001)+strings.Repeat("]", 10001), int64(9e15), int64(1<<62))
	f.Add("a", "", "", "", strings.Repeat("x", 9000), "{", int64(253402300800000000), int64(1))
	f.Add("a", "", "", "", "", `{"a":"`+strings.Repeat("<", 2000)+`"}`, int64(-62167219200000001), int64(1))
	schemas := map[string]*jsonschema.Schema{}
	for _, name := range []string{"drift.json", "seeded.json", "audit.json", "status.json"} {
		schemas[name] = schema(f, name)
	}
	f.Fuzz(func(t *testing.T, name, one, other, actor, action, details string, micros, seq int64) {
		if name == "" {
			t.Skip("no provider is without a name")
		}
		when := time.UnixMicro(micros)
		id := uuid.NewSHA1(uuid.Nil, []byte(name))
		check := func(payload string, schema *jsonschema.Schema, into any) {
			require.Less(t, len(payload), 7900)
			require.True(t, utf8.ValidString(payload))
			require.NotContains(t, payload, "\x00")
			require.NotContains(t, payload, "\n", "one line")
			require.NoError(t, json.Unmarshal([]byte(payload), into))
			if schema != nil {
				require.NoError(t, schema.Validate(decoded(t, payload)), payload)
			}
		}
		cutOff := func(whole, got string, truncated bool) {
			if !truncated {
				require.Equal(t, invalidOneByOne(whole), got)
				return
			}
			require.True(t, strings.HasPrefix(invalidOneByOne(whole), got) || len(whole) > 256, "%q", got)
			require.LessOrEqual(t, len(got), 3*256)
		}
		sameDetails := func(whole string, got json.RawMessage) {
			// To the digit: numbers of a row can be larger than a float64, and more precise.
			var compact, escaped bytes.Buffer
			require.NoError(t, json.Compact(&compact, []byte(whole)))
			json.HTMLEscape(&escaped, compact.Bytes())
			require.Equal(t, escaped.String(), string(got))
		}
		time := func(got time.Time) {
			require.Equal(t, got.UTC(), got)
			if year := when.UTC().Year(); year >= 0 && year <= 9999 {
				require.True(t, got.Equal(when), "%v %v", got, when)
			}
		}

		var alert pubsub.DriftAlert
		check(pubsub.DriftAlert{
			ID: id, Seq: max(seq, 1), Kind: drift.Changed, Provider: name, Fields: []drift.Field{{Name: "base_url", Env: one, DB: other}},
			EnvHash: someHash, Source: pubsub.SourceWAL, DetectedAt: when, Commit: &pubsub.Commit{LSN: "0/1", XID: 1, CommittedAt: when},
		}.Payload(), schemas["drift.json"], &alert)
		require.Equal(t, max(seq, 1), alert.Seq)
		cutOff(name, alert.Provider, alert.Truncated)
		time(alert.DetectedAt)
		time(alert.CommittedAt)
		if alert.Truncated {
			require.Empty(t, alert.Fields)
		} else {
			require.Equal(t, []drift.Field{{Name: "base_url", Env: invalidOneByOne(one), DB: invalidOneByOne(other)}}, alert.Fields)
		}

		var seeded pubsub.Seeded
		check(pubsub.Seeded{Provider: name, ProviderID: id, Type: provider.OpenAI, BaseURL: one, SeededAt: when}.Payload(), schemas["seeded.json"], &seeded)
		cutOff(name, seeded.Provider, seeded.Truncated)
		time(seeded.SeededAt)

		var entry pubsub.AuditEntry
		check(pubsub.AuditEntry{
			ID: id, Actor: actor, Action: action, Provider: name, Details: json.RawMessage(details), OccurredAt: when,
		}.Payload(), nil, &entry)
		cutOff(actor, entry.Actor, entry.Truncated)
		cutOff(action, entry.Action, entry.Truncated)
		time(entry.OccurredAt)
		if !entry.Truncated {
			sameDetails(details, entry.Details)
		}

		// As they are staged: only then are details what the schema describes.
		changed, err := json.Marshal(audit.Details{BaseURL: one, Changes: []audit.Change{{Field: "base_url", Old: one, New: other}}})
		require.NoError(t, err)
		entry = pubsub.AuditEntry{}
		check(pubsub.AuditEntry{
			ID: id, Actor: "operator:" + actor, Action: string(audit.ProviderUpdated), Provider: name, ProviderID: &id, Details: changed, OccurredAt: when,
		}.Payload(), schemas["audit.json"], &entry)
		cutOff("operator:"+actor, entry.Actor, entry.Truncated)
		if !entry.Truncated {
			sameDetails(string(changed), entry.Details)
		}

		var status pubsub.Status
		check(pubsub.Status{Event: pubsub.EventSource, Worker: id, Version: "v" + actor, Reason: one, At: when}.Payload(), schemas["status.json"], &status)
		cutOff(one, status.Reason, true)
		time(status.At)
	})
}

// invalidOneByOne is what encoding/json makes of a text: each byte that is no
// UTF-8 becomes one replacement character.
func invalidOneByOne(s string) string { return string([]rune(s)) }
