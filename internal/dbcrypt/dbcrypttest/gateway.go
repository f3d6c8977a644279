// Package dbcrypttest writes secrets as the gateway does, for tests. What writes and reads
// them shares nothing with internal/dbcrypt.
package dbcrypttest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// Key is a key of the gateway.
type Key [32]byte

// NewKey returns a random key.
func NewKey() (k Key) {
	_, _ = rand.Read(k[:]) // it never fails
	return k
}

// VectorKey is the key of the bytes 0 to 31.
func VectorKey() (k Key) {
	for i := range k {
		k[i] = byte(i)
	}
	return k
}

// Text returns the key as CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS holds it.
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Digest returns what the columns of key ids hold.
func (k Key) Digest() string {
	return fmt.Sprintf("%x", sha256.Sum256(append([]byte("aes256gcm"), k[:]...)))[:7]
}

// Encrypt returns the text as it is stored.
func (k Key) Encrypt(text string) string {
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce)
	return base64.StdEncoding.EncodeToString(k.gcm().Seal(nonce, nonce, []byte(text), nil))
}

// Decrypt returns what was encrypted.
func (k Key) Decrypt(stored string) (string, error) {
	sealed, err := base64.StdEncoding.DecodeString(stored)
	if err != nil || len(sealed) < 12 {
		return "", fmt.Errorf("not a stored value: %w", err)
	}
	plain, err := k.gcm().Open(nil, sealed[:12], sealed[12:], nil)
	return string(plain), err
}

func (k Key) gcm() cipher.AEAD {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

// List returns the keys as the variable holds them.
func List(keys ...Key) string {
	texts := make([]string, len(keys))
	for i, key := range keys {
		texts[i] = key.Text()
	}
	return strings.Join(texts, ",")
}
