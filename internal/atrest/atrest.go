// Package atrest encrypts what the provider tables keep secret: API keys, and
// settings, which can hold credentials. docs/secrets-at-rest.md describes the
// stored form for whoever else reads it.
package atrest

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/tink"

	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// Place is a value of the provider tables. A ciphertext is bound to its place, so
// that it decrypts in no other row or column.
type Place string

// SettingsOf is the place of a provider's settings.
func SettingsOf(provider uuid.UUID) Place { return Place("ai_providers.settings:" + provider.String()) }

// KeyOf is the place of the API key with the id given.
func KeyOf(key uuid.UUID) Place { return Place("ai_provider_keys.api_key:" + key.String()) }

// keyIDColumn returns the column that names the key of the place's ciphertext.
func (p Place) keyIDColumn() string {
	column, _, _ := strings.Cut(string(p), ":")
	_, column, _ = strings.Cut(column, ".")
	return column + "_key_id"
}

// Keyset encrypts with its primary key and decrypts with all of its keys that
// are enabled. One without a file has no keys: it leaves everything in plain
// text, and can read nothing else. Its methods may be called by several
// goroutines.
type Keyset struct {
	path string
	keys atomic.Pointer[keys]
}

// Load reads the keyset file, in the JSON form in which Tink writes keysets in
// clear text; an empty path gives a keyset without keys. The error is a
// [*KeysetError].
func Load(path string) (*Keyset, error) {
	k := &Keyset{path: path}
	return k, k.Reload()
}

// Reload reads the file again. One that cannot be used changes nothing.
func (k *Keyset) Reload() error {
	if k.path == "" {
		k.keys.Store(&keys{})
		return nil
	}
	read, err := readFile(k.path)
	if err == nil {
		var usable *keys
		if usable, err = usableKeys(read); err == nil {
			k.keys.Store(usable)
			return nil
		}
	}
	return &KeysetError{Path: k.path, Err: err}
}

// Primary returns the id of the key that new secrets are encrypted with, empty
// for a keyset without keys.
func (k *Keyset) Primary() string { return k.keys.Load().primary }

// Why a stored value cannot be decrypted. The messages hold nothing of it.
var (
	ErrUnknownKey    = errors.New("the keyset lacks this key")
	ErrContradiction = errors.New("the key id beside the ciphertext is not the one in it")
	ErrNotDecrypted  = errors.New("it does not decrypt")
)

// DecryptError says why a stored value cannot be decrypted. It names the key and
// the remedy, and holds nothing of the value.
type DecryptError struct {
	Column string // which names the key
	KeyID  string // as in the database, which can hold anything
	Err    error  // one of the Err… values above
	// NoKeyset reports whether there was no keyset to look for the key in.
	NoKeyset bool
}

func (e *DecryptError) Unwrap() error { return e.Err }

func (e *DecryptError) Error() string {
	const maxShown = 40
	id := e.KeyID
	if len(id) > maxShown {
		id = id[:maxShown] + "…"
	}
	encrypted := fmt.Sprintf("encrypted with key %q (%s)", id, e.Column)
	switch {
	case e.NoKeyset:
		return encrypted + ", and this worker has no keyset: start it with the --keyset that holds the key"
	case errors.Is(e.Err, ErrUnknownKey):
		return encrypted + ", which this worker does not have: add the key to its --keyset, and send it SIGHUP"
	case errors.Is(e.Err, ErrContradiction):
		return encrypted + ", which the ciphertext contradicts: write the value anew"
	default:
		return encrypted + ", with which it does not decrypt, as when it was changed or is of another row: write the value anew"
	}
}

// Seal encrypts a secret for its place with the primary key, and returns it as
// it is to be stored, with the id of the key. Without keys it is the plain text,
// and the id is empty; an absent secret stays absent.
func (k *Keyset) Seal(plain secret.Text, at Place) (stored, keyID string, err error) {
	keys := k.keys.Load()
	if keys.primary == "" || plain.IsZero() {
		return plain.Reveal(), "", nil
	}
	text := []byte(plain.Reveal())
	defer clear(text)
	return keys.seal(text, at)
}

// Reseal encrypts a stored value anew, with the primary key.
func (k *Keyset) Reseal(stored secret.Text, keyID string, at Place) (resealed, newKeyID string, err error) {
	plain, err := k.Open(stored, keyID, at)
	if err != nil {
		return "", "", err
	}
	defer clear(plain)
	return k.keys.Load().seal(plain, at)
}

func (k *keys) seal(plain []byte, at Place) (stored, keyID string, err error) {
	if k.primary == "" {
		return "", "", errors.New("there is no key to encrypt with: give a --keyset")
	}
	sealed, err := k.byID[k.primary].Encrypt(plain, []byte(at))
	if err != nil {
		return "", "", fmt.Errorf("encrypt with key %s: %w", k.primary, err)
	}
	return base64.StdEncoding.EncodeToString(sealed), k.primary, nil
}

// Open returns the plain text of a stored value, for the caller to clear. An
// empty key id means that it is stored in plain text. The error is a
// [*DecryptError].
func (k *Keyset) Open(stored secret.Text, keyID string, at Place) ([]byte, error) {
	if keyID == "" {
		return []byte(stored.Reveal()), nil
	}
	keys := k.keys.Load()
	failed := func(reason error) ([]byte, error) {
		return nil, &DecryptError{Column: at.keyIDColumn(), KeyID: keyID, Err: reason, NoKeyset: keys.primary == ""}
	}
	key := keys.byID[keyID]
	if key == nil {
		return failed(ErrUnknownKey)
	}
	sealed, err := base64.StdEncoding.DecodeString(stored.Reveal())
	if err != nil {
		return failed(ErrNotDecrypted)
	}
	if idIn(sealed) != keyID {
		return failed(ErrContradiction)
	}
	plain, err := key.Decrypt(sealed, []byte(at))
	if err != nil {
		return failed(ErrNotDecrypted)
	}
	return plain, nil
}

// idIn returns the id of the key that a ciphertext says it was made with: Tink
// begins it with a byte 1 and the id in big-endian order.
func idIn(sealed []byte) string {
	const prefix = 5
	if len(sealed) < prefix || sealed[0] != 1 {
		return ""
	}
	return formatID(binary.BigEndian.Uint32(sealed[1:prefix]))
}

func formatID(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// SealSettings is [Keyset.Seal] for the settings of a provider.
func (k *Keyset) SealSettings(id uuid.UUID, plain secret.Text) (stored, keyID string, err error) {
	return k.Seal(plain, SettingsOf(id))
}

// SealKey is [Keyset.Seal] for an API key.
func (k *Keyset) SealKey(id uuid.UUID, plain secret.Text) (stored, keyID string, err error) {
	return k.Seal(plain, KeyOf(id))
}

// PlainSettings is [Keyset.Open] for the settings of a provider.
func (k *Keyset) PlainSettings(id uuid.UUID, stored secret.Text, keyID string) ([]byte, error) {
	return k.Open(stored, keyID, SettingsOf(id))
}

// OpenSettings decodes the settings of a provider as [provider.DecodeSettings]
// does, encrypted ones as well.
func (k *Keyset) OpenSettings(id uuid.UUID, stored secret.Text, keyID string) (*provider.Bedrock, error) {
	plain, err := k.Open(stored, keyID, SettingsOf(id))
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return provider.ParseSettings(plain)
}

// OpenRegion decodes the settings of a provider as [provider.DecodeRegion] does,
// encrypted ones as well.
func (k *Keyset) OpenRegion(id uuid.UUID, stored secret.Text, keyID string) *provider.DecodedSettings {
	plain, err := k.Open(stored, keyID, SettingsOf(id))
	if err != nil {
		return &provider.DecodedSettings{Err: err}
	}
	defer clear(plain)
	return provider.ParseRegion(plain)
}

// Has reports whether the keyset can decrypt what was encrypted with the key; an
// empty id stands for plain text.
func (k *Keyset) Has(keyID string) bool {
	return keyID == "" || k.keys.Load().byID[keyID] != nil
}

// OpenRow puts what is decoded of a row's encrypted settings beside them and,
// with credentials set, their credentials as well, and decrypts its keys. What is
// stored in plain text is left as it is.
func (k *Keyset) OpenRow(row *provider.Row, credentials bool) {
	switch {
	case row.SettingsKeyID == "" || row.Decoded != nil:
	case credentials:
		row.Decoded = provider.DecodedWithCredentials(k.OpenSettings(row.ID, row.Settings, row.SettingsKeyID))
	default:
		row.Decoded = k.OpenRegion(row.ID, row.Settings, row.SettingsKeyID)
	}
	if !credentials {
		return
	}
	for i := range row.Keys {
		key := &row.Keys[i]
		if key.KeyID == "" {
			continue
		}
		plain, err := k.Open(key.Key, key.KeyID, KeyOf(key.ID))
		if err != nil {
			key.Err = err
			continue
		}
		key.Key, key.KeyID = secret.New(string(plain)), ""
		clear(plain)
	}
}

// keys are the enabled keys of a keyset, by their ids in decimal.
type keys struct {
	primary string
	byID    map[string]tink.AEAD
}
