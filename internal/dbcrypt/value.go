package dbcrypt

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"provwatch/internal/secret"
)

// Why a stored value cannot be decrypted. The messages hold nothing of it.
var (
	ErrUnknownKey   = errors.New("its key is not configured")
	ErrDamaged      = errors.New("it does not decrypt")
	ErrFormerKeyset = errors.New("it was encrypted by a former version of provwatch")
)

// DecryptError says why a stored value cannot be decrypted. It names the key, and
// holds nothing of the value.
type DecryptError struct {
	KeyID string // as in the database, which can hold anything
	Err   error  // one of the Err… values above
}

func (e *DecryptError) Unwrap() error { return e.Err }

func (e *DecryptError) Error() string {
	encrypted := "encrypted with key " + shownDigest(e.KeyID)
	switch {
	case errors.Is(e.Err, ErrFormerKeyset):
		return encrypted + " of the --keyset of a former version: " + FormerKeysetRemedy
	case errors.Is(e.Err, ErrUnknownKey):
		return encrypted + ofUnknownKey
	default:
		return encrypted + ", but does not decrypt with it: the value is damaged and must be written again"
	}
}

const ofUnknownKey = ", which is not in " + KeysVariable

// SaysUnknownKey reports whether the message of a [*DecryptError] is that of an
// [ErrUnknownKey], for who keeps the message alone.
func SaysUnknownKey(message string) bool { return strings.HasSuffix(message, ofUnknownKey) }

// FormerKeysetRemedy says what to do about values that a former version has
// encrypted.
const FormerKeysetRemedy = `decrypt the stored secrets with that version first ("worker keys decrypt" with its --keyset), then start this one`

// shownDigest returns the id of a key as messages show it: a digest as it is, and
// anything else quoted and cut.
func shownDigest(id string) string {
	const most = 40
	if isDigest(id) {
		return id
	}
	if len(id) > most {
		id = id[:most] + "…"
	}
	return strconv.QuoteToASCII(id)
}

func isDigest(id string) bool {
	return len(id) == digestSize && strings.Trim(id, "0123456789abcdef") == ""
}

func (k *key) seal(plain []byte) (string, error) {
	sealed := make([]byte, nonceSize, nonceSize+len(plain)+k.aead.Overhead())
	if _, err := rand.Read(sealed); err != nil {
		return "", fmt.Errorf("encrypt with key %s: %w", k.digest, err)
	}
	return base64.StdEncoding.EncodeToString(k.aead.Seal(sealed, sealed, plain, nil)), nil
}

// open returns the plain text of a stored value, for the caller to clear.
func (k *key) open(sealed []byte) ([]byte, error) {
	if len(sealed) < nonceSize+k.aead.Overhead() {
		return nil, ErrDamaged
	}
	plain, err := k.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], nil)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// Open returns the plain text of a stored value, for the caller to clear. An empty
// key id means that it is stored in plain text. The error is a [*DecryptError].
func (k Keys) Open(stored secret.Text, keyID string) ([]byte, error) {
	if keyID == "" {
		return []byte(stored.Reveal()), nil
	}
	sealed, err := base64.StdEncoding.DecodeString(stored.Reveal())
	if err == nil && isFormer(sealed, keyID) {
		return nil, &DecryptError{keyID, ErrFormerKeyset}
	}
	key := k.find(keyID)
	if key == nil {
		return nil, &DecryptError{keyID, ErrUnknownKey}
	}
	if err != nil {
		return nil, &DecryptError{keyID, ErrDamaged}
	}
	plain, err := key.open(sealed)
	if err != nil {
		return nil, &DecryptError{keyID, err}
	}
	return plain, nil
}

// isFormer reports whether a ciphertext is of the keysets that former versions of
// provwatch encrypted with: the key id is a number in decimal, and the ciphertext
// begins with a byte 1 and that number in four bytes.
func isFormer(sealed []byte, keyID string) bool {
	const prefix = 5
	id, err := strconv.ParseUint(keyID, 10, 32)
	return err == nil && len(sealed) >= prefix && sealed[0] == 1 && binary.BigEndian.Uint32(sealed[1:prefix]) == uint32(id)
}
