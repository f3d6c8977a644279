package dbcrypt_test

import (
	"encoding/base64"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

func TestOpen(t *testing.T) {
	key, other := dbcrypttest.VectorKey(), dbcrypttest.NewKey()
	keys := parse(t, other, key)
	former := base64.StdEncoding.EncodeToString(append([]byte{1, 0, 18, 214, 135}, make([]byte, 40)...)) // of key 1234567
	for name, c := range map[string]struct {
		stored, keyID string
		plain         string
		err           error
		message       string
	}{
		"plain text":            {stored: "made-up", plain: "made-up"},
		"the vector":            {stored: vectorStored, keyID: vectorDigest, plain: vectorPlain},
		"of the first key":      {stored: other.Encrypt("made-up"), keyID: other.Digest(), plain: "made-up"},
		"empty":                 {stored: key.Encrypt(""), keyID: vectorDigest, plain: ""},
		"an unknown key":        {stored: vectorStored, keyID: "a1b2c3d", err: dbcrypt.ErrUnknownKey, message: "encrypted with key a1b2c3d, which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS"},
		"an id of something":    {stored: vectorStored, keyID: "a1b2c3d\n", err: dbcrypt.ErrUnknownKey, message: `encrypted with key "a1b2c3d\n", which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS`},
		"of another key":        {stored: other.Encrypt("made-up"), keyID: vectorDigest, err: dbcrypt.ErrDamaged},
		"a changed digit":       {stored: "yMnKy8zNzs/Q0dLTfBkFvqu5iw0fWWaTLjfZJ9Sy2p88UiFQWUCclOkOEunqPujqX40=", keyID: vectorDigest, err: dbcrypt.ErrDamaged},
		"cut":                   {stored: vectorStored[:40], keyID: vectorDigest, err: dbcrypt.ErrDamaged},
		"shorter than a nonce":  {stored: "yMnKy8zN", keyID: vectorDigest, err: dbcrypt.ErrDamaged},
		"a nonce and no tag":    {stored: "yMnKy8zNzs/Q0dLT", keyID: vectorDigest, err: dbcrypt.ErrDamaged},
		"nothing":               {stored: "", keyID: vectorDigest, err: dbcrypt.ErrDamaged},
		"no base64":             {stored: "made-up?", keyID: vectorDigest, err: dbcrypt.ErrDamaged},
		"of a former keyset":    {stored: former, keyID: "1234567", err: dbcrypt.ErrFormerKeyset, message: `encrypted with key 1234567 of the --keyset of a former version: ` + dbcrypt.FormerKeysetRemedy},
		"a digest of seven 0-9": {stored: vectorStored, keyID: "1234567", err: dbcrypt.ErrUnknownKey},
	} {
		t.Run(name, func(t *testing.T) {
			plain, err := keys.Open(secret.New(c.stored), c.keyID)
			if c.err == nil {
				require.NoError(t, err)
				require.Equal(t, c.plain, string(plain))
				return
			}
			require.ErrorIs(t, err, c.err)
			if c.message != "" {
				require.EqualError(t, err, c.message)
			}
			if len(c.stored) > 10 {
				require.NotContains(t, err.Error(), c.stored[:10])
			}
		})
	}
}

// TestEmptyRing reads plain text, and says of what is encrypted that its key
// is not configured.
func TestEmptyRing(t *testing.T) {
	var none *dbcrypt.Ring
	require.True(t, none.Has(""))
	require.False(t, none.Has(vectorDigest))
	plain, err := none.Open(secret.New("made-up"), "")
	require.NoError(t, err)
	require.Equal(t, "made-up", string(plain))
	_, err = none.Open(secret.New(vectorStored), vectorDigest)
	require.ErrorIs(t, err, dbcrypt.ErrUnknownKey)
}

func TestOpenRow(t *testing.T) {
	key, unknown := dbcrypttest.VectorKey(), dbcrypttest.NewKey()
	ring := dbcrypt.NewRing(parse(t, key))
	settings := `{"_type":"bedrock","_version":1,"region":"us-east-1","access_key":"AKIAX","access_key_secret":"made-up","role_arn":"r"}`
	row := func() *provider.Row {
		return &provider.Row{
			ID: uuid.New(), Type: provider.Anthropic, Settings: secret.New(key.Encrypt(settings)), SettingsKeyID: key.Digest(),
			Keys: []provider.StoredKey{
				{Key: secret.New(vectorStored), KeyID: vectorDigest},
				{Key: secret.New("plain")},
				{Key: secret.New(unknown.Encrypt("x")), KeyID: unknown.Digest()},
			},
		}
	}
	one := row()
	ring.OpenRow(one, true)
	require.NoError(t, one.Decoded.Err)
	require.True(t, one.Decoded.IsBedrock)
	require.Equal(t, "us-east-1", one.Decoded.BedrockRegion)
	require.Equal(t, "made-up", one.Decoded.AccessKeySecret.Reveal())
	require.Equal(t, vectorPlain, one.Keys[0].Key.Reveal())
	require.Empty(t, one.Keys[0].KeyID)
	require.Equal(t, "plain", one.Keys[1].Key.Reveal())
	require.ErrorIs(t, one.Keys[2].Err, dbcrypt.ErrUnknownKey)
	require.Equal(t, unknown.Digest(), one.Keys[2].KeyID)

	brief := row()
	ring.OpenRow(brief, false)
	require.Equal(t, "us-east-1", brief.Decoded.BedrockRegion)
	require.True(t, brief.Decoded.AccessKeySecret.IsZero())
	require.Equal(t, vectorDigest, brief.Keys[0].KeyID, "keys are not decrypted")

	ring.Replace(parse(t, unknown))
	lost := row()
	ring.OpenRow(lost, false)
	require.ErrorIs(t, lost.Decoded.Err, dbcrypt.ErrUnknownKey)
}
