package wal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/atrest"
	"provwatch/internal/atrest/atresttest"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func TestEncryptedSettingsAreDecodedAsTheyPassBy(t *testing.T) {
	t.Parallel()
	_, keys := atresttest.NewKeyset(t)
	id := uuid.New()
	// Long enough to be stored out of line.
	settings := provider.Bedrock{Region: "us-east-1", AccessKeySecret: secret.New(strings.Repeat("s", 10000))}.Encode()
	sealed, keyID, err := keys.SealSettings(id, settings)
	require.NoError(t, err)
	list := streamWith(t, keys, `ALTER TABLE public.ai_providers ALTER COLUMN settings SET STORAGE EXTERNAL`,
		fmt.Sprintf(`INSERT INTO public.ai_providers (id, type, name, base_url, settings, settings_key_id) VALUES ('%s', 'anthropic', 'aws', '', '%s', '%s')`, id, sealed, keyID),
		`UPDATE public.ai_providers SET enabled = false`, // the settings do not travel
		`UPDATE public.ai_providers SET settings_key_id = '7'`,
		fmt.Sprintf(`UPDATE public.ai_providers SET settings_key_id = '%s', settings = settings || 'x'`, keyID),
	)
	require.Len(t, list, 4)
	settingsOf := func(i int) provider.DecodedSettings { return list[i].changes[0].put.settings }
	require.Equal(t, provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, settingsOf(0))
	require.True(t, list[1].changes[0].put.settingsUnchanged)
	require.ErrorIs(t, settingsOf(2).Err, atrest.ErrUnknownKey)
	require.False(t, list[2].changes[0].put.settingsUnchanged)
	require.ErrorIs(t, settingsOf(3).Err, atrest.ErrNotDecrypted)
}

func TestAMirrorTakesOverWhatALookHasDecodedAndNothingElse(t *testing.T) {
	desired := provider.Desired{Name: "aws", Type: provider.Anthropic, Bedrock: &provider.Bedrock{Region: "us-east-1"}}
	undecodable := errors.New("encrypted with another key")
	for name, c := range map[string]struct {
		seen  func(*provider.Row)
		taken bool
	}{
		"decoded": {func(r *provider.Row) {
			r.Decoded = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}
		}, true},
		"decoded to another region": {func(r *provider.Row) {
			r.Decoded = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "eu-west-1"}
		}, true},
		"decoded to those of another provider": {func(r *provider.Row) { r.Decoded = &provider.DecodedSettings{} }, true},
		"decoded, and of another type": {func(r *provider.Row) {
			r.Decoded, r.Type = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, provider.AmazonBedrock
		}, false},
		"still undecodable": {func(*provider.Row) {}, false},
		"decoded, and something else differs": {func(r *provider.Row) {
			r.Decoded, r.BaseURL = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, "https://h/"
		}, false},
		"decoded, and disabled": {func(r *provider.Row) {
			r.Decoded, r.Enabled = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, false
		}, false},
		"another row": {func(r *provider.Row) {
			r.Decoded, r.ID = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, uuid.New()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			row := mirrorRow{
				Canonical: provider.Canonical{Type: provider.Anthropic}, column: provider.Anthropic, id: uuid.New(), name: "aws", enabled: true,
				undecodable: undecodable.Error(), baseURLKnown: true,
			}
			m := newMirror(hasher)
			m.put(&row)
			clear(m.changed)
			before := *m.observed(desired)
			seen := before
			c.seen(&seen)
			observed := hasher.Compare(desired, &seen, false)
			require.Equal(t, c.taken, m.redecode(hasher.Compare(desired, &before, false), observed))
			require.Equal(t, c.taken, m.changed[row.id], "it is stored anew")
			if !c.taken {
				require.Equal(t, before, *m.observed(desired))
				return
			}
			now := hasher.Compare(desired, m.observed(desired), false)
			require.True(t, agree(now, observed))
			require.Equal(t, observed.DBHash, m.hashesOf(row.id).Against(desired))

			// And back, once the key is gone.
			require.True(t, m.redecode(now, hasher.Compare(desired, &before, false)))
			require.Equal(t, hasher.Compare(desired, &before, false).Fields, hasher.Compare(desired, m.observed(desired), false).Fields)
			require.Empty(t, m.hashesOf(row.id))
		})
	}
}
