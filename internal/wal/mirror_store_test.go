package wal

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

func TestStoredMirror(t *testing.T) {
	t.Parallel()
	t.Run("Restart", testStoredMirrorRestart)
	t.Run("LongTexts", testStoredMirrorLongTexts)
	t.Run("LatestRow", testStoredMirrorLatestRow)
}

// testStoredMirrorRestart checks that a stored mirror is the same after a restart, and
// holds no secret.
func testStoredMirrorRestart(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	queries := store.On(pool)
	m := newMirror(hasher)
	rows := map[string]fullRow{
		"plain":  {name: "plain", baseURL: "https://h/", enabled: true},
		"secret": {name: "secret", baseURL: "https://user:hunter2@h/?token=hunter2", enabled: true},
		"moved":  {name: "moved", baseURL: "https://user:hunter2@h/", enabled: true},
		"aws":    {name: "aws", kind: provider.Anthropic, baseURL: "https://user:hunter2@aws/", bedrock: true, enabled: true},
		"gone":   {name: "gone", baseURL: "https://user:hunter2@h/", region: "us-east-1", deleted: true},
		"long":   {name: "long", baseURL: "https://h/" + strings.Repeat("p", 9<<20), enabled: true},
		"region": {name: "region", kind: provider.Anthropic, baseURL: "https://aws/", bedrock: true, region: strings.Repeat("r", 9<<20), enabled: true},
	}
	ids := map[string]uuid.UUID{}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		ids[name] = uuid.New()
		m.apply(change{put: rows[name].version(ids[name])})
	}
	broken := &version{id: uuid.New(), name: "broken", kind: provider.Anthropic, settings: provider.DecodedSettings{Err: provider.ErrSettingsNotJSON}}
	m.apply(change{put: broken})
	require.NoError(t, m.save(t.Context(), queries))

	var stored string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT string_agg(to_jsonb(r)::text, ',') FROM provwatch.wal_mirror r`).Scan(&stored))
	require.NotContains(t, stored, "hunter2")
	require.Less(t, len(stored), 4*provider.MaxShown+10_000, "what is too long to be shown is not stored again")

	// Meanwhile one of them was changed, and one removed, in the table.
	for name, baseURL := range map[string]string{"plain": rows["plain"].baseURL, "secret": rows["secret"].baseURL, "moved": "https://elsewhere/", "long": rows["long"].baseURL} {
		_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'openai', $2, $3)`, ids[name], name, baseURL)
		require.NoError(t, err)
	}
	loaded := newMirror(hasher)
	require.NoError(t, loaded.fetchAll(t.Context(), queries, slices.Collect(maps.Keys(m.rows)), nil))
	require.Len(t, loaded.rows, len(m.rows))
	require.Empty(t, loaded.changed)
	for id, want := range m.rows {
		have := loaded.rows[id]
		require.Equal(t, want.hashes, have.hashes, want.name)
		require.Equal(t, []any{want.column, want.Type, want.bedrockSettings}, []any{have.column, have.Type, have.bedrockSettings}, want.name)
		require.Equal(t, want.unreadable, have.unreadable, want.name)
		require.Equal(t, []any{want.name, want.enabled, want.deleted, provider.DisplayText(want.BedrockRegion), want.baseURLShown},
			[]any{have.name, have.enabled, have.deleted, have.BedrockRegion, have.baseURLShown})
		require.Equal(t, want.name == "region", have.regionCut, want.name)
	}
	for name, known := range map[string]bool{"plain": true, "secret": true, "moved": false, "gone": false, "aws": false, "long": true, "region": true} {
		require.Equal(t, known, loaded.rows[ids[name]].baseURLKnown, name)
	}
	// One that is not known is compared by its hash all the same.
	same := provider.Desired{Name: "moved", Type: provider.OpenAI, BaseURL: rows["moved"].baseURL}
	require.Equal(t, drift.InSync, drift.Compare(hasher, same, loaded.observed(same), false).Kind)
	for _, label := range []provider.Type{provider.Anthropic, provider.AmazonBedrock} {
		aws := provider.Desired{Name: "aws", Type: label, BaseURL: rows["aws"].baseURL, Bedrock: &provider.Bedrock{}}
		require.Equal(t, drift.InSync, drift.Compare(hasher, aws, loaded.observed(aws), false).Kind, label)
		aws.Type, aws.Bedrock = provider.Anthropic, nil
		require.Equal(t, drift.Changed, drift.Compare(hasher, aws, loaded.observed(aws), false).Kind, label)
	}
	// So is one whose region is stored cut.
	region := provider.Desired{Name: "region", Type: provider.AmazonBedrock, BaseURL: rows["region"].baseURL, Bedrock: &provider.Bedrock{Region: rows["region"].region}}
	require.Equal(t, drift.InSync, drift.Compare(hasher, region, loaded.observed(region), false).Kind)
	region.Bedrock = &provider.Bedrock{Region: provider.DisplayText(rows["region"].region)}
	require.Equal(t, drift.Changed, drift.Compare(hasher, region, loaded.observed(region), false).Kind, "the region as it is shown is another one")
	renamed := &version{id: ids["region"], name: "renamed", kind: provider.Anthropic, baseURL: rows["region"].baseURL, settingsUnchanged: true}
	_, reread := loaded.apply(change{put: renamed})
	require.Equal(t, renamed.id, reread, "the region did not travel")
	shown := rows["region"]
	shown.region = provider.DisplayText(shown.region)
	_, reread = loaded.apply(change{put: shown.version(ids["region"])})
	require.Zero(t, reread)
	require.Equal(t, drift.InSync, drift.Compare(hasher, region, loaded.observed(region), false).Kind, "the row got the region that was shown")

	hidden := provider.Desired{Name: "moved", Type: provider.OpenAI, BaseURL: loaded.rows[ids["moved"]].baseURLShown}
	require.Equal(t, []drift.Field{{Name: "base_url", Env: "https://h/", DB: "https://h/ (differs in a part that is not shown)"}},
		drift.Compare(hasher, hidden, loaded.observed(hidden), false).Fields, "the secret part is not there in the environment")
	other := provider.Desired{Name: "moved", Type: provider.OpenAI, BaseURL: "https://elsewhere/"}
	require.Equal(t, drift.Changed, drift.Compare(hasher, other, loaded.observed(other), false).Kind)
}

// testStoredMirrorLongTexts checks that the mirror drops long texts once they are stored,
// and counts their length right.
func testStoredMirrorLongTexts(t *testing.T) {
	t.Parallel()
	m := newMirror(hasher)
	long := fullRow{name: "long", baseURL: "https://h/" + strings.Repeat("p", maxTexts)}
	id := historyIDs[0]
	m.apply(change{put: long.version(id)})
	m.apply(change{put: long.version(id)})
	require.Equal(t, m.rows[id].texts(), m.texts)
	m.saved()
	require.Empty(t, m.rows)
	require.Zero(t, m.texts)

	m.apply(change{put: fullRow{name: "short"}.version(id)})
	m.saved()
	require.Len(t, m.rows, 1)
	m.apply(change{removed: id})
	require.Zero(t, m.texts)
}

// testStoredMirrorLatestRow changes nothing of a soft-deleted row but its time, by which
// it comes to stand for the provider.
func testStoredMirrorLatestRow(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	queries := store.On(pool)
	deleted := fullRow{name: "a", baseURL: "https://h/", deleted: true}
	versionAt := func(id uuid.UUID, second int64) *version {
		v := deleted.version(id)
		v.updatedAt = time.Unix(second, 0).UTC()
		return v
	}
	m := newMirror(hasher)
	m.apply(change{put: versionAt(historyIDs[0], 10)})
	m.apply(change{put: versionAt(historyIDs[1], 20)})
	require.NoError(t, m.save(t.Context(), queries))

	m.reset()
	require.NoError(t, m.fetchByID(t.Context(), queries, historyIDs[:1]))
	require.Len(t, m.rows, 1)
	touched, reread := m.apply(change{put: versionAt(historyIDs[0], 10)})
	require.Empty(t, touched)
	require.Zero(t, reread)
	require.False(t, m.differs())
	touched, reread = m.apply(change{put: versionAt(historyIDs[0], 30)})
	require.Contains(t, touched, "a")
	require.Zero(t, reread)
	require.NoError(t, m.save(t.Context(), queries))

	m.reset()
	require.NoError(t, m.fetch(t.Context(), queries, nil, []string{"a"}))
	require.Len(t, m.rows, 2)
	require.Equal(t, historyIDs[0], m.observed(provider.Desired{Name: "a", Type: provider.OpenAI}).ID)
}
