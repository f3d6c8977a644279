package atrest_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/atrest"
	"provwatch/internal/atrest/atresttest"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// sealed encrypts a text that must be encrypted.
func sealed(t require.TestingT, keys *atrest.Keyset, plain string, at atrest.Place) (secret.Text, string) {
	stored, keyID, err := keys.Seal(secret.New(plain), at)
	require.NoError(t, err)
	require.Equal(t, keys.Primary(), keyID)
	return secret.New(stored), keyID
}

func TestWhatIsSealedOpensAtItsPlaceAndIsNotReadable(t *testing.T) {
	_, keys := atresttest.NewKeyset(t)
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.StringN(1, -1, -1).Draw(t, "plain")
		at := atrest.SettingsOf(uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")))
		stored, keyID := sealed(t, keys, plain, at)
		opened, err := keys.Open(stored, keyID, at)
		require.NoError(t, err)
		require.Equal(t, plain, string(opened))

		raw, err := base64.StdEncoding.DecodeString(stored.Reveal())
		require.NoError(t, err)
		if len(plain) >= 4 {
			require.NotContains(t, stored.Reveal(), plain)
			require.NotContains(t, string(raw), plain)
		}
		again, _ := sealed(t, keys, plain, at)
		require.NotEqual(t, stored.Reveal(), again.Reveal(), "the same text gives another ciphertext each time")
	})
}

func TestACiphertextOpensNowhereElse(t *testing.T) {
	_, keys := atresttest.NewKeyset(t)
	a, b := uuid.New(), uuid.New()
	stored, keyID := sealed(t, keys, "AKIA-plain", atrest.KeyOf(a))
	for name, at := range map[string]atrest.Place{"another row": atrest.KeyOf(b), "another column": atrest.SettingsOf(a)} {
		_, err := keys.Open(stored, keyID, at)
		require.ErrorIs(t, err, atrest.ErrNotDecrypted, name)
		require.ErrorContains(t, err, keyID)
	}
}

func TestAChangedCiphertextDoesNotOpen(t *testing.T) {
	_, keys := atresttest.NewKeyset(t)
	at := atrest.SettingsOf(uuid.New())
	stored, keyID := sealed(t, keys, "AKIA-plain", at)
	raw, err := base64.StdEncoding.DecodeString(stored.Reveal())
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		changed := append([]byte{}, raw...)
		i := rapid.IntRange(0, len(raw)-1).Draw(t, "at")
		changed[i] ^= rapid.ByteRange(1, 255).Draw(t, "by")
		changed = changed[:rapid.IntRange(0, len(changed)).Draw(t, "length")]
		_, err := keys.Open(secret.New(base64.StdEncoding.EncodeToString(changed)), keyID, at)
		require.Error(t, err)
	})
	for name, text := range map[string]string{"nothing": "", "plain text": "AKIA-plain", "JSON": `{"_type":"bedrock"}`} {
		_, err := keys.Open(secret.New(text), keyID, at)
		require.ErrorAs(t, err, new(*atrest.DecryptError), name)
		require.NotContains(t, err.Error(), "AKIA")
	}
}

func TestOnlyTheKeyThatIsNamedOpens(t *testing.T) {
	path, keys := atresttest.NewKeyset(t)
	first := keys.Primary()
	at := atrest.SettingsOf(uuid.New())
	stored, _ := sealed(t, keys, "AKIA-plain", at)
	second, err := atrest.Add(path)
	require.NoError(t, err)
	require.NoError(t, keys.Reload())

	_, err = keys.Open(stored, second, at)
	require.ErrorIs(t, err, atrest.ErrContradiction)
	for _, unknown := range []string{"7", "0" + first, " " + first, "+" + first, "key-7", strings.Repeat("9", 500)} {
		_, err = keys.Open(stored, unknown, at)
		require.ErrorIs(t, err, atrest.ErrUnknownKey, unknown)
		require.Less(t, len(err.Error()), 250)
	}
	_, err = keys.Open(stored, "", at)
	require.NoError(t, err, "without a key id it is plain text, which the settings decoder refuses")

	_, other := atresttest.NewKeyset(t)
	_, err = other.Open(stored, first, at)
	require.ErrorIs(t, err, atrest.ErrUnknownKey)
	require.ErrorContains(t, err, `"`+first+`" (settings_key_id)`)
	require.ErrorContains(t, err, "--keyset")
}

func TestWithoutKeysEverythingIsPlainText(t *testing.T) {
	none := atresttest.Load(t, "")
	at := atrest.KeyOf(uuid.New())
	stored, keyID, err := none.Seal(secret.New("plain"), at)
	require.NoError(t, err)
	require.Equal(t, [2]string{"plain", ""}, [2]string{stored, keyID})
	opened, err := none.Open(secret.New("plain"), "", at)
	require.NoError(t, err)
	require.Equal(t, "plain", string(opened))
	_, err = none.Open(secret.New("x"), "7", at)
	require.ErrorContains(t, err, `"7" (api_key_key_id)`)
	_, _, err = none.Reseal(secret.New("plain"), "", at)
	require.ErrorContains(t, err, "--keyset")
	require.True(t, none.Has(""))
	require.False(t, none.Has("7"))
}

func TestAbsentSecretsStayAbsent(t *testing.T) {
	_, keys := atresttest.NewKeyset(t)
	stored, keyID, err := keys.SealSettings(uuid.New(), secret.Text{})
	require.NoError(t, err)
	require.Empty(t, stored+keyID)
}

func TestAKeyAddedIsUsedOnceItIsPromotedAndTheFormerOneStillOpens(t *testing.T) {
	path, keys := atresttest.NewKeyset(t)
	first := keys.Primary()
	at := atrest.KeyOf(uuid.New())
	stored, _ := sealed(t, keys, "plain", at)

	second, err := atrest.Add(path)
	require.NoError(t, err)
	require.NoError(t, keys.Reload())
	require.Equal(t, first, keys.Primary())
	require.True(t, keys.Has(second))
	require.NoError(t, atrest.Promote(path, second))
	require.Equal(t, first, keys.Primary(), "until it is read again")
	require.NoError(t, keys.Reload())
	require.Equal(t, second, keys.Primary())

	resealed, keyID, err := keys.Reseal(stored, first, at)
	require.NoError(t, err)
	require.Equal(t, second, keyID)
	require.ErrorContains(t, atrest.Remove(path, second), "primary key cannot be removed")
	require.NoError(t, atrest.Remove(path, first))
	require.NoError(t, keys.Reload())
	opened, err := keys.Open(secret.New(resealed), second, at)
	require.NoError(t, err)
	require.Equal(t, "plain", string(opened))
	require.False(t, keys.Has(first))
	list, err := atrest.List(path)
	require.NoError(t, err)
	require.Equal(t, []atrest.KeyInfo{{ID: second, Status: "enabled", Primary: true}}, list)
}

func TestAKeyThatTheFileDoesNotHaveIsAnError(t *testing.T) {
	path, _ := atresttest.NewKeyset(t)
	for _, id := range []string{"7", "", "x", "99999999999999999999"} {
		require.ErrorContains(t, atrest.Promote(path, id), "has no key")
		require.ErrorContains(t, atrest.Remove(path, id), "has no key")
	}
}

func TestKeysAddedAtOnceAreAllKept(t *testing.T) {
	path, _ := atresttest.NewKeyset(t)
	const writers = 8
	ids := make([]string, writers)
	failed := make([]error, writers)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() { ids[i], failed[i] = atrest.Add(path) })
	}
	group.Wait()
	keys := atresttest.Load(t, path)
	for i, id := range ids {
		require.NoError(t, failed[i])
		require.True(t, keys.Has(id))
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAFileThatOthersCanAccessIsRefused(t *testing.T) {
	path, keys := atresttest.NewKeyset(t)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o644, 0o610} {
		require.NoError(t, os.Chmod(path, mode))
		_, err := atrest.Load(path)
		require.ErrorContains(t, err, "chmod 600 "+path)
		require.ErrorAs(t, err, new(*atrest.KeysetError))
		require.Error(t, keys.Reload())
		_, err = atrest.Add(path)
		require.ErrorContains(t, err, "chmod 600")
	}
	for _, mode := range []os.FileMode{0o400, 0o600} {
		require.NoError(t, os.Chmod(path, mode))
		require.NoError(t, keys.Reload())
	}
}

// ofTinkey is a keyset as Tink's own command writes it, for AES256_GCM.
const ofTinkey = `{
  "primaryKeyId": 1931667682,
  "key": [{
    "keyData": {
      "typeUrl": "type.googleapis.com/google.crypto.tink.AesGcmKey",
      "value": "GiBm9oBvtd7UOKDWTnQx2iTCLpsmOMi1WTs0jDqnpTBGbQ==",
      "keyMaterialType": "SYMMETRIC"
    },
    "status": "ENABLED", "keyId": 1931667682, "outputPrefixType": "TINK"
  }, {
    "keyData": {
      "typeUrl": "type.googleapis.com/google.crypto.tink.AesGcmKey",
      "value": "GiBm9oBvtd7UOKDWTnQx2iTCLpsmOMi1WTs0jDqnpTBGbQ==",
      "keyMaterialType": "SYMMETRIC"
    },
    "status": "DISABLED", "keyId": 5, "outputPrefixType": "TINK"
  }]
}`

func TestAKeysetOfTinkeyIsUsedAndWhatItsDisabledKeysEncryptedIsNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyset.json")
	require.NoError(t, os.WriteFile(path, []byte(ofTinkey), 0o600))
	keys := atresttest.Load(t, path)
	require.Equal(t, "1931667682", keys.Primary())
	require.False(t, keys.Has("5"))
	at := atrest.SettingsOf(uuid.New())
	stored, keyID := sealed(t, keys, "plain", at)
	opened, err := keys.Open(stored, keyID, at)
	require.NoError(t, err)
	require.Equal(t, "plain", string(opened))
}

func TestAFileThatCannotBeUsedIsRefusedWithoutItsContentAndChangesNothing(t *testing.T) {
	const material = "GiBm9oBvtd7UOKDWTnQx2iTCLpsmOMi1WTs0jDqnpTBGbQ"
	path, keys := atresttest.NewKeyset(t)
	primary := keys.Primary()
	for name, content := range map[string]string{
		"empty":                   "",
		"not JSON":                material,
		"no keys":                 `{"primaryKeyId":1,"key":[]}`,
		"cut off":                 ofTinkey[:len(ofTinkey)-200],
		"no such primary":         strings.Replace(ofTinkey, "1931667682", "7", 1),
		"a disabled primary":      strings.Replace(ofTinkey, `"ENABLED"`, `"DISABLED"`, 1),
		"a raw key":               strings.Replace(ofTinkey, `"TINK"`, `"RAW"`, 1),
		"an unknown type":         strings.Replace(ofTinkey, "AesGcmKey", material, 1),
		"a key that is too short": strings.Replace(ofTinkey, "GiBm9oBvtd7UOKDWTnQx2iTCLpsmOMi1WTs0jDqnpTBGbQ==", "GhBm9oBvtd7UOKDWTnQx2iTC", 1),
		"a field that is none":    strings.Replace(ofTinkey, `"key"`, `"`+material+`":1,"key"`, 1),
		"two keys of one id":      strings.Replace(ofTinkey, `"keyId": 5`, `"keyId": 1931667682`, 1),
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := atrest.Load(path)
		require.ErrorAs(t, err, new(*atrest.KeysetError), name)
		require.ErrorContains(t, err, path)
		require.NotContains(t, err.Error(), material, name)
		_, err = atrest.List(path)
		require.Error(t, err, name)
		require.Error(t, keys.Reload(), name)
		require.Equal(t, primary, keys.Primary(), name)
		_, err = atrest.Add(path)
		require.Error(t, err, name)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for name, path := range map[string]string{"absent": filepath.Join(t.TempDir(), "none"), "a folder": t.TempDir(), "a pipe": pipe} {
		_, err := atrest.Load(path)
		require.ErrorAs(t, err, new(*atrest.KeysetError), name)
	}
}

func TestAnEditKeepsTheLinkToTheFile(t *testing.T) {
	path, _ := atresttest.NewKeyset(t)
	link := filepath.Join(t.TempDir(), "link.json")
	require.NoError(t, os.Symlink(path, link))
	id, err := atrest.Add(link)
	require.NoError(t, err)
	require.True(t, atresttest.Load(t, path).Has(id))
	require.NoError(t, os.Remove(path))
	_, err = atrest.Add(link)
	require.ErrorContains(t, err, "not mounted")
	target, err := os.Readlink(link)
	require.NoError(t, err)
	require.Equal(t, path, target)
}

func TestARowIsDecodedWithWhatIsAskedForAndNoMore(t *testing.T) {
	_, keys := atresttest.NewKeyset(t)
	bedrock := provider.Bedrock{Region: "eu-west-1", AccessKey: secret.New("AKIA-plain"), AccessKeySecret: secret.New("plain")}
	id, key, lost := uuid.New(), uuid.New(), uuid.New()
	settings, settingsKeyID, err := keys.SealSettings(id, bedrock.Encode())
	require.NoError(t, err)
	sealedKey, keyID, err := keys.SealKey(key, secret.New("sk-plain"))
	require.NoError(t, err)
	row := func() *provider.Row {
		return &provider.Row{ID: id, Type: provider.Anthropic, Settings: secret.New(settings), SettingsKeyID: settingsKeyID, Keys: []provider.StoredKey{
			{ID: key, Key: secret.New(sealedKey), KeyID: keyID},
			{ID: lost, Key: secret.New(sealedKey), KeyID: keyID}, // moved from another row
			{ID: uuid.New(), Key: secret.New("plain")},
		}}
	}

	without := row()
	keys.OpenRow(without, false)
	require.NoError(t, without.Decoded.Err)
	require.Equal(t, "eu-west-1", without.Decoded.BedrockRegion)
	require.True(t, without.Decoded.AccessKey.IsZero())
	require.Equal(t, keyID, without.Keys[0].KeyID)

	with := row()
	keys.OpenRow(with, true)
	require.Equal(t, "AKIA-plain", with.Decoded.AccessKey.Reveal())
	require.Equal(t, "sk-plain", with.Keys[0].Key.Reveal())
	require.Empty(t, with.Keys[0].KeyID)
	require.ErrorIs(t, with.Keys[1].Err, atrest.ErrNotDecrypted)
	require.Equal(t, keyID, with.Keys[1].KeyID, "never taken for plain text")
	require.Equal(t, "plain", with.Keys[2].Key.Reveal())

	moved := row()
	moved.ID = lost
	for _, credentials := range []bool{false, true} {
		moved.Decoded = nil
		keys.OpenRow(moved, credentials)
		_, err := moved.Canonical()
		require.ErrorIs(t, err, atrest.ErrNotDecrypted)
	}
}
