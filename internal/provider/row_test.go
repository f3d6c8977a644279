package provider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/provider"
)

func TestCurrent(t *testing.T) {
	t.Run("Examples", testCurrentExamples)
	t.Run("LiveThenLatest", testCurrentLiveThenLatest)
}

func testCurrentExamples(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	for name, c := range map[string]struct {
		rows []provider.Row
		want string // the base URL of the row, to tell rows apart
	}{
		"a live row beats a deleted one, whichever is later": {
			rows: []provider.Row{{BaseURL: "deleted", Deleted: true, UpdatedAt: at(2)}, {BaseURL: "live", UpdatedAt: at(1)}},
			want: "live",
		},
		"a live row beats a deleted one, in whichever order": {
			rows: []provider.Row{{BaseURL: "live", UpdatedAt: at(1)}, {BaseURL: "deleted", Deleted: true, UpdatedAt: at(2)}},
			want: "live",
		},
		"a disabled row is live": {
			rows: []provider.Row{{BaseURL: "deleted", Deleted: true, Enabled: true, UpdatedAt: at(2)}, {BaseURL: "disabled", UpdatedAt: at(1)}},
			want: "disabled",
		},
		"of deleted rows the last one counts": {
			rows: []provider.Row{
				{BaseURL: "first", Deleted: true, UpdatedAt: at(1)}, {BaseURL: "last", Deleted: true, UpdatedAt: at(3)},
				{BaseURL: "second", Deleted: true, UpdatedAt: at(2)},
			},
			want: "last",
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, provider.Current(c.rows).BaseURL)
		})
	}
	require.Nil(t, provider.Current(nil))
}

func testCurrentLiveThenLatest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) provider.Row {
			return provider.Row{
				Name:      rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"),
				Deleted:   rapid.Bool().Draw(t, "deleted"),
				UpdatedAt: time.Unix(rapid.Int64Range(0, 9).Draw(t, "updated"), 0),
			}
		}), 1, 6).Draw(t, "rows")
		picked := provider.Current(rows)
		for _, row := range rows {
			require.False(t, picked.Deleted && !row.Deleted, "a deleted row was preferred to a live one")
			if row.Deleted == picked.Deleted {
				require.False(t, row.UpdatedAt.After(picked.UpdatedAt), "there is a later row")
			}
		}
		byName := map[string][]provider.Row{}
		for _, row := range rows {
			byName[row.Name] = append(byName[row.Name], row)
		}
		current := provider.CurrentByName(rows)
		require.Len(t, current, len(byName))
		for name, of := range byName {
			require.Equal(t, provider.Current(of), current[name])
		}
	})
}
