package audit_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
	"provwatch/internal/store"
)

// TestInserted has an entry for each row: keys follow their provider, and those of another
// one come last.
func TestInserted(t *testing.T) {
	key := func(text string) secret.Text { return secret.New("sk-0123456789abcdef-" + text) }
	var rows store.NewRows
	for _, d := range []provider.Desired{
		{Name: "a", Type: provider.OpenAI, BaseURL: "https://user:pw@h/v1?q=1", Keys: []secret.Text{key("1111"), key("2222")}},
		{Name: "b", Type: provider.Anthropic},
	} {
		_, err := rows.AddProvider(d, d.Type)
		require.NoError(t, err)
	}
	require.NoError(t, rows.AddKeys(uuid.UUID{1}, "c", []secret.Text{key("3333")}))
	now := time.Now()
	entries := audit.Inserted(rows, "operator:test", now)
	var got []string
	for _, e := range entries {
		require.Equal(t, now, e.OccurredAt)
		require.Equal(t, "operator:test", e.Actor)
		require.NotEqual(t, uuid.Nil, e.ProviderID)
		got = append(got, string(e.Action)+" "+e.Provider+" "+e.Details.Type+e.Details.Masked+" "+e.Details.BaseURL)
	}
	require.Equal(t, []string{
		"provider.create a openai https://h/v1", "provider_key.create a ****1111 ", "provider_key.create a ****2222 ",
		"provider.create b anthropic ", "provider_key.create c ****3333 ",
	}, got)
	require.Equal(t, 2, *entries[0].Details.Keys)
	require.Equal(t, rows.Keys[2].ID.String(), entries[4].Details.KeyID)
}
