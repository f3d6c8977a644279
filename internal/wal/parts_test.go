package wal

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
	m := newMirror()
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
