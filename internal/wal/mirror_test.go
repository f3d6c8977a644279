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

// randomTable is a table that changes at random, and the mirror of what the stream shows of
// that.
type randomTable struct {
	ids    []uuid.UUID
	rows   map[uuid.UUID]fullRow
	mirror *mirror
}

func (r *randomTable) drawID(t *rapid.T, label string) uuid.UUID {
	return rapid.SampledFrom(r.ids).Draw(t, label)
}

func (r *randomTable) apply(t *rapid.T, c change) {
	if _, unread := r.mirror.apply(c); unread != uuid.Nil {
		t.Fatalf("row %s has to be read again", unread)
	}
}

func (r *randomTable) insert(t *rapid.T) {
	id := r.drawID(t, "id")
	if _, exists := r.rows[id]; exists {
		t.Skip("exists")
	}
	r.rows[id] = drawRow(t)
	r.apply(t, change{put: r.rows[id].version(id)})
}

func (r *randomTable) update(t *rapid.T) {
	id := r.drawID(t, "id")
	before, exists := r.rows[id]
	if !exists {
		t.Skip("does not exist")
	}
	after, to := drawRow(t), id
	if rapid.Bool().Draw(t, "new id") {
		to = r.drawID(t, "to")
		if _, taken := r.rows[to]; taken && to != id {
			t.Skip("taken")
		}
	}
	if rapid.Bool().Draw(t, "base URL out of line") {
		after.baseURL = before.baseURL
	}
	if rapid.Bool().Draw(t, "settings out of line") {
		after.region, after.bedrock = before.region, before.bedrock
	}
	c := change{put: drawVersion(t, to, before, after)}
	if to != id {
		c.removed = id
	}
	delete(r.rows, id)
	r.rows[to] = after
	r.apply(t, c)
}

// drawVersion returns a row after an update as the stream shows it, without some of what
// has not changed.
func drawVersion(t *rapid.T, id uuid.UUID, before, after fullRow) *version {
	v := after.version(id)
	if after.baseURL == before.baseURL && rapid.Bool().Draw(t, "base URL does not travel") {
		v.baseURL, v.baseURLUnchanged = "", true
	}
	known := after.column().HashNeedsSettings() && before.column().HashNeedsSettings()
	if known && after.region == before.region && after.bedrock == before.bedrock && rapid.Bool().Draw(t, "settings do not travel") {
		v.settings, v.settingsUnchanged = provider.DecodedSettings{}, true
	}
	return v
}

func (r *randomTable) delete(t *rapid.T) {
	id := r.drawID(t, "id")
	delete(r.rows, id)
	r.apply(t, change{removed: id})
}

func (r *randomTable) truncate(t *rapid.T) {
	clear(r.rows)
	r.apply(t, change{truncate: true})
}

func (r *randomTable) compare(t *rapid.T) {
	m := r.mirror
	if len(m.rows) != len(r.rows) {
		t.Fatalf("the mirror has %d rows, the table %d", len(m.rows), len(r.rows))
	}
	byName := map[string]int{}
	for id, want := range r.rows {
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
}

func TestMirror(t *testing.T) {
	t.Run("EqualsTheTable", testMirrorEqualsTheTable)
	t.Run("TooLittleKnown", testMirrorTooLittleKnown)
	t.Run("UnchangedUpdate", testMirrorUnchangedUpdate)
}

// testMirrorEqualsTheTable makes random changes to a table, shows the mirror of each what
// the stream would, and compares.
func testMirrorEqualsTheTable(t *testing.T) {
	ids := make([]uuid.UUID, 4)
	for i := range ids {
		ids[i] = uuid.New()
	}
	rapid.Check(t, func(t *rapid.T) {
		r := randomTable{ids, map[uuid.UUID]fullRow{}, newMirror(hasher)}
		t.Repeat(map[string]func(*rapid.T){
			"insert": r.insert, "update": r.update, "delete": r.delete, "truncate": r.truncate, "": r.compare,
		})
	})
}

// testMirrorTooLittleKnown checks that a row of which too little is known is read again.
func testMirrorTooLittleKnown(t *testing.T) {
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

func testMirrorUnchangedUpdate(t *testing.T) {
	m := newMirror(hasher)
	id := uuid.New()
	row := fullRow{name: "a", baseURL: "https://h/"}
	m.apply(change{put: row.version(id)})
	clear(m.changed)
	touched, _ := m.apply(change{put: row.version(id)})
	require.Empty(t, m.changed)
	require.Empty(t, touched)
}
