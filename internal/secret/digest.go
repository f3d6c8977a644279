package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
)

// Digester makes digests of secrets with a random key of its own: HMAC-SHA-256.
// Equal secrets have equal digests, and who sees digests can neither guess at the
// secrets nor compare them with digests made by another. Its methods must not be
// called at once by several goroutines.
type Digester struct{ mac hash.Hash }

// NewDigester returns a digester with a new key.
func NewDigester() Digester {
	key := make([]byte, sha256.Size)
	// It never fails.
	_, _ = rand.Read(key)
	return Digester{hmac.New(sha256.New, key)}
}

// Of returns the digest of a secret, and of an absent one the absent secret.
func (d Digester) Of(t Text) Text {
	if t.IsZero() {
		return t
	}
	return New(d.sum(t.Reveal()))
}

func (d Digester) sum(plain string) string {
	d.mac.Reset()
	_, _ = d.mac.Write([]byte(plain))
	return string(d.mac.Sum(nil))
}
