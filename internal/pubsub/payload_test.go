package pubsub_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
)

// schema compiles one of docs/schemas, with formats asserted.
func schema(t testing.TB, name string) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiled, err := compiler.Compile(filepath.Join("..", "..", "docs", "schemas", name))
	require.NoError(t, err)
	return compiled
}

func decoded(t require.TestingT, payload string) any {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(payload))
	require.NoError(t, err, payload)
	return value
}

var (
	someID   = uuid.MustParse("01a21075-bda0-777c-a681-7e292c6f4464")
	someTime = time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.FixedZone("", 2*3600))
	someHash = provider.Canonical{Type: provider.OpenAI}.Hash()
	long     = strings.Repeat("long ", 4000)
)

func driftAlert() pubsub.DriftAlert {
	return pubsub.DriftAlert{
		ID: someID, Seq: 7, Kind: drift.Changed, Provider: "openai", ProviderID: &someID,
		Fields:  []drift.Field{{Name: "base_url", Env: "https://a.example/", DB: "https://b.example/"}},
		EnvHash: someHash, DBHash: someHash, Source: pubsub.SourceNotify, DetectedAt: someTime, Epoch: someID,
	}
}

// ofNone returns an alert that is about no provider.
func ofNone(kind drift.Kind, certain *bool) pubsub.DriftAlert {
	return pubsub.DriftAlert{
		ID: someID, Seq: 8, Kind: kind, Source: pubsub.SourceWAL, DetectedAt: someTime, Epoch: someID, Reason: "it is gone", Certain: certain,
	}
}

func with[T any](message T, change func(*T)) T {
	change(&message)
	return message
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	t.Run("Payloads", testSchemasPayloads)
	t.Run("SeededTypes", testSchemasSeededTypes)
	t.Run("AreStrict", testSchemasAreStrict)
}

func testSchemasPayloads(t *testing.T) {
	t.Parallel()
	seeded := pubsub.Seeded{
		Provider: "openai", ProviderID: someID, Type: provider.OpenAI, BaseURL: "https://api.openai.com/v1/", Keys: 2, SeededAt: someTime,
	}
	entry := pubsub.AuditEntry{
		ID: someID, Actor: audit.System, Action: string(audit.ProviderCreated), Provider: "openai", ProviderID: &someID,
		Details: json.RawMessage(`{"type": "openai", "keys": 0}`), OccurredAt: someTime,
	}
	certain := false
	details := func(d audit.Details) json.RawMessage {
		encoded, err := json.Marshal(d)
		require.NoError(t, err)
		return encoded
	}

	type payload interface{ Payload() string }
	for _, c := range []struct {
		schema    string
		truncated bool
		message   payload
	}{
		{"drift.json", false, driftAlert()},
		{"drift.json", false, with(driftAlert(), func(a *pubsub.DriftAlert) {
			a.Kind, a.ProviderID, a.Fields, a.DBHash, a.Source = drift.Missing, nil, nil, "", pubsub.SourceBoot
		})},
		{"drift.json", false, with(driftAlert(), func(a *pubsub.DriftAlert) { a.Kind, a.Fields, a.RenamedTo = drift.Missing, nil, "other" })},
		{"drift.json", true, with(driftAlert(), func(a *pubsub.DriftAlert) { a.Kind, a.Fields, a.RenamedTo = drift.Missing, nil, long })},
		{"drift.json", false, with(driftAlert(), func(a *pubsub.DriftAlert) {
			a.Kind, a.Fields, a.EnvHash, a.Source = drift.Resolved, nil, "", pubsub.SourceReload
		})},
		{"drift.json", false, with(driftAlert(), func(a *pubsub.DriftAlert) {
			a.Kind, a.Source, a.DBHash = drift.Disabled, pubsub.SourceResync, ""
			a.Fields = []drift.Field{{Name: "enabled", Env: "true", DB: "false"}, {Name: "settings", Env: "none", DB: "cannot be compared: x"}}
		})},
		{"drift.json", false, with(driftAlert(), func(a *pubsub.DriftAlert) {
			a.Kind, a.EnvHash, a.Moved, a.Unmanaged = drift.Unmanaged, "", drift.DatabaseMoved, true
			a.Fields = []drift.Field{{Name: "type", DB: "openai"}, {Name: "base_url", DB: "https://h/"}}
		})},
		{"drift.json", true, with(driftAlert(), func(a *pubsub.DriftAlert) { a.Fields[0].DB = long })},
		{"drift.json", true, with(driftAlert(), func(a *pubsub.DriftAlert) { a.Provider = long })},
		{"drift.json", false, ofNone(drift.Gap, nil)},
		{"drift.json", false, ofNone(drift.Rewound, &certain)},
		{"drift.json", true, with(ofNone(drift.Gap, nil), func(a *pubsub.DriftAlert) { a.Reason = long })},
		{"seeded.json", false, seeded},
		{"seeded.json", false, with(seeded, func(s *pubsub.Seeded) { s.Type, s.BaseURL, s.Keys = provider.Anthropic, "", 0 })},
		{"seeded.json", true, with(seeded, func(s *pubsub.Seeded) { s.BaseURL = long })},
		{"audit.json", false, entry},
		{"audit.json", false, with(entry, func(e *pubsub.AuditEntry) {
			e.Action = string(audit.KeyCreated)
			e.Details = details(audit.Details{KeyID: someID.String(), Masked: "****wxyz"})
		})},
		{"audit.json", false, with(entry, func(e *pubsub.AuditEntry) {
			e.Action, e.Actor = string(audit.KeyDeleted), "operator:root"
			e.Details = details(audit.Details{KeyID: someID.String(), Masked: "****wxyz"})
		})},
		{"audit.json", false, with(entry, func(e *pubsub.AuditEntry) {
			e.Action = string(audit.ProviderUpdated)
			e.Details = details(audit.Details{
				EnvHash: someHash, DBHash: someHash, Region: "us-east-1", BaseURL: "https://h/",
				Changes: []audit.Change{{Field: "enabled", Old: "false", New: "true"}},
			})
		})},
		{"audit.json", false, with(entry, func(e *pubsub.AuditEntry) {
			e.Action, e.ProviderID = string(audit.DriftAccepted), nil
			e.Details = details(audit.Details{Kind: "disabled", EnvHash: someHash, Expires: "2026-08-01T00:00:00Z", Reason: "planned", Changes: []audit.Change{{Field: "enabled"}}})
		})},
		{"audit.json", true, with(entry, func(e *pubsub.AuditEntry) { e.Details = details(audit.Details{BaseURL: long}) })},
		{"status.json", false, pubsub.Status{Event: pubsub.EventReady, Worker: someID, Version: "v1.0.0", Providers: 3, At: someTime}},
		{"status.json", false, pubsub.Status{Event: pubsub.EventStopping, Worker: someID, Version: long, At: someTime}},
		{"status.json", false, pubsub.Status{Event: pubsub.EventReloaded, Worker: someID, Version: "dev", At: someTime}},
		{"status.json", false, pubsub.Status{Event: pubsub.EventDeadLetter, Worker: someID, Version: "dev", Reason: long, At: someTime}},
		{"status.json", false, pubsub.Status{Event: pubsub.EventSinkGap, Worker: someID, Version: "dev", Source: "wal", Reason: "x", At: someTime}},
		{"status.json", false, pubsub.Status{Event: pubsub.EventReconnected, Worker: someID, Version: "dev", At: someTime}},
	} {
		text := c.message.Payload()
		require.NoError(t, schema(t, c.schema).Validate(decoded(t, text)), text)
		require.Equal(t, c.truncated, strings.Contains(text, `"truncated":true`), text)
		require.Less(t, len(text), 7900)
	}
}

func testSchemasSeededTypes(t *testing.T) {
	t.Parallel()
	for _, kind := range provider.Types() {
		seeded := pubsub.Seeded{Provider: "a", ProviderID: someID, Type: kind, SeededAt: someTime}.Payload()
		require.NoError(t, schema(t, "seeded.json").Validate(decoded(t, seeded)), kind)
		details, err := json.Marshal(audit.Details{Type: string(kind)})
		require.NoError(t, err)
		entry := pubsub.AuditEntry{
			ID: someID, Actor: audit.System, Action: string(audit.ProviderCreated), Provider: "a", ProviderID: &someID, Details: details, OccurredAt: someTime,
		}.Payload()
		require.NoError(t, schema(t, "audit.json").Validate(decoded(t, entry)), kind)
	}
}

// testSchemasAreStrict checks that the schemas are strict: every field is required, none
// may be added, and formats count.
func testSchemasAreStrict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		schema  string
		message interface{ Payload() string }
	}{
		{"drift.json", driftAlert()},
		{"seeded.json", pubsub.Seeded{Provider: "openai", ProviderID: someID, Type: provider.OpenAI, SeededAt: someTime}},
		{"audit.json", pubsub.AuditEntry{
			ID: someID, Actor: "system", Action: "provider.create", Provider: "openai", ProviderID: &someID, Details: json.RawMessage("{}"), OccurredAt: someTime,
		}},
		{"status.json", pubsub.Status{Event: pubsub.EventReady, Worker: someID, Version: "dev", At: someTime}},
	} {
		compiled := schema(t, c.schema)
		fields := func() map[string]any { return decoded(t, c.message.Payload()).(map[string]any) }
		for name := range fields() {
			changed := fields()
			delete(changed, name)
			require.Error(t, compiled.Validate(changed), "%s without %s", c.schema, name)
			changed = fields()
			changed[name] = true
			require.Error(t, compiled.Validate(changed), "%s with another %s", c.schema, name)
		}
		for name, value := range map[string]any{"surplus": "x", "truncated": true, "row": "x"} {
			changed := fields()
			changed[name] = value
			require.Error(t, compiled.Validate(changed), "%s with %s", c.schema, name)
		}
	}
	for name, value := range map[string]any{
		"id": "7", "provider_id": "7", "detected_at": "yesterday", "kind": "in_sync", "source": "guess", "seq": 0, "env_hash": "abc", "v": 2, "fields": []any{},
	} {
		changed := decoded(t, driftAlert().Payload()).(map[string]any)
		changed[name] = value
		require.Error(t, schema(t, "drift.json").Validate(changed), "%s: %v", name, value)
	}
	certain := true
	for what, alert := range map[string]pubsub.DriftAlert{
		"a drift of no provider":       with(driftAlert(), func(a *pubsub.DriftAlert) { a.Provider = "" }),
		"a drift with a reason":        with(driftAlert(), func(a *pubsub.DriftAlert) { a.Reason = "x" }),
		"a drift that is renamed":      with(driftAlert(), func(a *pubsub.DriftAlert) { a.RenamedTo = "x" }),
		"a gap of a provider":          with(ofNone(drift.Gap, nil), func(a *pubsub.DriftAlert) { a.Provider = "openai" }),
		"a gap with fields":            with(ofNone(drift.Gap, nil), func(a *pubsub.DriftAlert) { a.Fields = driftAlert().Fields }),
		"a gap without a reason":       with(ofNone(drift.Gap, nil), func(a *pubsub.DriftAlert) { a.Reason = "" }),
		"a gap that is certain":        ofNone(drift.Gap, &certain),
		"a rewind that is not telling": ofNone(drift.Rewound, nil),
	} {
		require.Error(t, schema(t, "drift.json").Validate(decoded(t, alert.Payload())), what)
	}
}

// text generates what an operator, a row or another program can put into a
// field, of any length.
func text() *rapid.Generator[string] {
	pieces := []string{"a", `"`, `\`, "<&>", "\x00", "\x1f", "\n", "\u2028", "é", "語", "🔑", "\ufffd", "https://h/"}
	return rapid.Custom(func(t *rapid.T) string {
		some := rapid.SampledFrom(pieces).Draw(t, "piece")
		many := rapid.SampledFrom([]int{0, 1, 50, 255, 256, 257, 1300, 2000, 9000}).Draw(t, "times")
		return rapid.StringN(0, 20, -1).Draw(t, "head") + strings.Repeat(some, many) + rapid.StringN(0, 20, -1).Draw(t, "tail")
	})
}

func TestPayload(t *testing.T) {
	t.Parallel()
	t.Run("LengthAndRoundTrip", testPayloadLengthAndRoundTrip)
	t.Run("TruncatedNamesItsRow", testPayloadTruncatedNamesItsRow)
}

func testPayloadLengthAndRoundTrip(t *testing.T) {
	t.Parallel()
	equal := func(t *rapid.T, want, got any) {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
	// shown checks that a field is there in full, or cut between two characters.
	shown := func(t *rapid.T, whole, got string) {
		require.True(t, strings.HasPrefix(whole, got))
		require.True(t, utf8.ValidString(got))
		if got != whole {
			require.Greater(t, len(got), 250)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		when := time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "when")).UTC()
		id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		name := text().Draw(t, "name")
		fields := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) drift.Field {
			return drift.Field{Name: "base_url", Env: text().Draw(t, "env"), DB: text().Draw(t, "db")}
		}), 0, 8).Draw(t, "fields")

		check := func(payload string, into any) {
			require.Less(t, len(payload), 7900)
			require.True(t, utf8.ValidString(payload))
			require.NotContains(t, payload, "\x00")
			require.NoError(t, json.Unmarshal([]byte(payload), into))
		}

		want := pubsub.DriftAlert{
			V: pubsub.Version, ID: id, Seq: rapid.Int64Min(1).Draw(t, "seq"), Kind: drift.Changed, Provider: name, ProviderID: &id, Fields: fields,
			EnvHash: someHash, DBHash: someHash, Source: pubsub.SourceNotify, DetectedAt: when,
		}
		var alert pubsub.DriftAlert
		check(want.Payload(), &alert)
		if alert.Truncated {
			shown(t, name, alert.Provider)
			want.Provider, want.Fields, want.Truncation = alert.Provider, []drift.Field{}, alert.Truncation
		}
		equal(t, want, alert)

		wantSeeded := pubsub.Seeded{V: pubsub.Version, Provider: name, ProviderID: id, Type: provider.OpenAI, BaseURL: text().Draw(t, "url"), SeededAt: when}
		var seeded pubsub.Seeded
		check(wantSeeded.Payload(), &seeded)
		if seeded.Truncated {
			shown(t, name, seeded.Provider)
			wantSeeded.Provider, wantSeeded.BaseURL, wantSeeded.Truncation = seeded.Provider, "", seeded.Truncation
		}
		equal(t, wantSeeded, seeded)

		details, err := json.Marshal(audit.Details{BaseURL: text().Draw(t, "details")})
		require.NoError(t, err)
		wantEntry := pubsub.AuditEntry{
			V: pubsub.Version, ID: id, Actor: text().Draw(t, "actor"), Action: string(audit.ProviderCreated), Provider: name, ProviderID: &id,
			Details: details, OccurredAt: when,
		}
		var entry pubsub.AuditEntry
		check(wantEntry.Payload(), &entry)
		if entry.Truncated {
			shown(t, name, entry.Provider)
			shown(t, wantEntry.Actor, entry.Actor)
			wantEntry.Provider, wantEntry.Actor, wantEntry.Details, wantEntry.Truncation = entry.Provider, entry.Actor, json.RawMessage("{}"), entry.Truncation
		}
		equal(t, wantEntry, entry)

		wantStatus := pubsub.Status{V: pubsub.Version, Event: pubsub.EventReady, Worker: id, Version: text().Draw(t, "version"), Providers: 3, At: when}
		var status pubsub.Status
		check(wantStatus.Payload(), &status)
		shown(t, wantStatus.Version, status.Version)
		wantStatus.Version = status.Version
		equal(t, wantStatus, status)
	})
}

// testPayloadTruncatedNamesItsRow pins the pointers that docs/schemas describes.
func testPayloadTruncatedNamesItsRow(t *testing.T) {
	t.Parallel()
	rows := []string{
		with(driftAlert(), func(a *pubsub.DriftAlert) { a.Fields[0].Env = long }).Payload(),
		pubsub.Seeded{Provider: "openai", ProviderID: someID, BaseURL: long}.Payload(),
		pubsub.AuditEntry{ID: someID, Actor: long, Details: json.RawMessage("{}")}.Payload(),
	}
	for i, payload := range rows {
		var truncation pubsub.Truncation
		require.NoError(t, json.Unmarshal([]byte(payload), &truncation))
		rows[i] = truncation.Row
	}
	require.True(t, slices.Equal(rows, []string{
		"provwatch.drift_alerts seq=7", "ai_providers id=" + someID.String(), "provwatch.audit_log id=" + someID.String(),
	}), "%q", rows)
}
