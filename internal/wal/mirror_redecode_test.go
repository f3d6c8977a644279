package wal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func TestRedecode(t *testing.T) {
	t.Parallel()
	t.Run("InTheStream", testRedecodeInTheStream)
	t.Run("Reread", testRedecodeReread)
	t.Run("TakenOver", testRedecodeTakenOver)
	t.Run("UnknownBaseURL", testRedecodeUnknownBaseURL)
}

func testRedecodeInTheStream(t *testing.T) {
	t.Parallel()
	key, unknown := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	id := uuid.New()
	// Long enough to be stored out of line.
	settings := provider.Bedrock{Region: "us-east-1", AccessKeySecret: secret.New(strings.Repeat("s", 10000))}.Encode().Reveal()
	register := func(number int, key dbcrypttest.Key) string {
		return fmt.Sprintf(`INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES (%d, '%s', '%s')`, number, key.Digest(), key.Encrypt("coder"))
	}
	list := decodedWith(t, dbcrypttest.NewRing(t, key), `ALTER TABLE public.ai_providers ALTER COLUMN settings SET STORAGE EXTERNAL;`+register(1, key)+";"+register(2, unknown),
		fmt.Sprintf(`INSERT INTO public.ai_providers (id, type, name, base_url, settings, settings_key_id) VALUES ('%s', 'anthropic', 'aws', '', '%s', '%s')`, id, key.Encrypt(settings), key.Digest()),
		`UPDATE public.ai_providers SET enabled = false`, // the settings do not travel
		fmt.Sprintf(`UPDATE public.ai_providers SET settings_key_id = '%s'`, unknown.Digest()),
		fmt.Sprintf(`UPDATE public.ai_providers SET settings_key_id = '%s', settings = settings || 'x'`, key.Digest()),
	)
	require.Len(t, list, 4)
	settingsOf := func(i int) provider.DecodedSettings { return list[i].changes[0].put.settings }
	require.Equal(t, provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, settingsOf(0))
	require.True(t, list[1].changes[0].put.settingsUnchanged)
	require.ErrorIs(t, settingsOf(2).Err, dbcrypt.ErrUnknownKey)
	require.False(t, list[2].changes[0].put.settingsUnchanged)
	require.ErrorIs(t, settingsOf(3).Err, dbcrypt.ErrDamaged)
}

// testRedecodeReread has settings that do not travel, of a row that was encrypted with an
// unknown key before, and is not any more.
func testRedecodeReread(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason error
		reread bool
	}{
		"an unknown key":         {&dbcrypt.DecryptError{KeyID: "a1b2c3d", Err: dbcrypt.ErrUnknownKey}, true},
		"a key id not travelled": {provider.ErrSettingsKeyID, true},
		"damaged":                {&dbcrypt.DecryptError{KeyID: "a1b2c3d", Err: dbcrypt.ErrDamaged}, false},
		"not JSON":               {provider.ErrSettingsNotJSON, false},
	} {
		t.Run(name, func(t *testing.T) {
			id := uuid.New()
			m := newMirror(hasher)
			put := func(v version) uuid.UUID {
				v.id, v.name, v.kind, v.enabled, v.baseURL = id, "aws", provider.Anthropic, true, "https://h/"
				_, reread := m.apply(change{put: &v})
				return reread
			}
			require.Equal(t, uuid.Nil, put(version{settings: provider.DecodedSettings{Err: c.reason}}))
			want := uuid.Nil
			if c.reread {
				want = id
			}
			require.Equal(t, want, put(version{settingsUnchanged: true}))
		})
	}
}

// testRedecodeTakenOver checks that a mirror takes over what a verification has decoded,
// and nothing else.
func testRedecodeTakenOver(t *testing.T) {
	t.Parallel()
	desired := provider.Desired{Name: "aws", Type: provider.Anthropic, Bedrock: &provider.Bedrock{Region: "us-east-1"}}
	unreadable := errors.New("encrypted with another key")
	for name, c := range map[string]struct {
		seen     func(*provider.Row)
		taken    bool
		disabled bool // as the mirror has it
	}{
		"decoded": {seen: func(r *provider.Row) {
			r.Decoded = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}
		}, taken: true},
		"decoded, of a disabled row": {seen: func(r *provider.Row) {
			r.Decoded = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}
		}, taken: true, disabled: true},
		"decoded, and enabled": {seen: func(r *provider.Row) {
			r.Decoded, r.Enabled = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, true
		}, disabled: true},
		"decoded to another region": {seen: func(r *provider.Row) {
			r.Decoded = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "eu-west-1"}
		}, taken: true},
		"decoded to those of another provider": {seen: func(r *provider.Row) { r.Decoded = &provider.DecodedSettings{} }, taken: true},
		"decoded, and of another type": {seen: func(r *provider.Row) {
			r.Decoded, r.Type = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, provider.AmazonBedrock
		}},
		"still unreadable": {seen: func(*provider.Row) {}},
		"decoded, and something else differs": {seen: func(r *provider.Row) {
			r.Decoded, r.BaseURL = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, "https://h/"
		}},
		"decoded, and disabled": {seen: func(r *provider.Row) {
			r.Decoded, r.Enabled = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, false
		}},
		"another row": {seen: func(r *provider.Row) {
			r.Decoded, r.ID = &provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}, uuid.New()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			row := mirrorRow{
				Canonical: provider.Canonical{Type: provider.Anthropic}, column: provider.Anthropic, id: uuid.New(), name: "aws", enabled: !c.disabled,
				unreadable: unreadable.Error(), baseURLKnown: true,
			}
			m := newMirror(hasher)
			m.put(&row)
			clear(m.changed)
			before := *m.observed(desired)
			seen := before
			c.seen(&seen)
			observed := drift.Compare(hasher, desired, &seen, false)
			require.Equal(t, c.taken, m.redecode(drift.Compare(hasher, desired, &before, false), observed))
			require.Equal(t, c.taken, m.changed[row.id], "it is stored anew")
			if !c.taken {
				require.Equal(t, before, *m.observed(desired))
				return
			}
			now := drift.Compare(hasher, desired, m.observed(desired), false)
			require.True(t, now.SameState(observed))
			require.Equal(t, observed.DBHash, now.DBHash)

			// And back, once the key is gone.
			require.True(t, m.redecode(now, drift.Compare(hasher, desired, &before, false)))
			require.Equal(t, drift.Compare(hasher, desired, &before, false).Fields, drift.Compare(hasher, desired, m.observed(desired), false).Fields)
			require.Empty(t, m.rows[row.id].hashes)
		})
	}
}

// testRedecodeUnknownBaseURL has a base URL with a password, which is not stored a second
// time.
func testRedecodeUnknownBaseURL(t *testing.T) {
	t.Parallel()
	const baseURL = "https://svc:password@h/"
	row := mirrorRow{
		Canonical: provider.Canonical{Type: provider.Anthropic}, column: provider.Anthropic, id: uuid.New(), name: "aws", enabled: true,
		unreadable: "encrypted with another key", baseURLShown: provider.DisplayURL(baseURL),
	}
	m := newMirror(hasher)
	m.put(&row)
	for _, inEnvironment := range []string{baseURL, "https://svc:other@h/", "https://h/", ""} {
		desired := provider.Desired{Name: "aws", Type: provider.Anthropic, BaseURL: inEnvironment, Bedrock: &provider.Bedrock{Region: "us-east-1"}}
		look := func(settings provider.DecodedSettings) drift.Observation {
			return drift.Compare(hasher, desired, &provider.Row{
				ID: row.id, Name: "aws", Type: provider.Anthropic, BaseURL: baseURL, Enabled: true, Decoded: &settings,
			}, false)
		}
		mirrored := func() drift.Observation {
			return drift.Compare(hasher, desired, m.observed(desired), false)
		}
		decoded, locked := look(provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}), look(provider.DecodedSettings{Err: errors.New(row.unreadable)})
		require.True(t, m.redecode(mirrored(), decoded), inEnvironment)
		require.True(t, mirrored().SameState(decoded), inEnvironment)
		require.Equal(t, decoded.Fields == nil, mirrored().Fields == nil, inEnvironment)
		require.True(t, m.redecode(mirrored(), locked), inEnvironment)
		require.True(t, mirrored().SameState(locked), inEnvironment)
	}
}
