package wal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

func TestALargeTransactionIsDecodedInParts(t *testing.T) {
	t.Parallel()
	const rows = 3 * maxPart / changeSize
	insert := `INSERT INTO public.ai_providers (id, type, name, base_url)
		SELECT gen_random_uuid(), 'openai', 'bulk-' || n, 'https://h/' FROM generate_series(1, %d) n`
	list := stream(t, `SELECT 1`,
		fmt.Sprintf(insert, rows)+`; SELECT pg_logical_emit_message(true, 'provwatch', 'token')`,
		`DELETE FROM public.ai_providers WHERE name = 'bulk-1'`)
	require.Greater(t, len(list), 4)
	parts, small := list[:len(list)-1], list[len(list)-1]
	require.False(t, small.more)
	require.Len(t, small.changes, 1)

	last := parts[len(parts)-1]
	require.False(t, last.more)
	require.Greater(t, last.end, last.commit)
	require.Equal(t, []string{"token"}, last.markers)
	changes := 0
	for i, part := range parts {
		require.Equal(t, i < len(parts)-1, part.more)
		require.Equal(t, part.more, part.end == 0)
		require.Equal(t, last.commit, part.commit)
		require.Equal(t, last.xid, part.xid)
		require.Equal(t, last.committedAt, part.committedAt)
		require.Less(t, part.size(), maxPart+2*changeSize)
		changes += len(part.changes)
	}
	require.Equal(t, rows, changes)
}

// TestTheMirrorForgetsLongTextsOnceTheyAreStored also checks that their length is
// counted right.
func TestTheMirrorForgetsLongTextsOnceTheyAreStored(t *testing.T) {
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

// TestWhichOfSeveralRowsIsTheLatestIsStoredWithoutReadingTheOthers changes nothing of a
// soft-deleted row but its time, by which it comes to stand for the provider.
func TestWhichOfSeveralRowsIsTheLatestIsStoredWithoutReadingTheOthers(t *testing.T) {
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
