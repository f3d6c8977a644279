package wal

import (
	"cmp"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/provider"
)

// fullRow is a row as the table has it.
type fullRow struct {
	kind                  provider.Type // empty for openai
	name, baseURL, region string
	bedrock               bool // whether the settings are of "_type" bedrock
	enabled, deleted      bool
}

// settings are what the decoder makes of them: nothing where the hash does not need
// them.
func (r fullRow) settings() provider.DecodedSettings {
	if !r.column().HashNeedsSettings() {
		return provider.DecodedSettings{}
	}
	return provider.DecodedSettings{IsBedrock: r.bedrock, BedrockRegion: r.region}
}

func (r fullRow) column() provider.Type { return cmp.Or(r.kind, provider.OpenAI) }

func (r fullRow) version(id uuid.UUID) *version {
	return &version{
		id: id, name: r.name, kind: r.column(), enabled: r.enabled, deleted: r.deleted, baseURL: r.baseURL,
		settings: r.settings(),
	}
}

func (r fullRow) hashes() provider.RowHashes {
	return hasher.RowHashes(provider.CanonicalOfRow(r.column(), r.baseURL, r.settings()))
}

func drawRow(t *rapid.T) fullRow {
	return fullRow{
		kind:    rapid.SampledFrom([]provider.Type{provider.OpenAI, provider.Anthropic, provider.AmazonBedrock}).Draw(t, "type"),
		bedrock: rapid.Bool().Draw(t, "Bedrock settings"),
		name:    rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"),
		baseURL: rapid.SampledFrom([]string{"", "https://h/", "https://user:pw@h/?q", "https://other/"}).Draw(t, "base URL"),
		region:  rapid.SampledFrom([]string{"", "us-east-1", "eu-west-1"}).Draw(t, "region"),
		enabled: rapid.Bool().Draw(t, "enabled"), deleted: rapid.Bool().Draw(t, "deleted"),
	}
}

// TestTheMirrorIsTheTableWhateverTheStreamLeavesOut makes random changes to a
// table, shows the mirror of each what the stream would, and compares.
func TestTheMirrorIsTheTableWhateverTheStreamLeavesOut(t *testing.T) {
	ids := make([]uuid.UUID, 4)
	for i := range ids {
		ids[i] = uuid.New()
	}
	rapid.Check(t, func(t *rapid.T) {
		table := map[uuid.UUID]fullRow{}
		m := newMirror(hasher)
		apply := func(c change) {
			if _, reread := m.apply(c); reread != uuid.Nil {
				t.Fatalf("row %s has to be read again", reread)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				if _, exists := table[id]; exists {
					t.Skip("exists")
				}
				table[id] = drawRow(t)
				apply(change{put: table[id].version(id)})
			},
			"update": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				before, exists := table[id]
				if !exists {
					t.Skip("does not exist")
				}
				after := drawRow(t)
				c := change{}
				to := id
				if rapid.Bool().Draw(t, "new id") {
					to = rapid.SampledFrom(ids).Draw(t, "to")
					if _, taken := table[to]; taken && to != id {
						t.Skip("taken")
					}
				}
				if rapid.Bool().Draw(t, "base URL out of line") {
					after.baseURL = before.baseURL
				}
				if rapid.Bool().Draw(t, "settings out of line") {
					after.region, after.bedrock = before.region, before.bedrock
				}
				c.put = after.version(to)
				if after.baseURL == before.baseURL && rapid.Bool().Draw(t, "base URL does not travel") {
					c.put.baseURL, c.put.baseURLUnchanged = "", true
				}
				known := after.column().HashNeedsSettings() && before.column().HashNeedsSettings()
				if known && after.region == before.region && after.bedrock == before.bedrock && rapid.Bool().Draw(t, "settings do not travel") {
					c.put.settings, c.put.settingsUnchanged = provider.DecodedSettings{}, true
				}
				if to != id {
					c.removed = id
				}
				delete(table, id)
				table[to] = after
				apply(c)
			},
			"delete": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				delete(table, id)
				apply(change{removed: id})
			},
			"truncate": func(*rapid.T) {
				clear(table)
				apply(change{truncate: true})
			},
			"": func(t *rapid.T) {
				if len(m.rows) != len(table) {
					t.Fatalf("the mirror has %d rows, the table %d", len(m.rows), len(table))
				}
				byName := map[string]int{}
				for id, want := range table {
					have := m.rows[id]
					if have == nil || have.name != want.name || have.enabled != want.enabled || have.deleted != want.deleted ||
						have.hashes != want.hashes() || have.column != want.column() || !have.baseURLKnown || have.BaseURL != want.baseURL {
						t.Fatalf("row %s: the mirror has %+v, the table %+v", id, have, want)
					}
					byName[want.name]++
				}
				for name, n := range byName {
					if len(m.byName[name]) != n {
						t.Fatalf("%d rows of name %s, want %d", len(m.byName[name]), name, n)
					}
				}
			},
		})
	})
}

func TestARowOfWhichTooLittleIsKnownIsSaidToBe(t *testing.T) {
	id := uuid.New()
	encrypted := fullRow{name: "a", kind: provider.Anthropic}.version(id)
	encrypted.settings.Err = provider.ErrSettingsKeyID
	withoutSettings := &version{id: id, name: "a", kind: provider.AmazonBedrock, settingsUnchanged: true}
	for name, c := range map[string]struct{ before, after *version }{
		"its base URL": {after: &version{id: id, name: "a", baseURLUnchanged: true}},
		"its settings": {after: withoutSettings},
		"its name":     {after: &version{id: id, nameUnchanged: true}},
		"its settings, which count as plain text from now on": {encrypted, withoutSettings},
		"its settings, which its former type did not need":    {fullRow{name: "a", kind: provider.OpenAICompat}.version(id), withoutSettings},
	} {
		m := newMirror(hasher)
		if c.before != nil {
			m.apply(change{put: c.before})
		}
		_, reread := m.apply(change{put: c.after})
		require.Equal(t, id, reread, fmt.Sprintf("%s does not travel and is not in the mirror", name))
	}
}

func TestAnUpdateThatChangesNothingTouchesNothing(t *testing.T) {
	m := newMirror(hasher)
	id := uuid.New()
	row := fullRow{name: "a", baseURL: "https://h/"}
	m.apply(change{put: row.version(id)})
	clear(m.changed)
	touched, _ := m.apply(change{put: row.version(id)})
	require.Empty(t, m.changed)
	require.Empty(t, touched)
}
