// Package dbcrypt encrypts and decrypts secrets at rest in the gateway's own
// format: API keys, and settings, which can hold credentials
// (docs/specification.md, section 3).
//
// A stored value is base64 (standard alphabet, padded) of a nonce of 12 bytes
// followed by the AES-256-GCM ciphertext with its tag. Beside it stands the digest
// of its key, which refers to a row of the table dbcrypt_keys.
package dbcrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"provwatch/internal/regularfile"
)

// The variables that hold the keys. They are the gateway's own.
const (
	KeysVariable     = "CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS"
	KeysFileVariable = KeysVariable + "_FILE"
)

const (
	keySize   = 32
	nonceSize = 12
	// digestSize is how many hexadecimal digits a digest has.
	digestSize = 7
)

// Keys are the configured keys, in their order. The zero value has none. Keys are
// not changed once they are made.
type Keys struct{ list []key }

type key struct {
	digest string
	aead   cipher.AEAD
}

// ParseKeys parses a comma-separated list of base64-encoded keys of 32 bytes, as
// [KeysVariable] holds them. Spaces around a key do not count. The error names keys
// by their place in the list, and holds nothing of the text.
func ParseKeys(text string) (Keys, error) {
	var keys Keys
	for i, element := range strings.Split(text, ",") {
		decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(element))
		if err != nil {
			return Keys{}, fmt.Errorf("key %d of the list is not base64 (standard alphabet, padded)", i+1)
		}
		if len(decoded) != keySize {
			return Keys{}, fmt.Errorf("key %d of the list has %d bytes instead of %d; \"openssl rand -base64 %d\" makes one", i+1, len(decoded), keySize, keySize)
		}
		made, err := newKey(decoded)
		clear(decoded)
		if err != nil {
			return Keys{}, fmt.Errorf("key %d of the list cannot be used", i+1)
		}
		if at := slices.Index(keys.Digests(), made.digest); at >= 0 {
			return Keys{}, fmt.Errorf("keys %d and %d of the list have one digest, %s", at+1, i+1, made.digest)
		}
		keys.list = append(keys.list, made)
	}
	return keys, nil
}

// ReadKeys reads the file that [KeysFileVariable] names, which holds what
// [KeysVariable] would. The error holds nothing of the content.
func ReadKeys(path string) (Keys, error) {
	text, err := regularfile.ReadGuarded(path, regularfile.Limit)
	if err != nil {
		return Keys{}, fmt.Errorf("the file %s cannot be read: %w", regularfile.Shown(path), regularfile.Cause(err))
	}
	defer clear(text)
	keys, err := ParseKeys(string(text))
	if err != nil {
		return Keys{}, fmt.Errorf("the file %s: %w", regularfile.Shown(path), err)
	}
	return keys, nil
}

// FromVariables returns the keys of the variables given, none where neither
// [KeysVariable] nor [KeysFileVariable] is set. variable is the one that the error
// is about.
func FromVariables(variables map[string]string) (keys Keys, variable string, err error) {
	text, path := variables[KeysVariable], variables[KeysFileVariable]
	switch {
	case text != "" && path != "":
		return Keys{}, KeysFileVariable, errors.New("cannot be set together with " + KeysVariable + ": remove one of the two")
	case text != "":
		keys, err = ParseKeys(text)
		return keys, KeysVariable, err
	case path != "":
		keys, err = ReadKeys(path)
		return keys, KeysFileVariable, err
	default:
		return Keys{}, "", nil
	}
}

func newKey(bytes []byte) (key, error) {
	block, err := aes.NewCipher(bytes)
	if err != nil {
		return key{}, err
	}
	aead, err := cipher.NewGCM(block)
	return key{digest: digestOf(bytes), aead: aead}, err
}

// digestOf returns the digest of a key: the first hexadecimal digits of SHA-256 over
// the name of the cipher and the key.
func digestOf(bytes []byte) string {
	hash := sha256.New()
	hash.Write([]byte("aes256gcm"))
	hash.Write(bytes)
	return hex.EncodeToString(hash.Sum(nil))[:digestSize]
}

// Digests returns the digests of the keys, in their order.
func (k Keys) Digests() []string {
	digests := make([]string, len(k.list))
	for i, key := range k.list {
		digests[i] = key.digest
	}
	return digests
}

// find returns the key of the digest, nil if it is not configured.
func (k Keys) find(digest string) *key {
	for i := range k.list {
		if k.list[i].digest == digest {
			return &k.list[i]
		}
	}
	return nil
}
