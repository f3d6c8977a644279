package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
)

// Digester makes digests of secrets with a random key of its own: HMAC-SHA-256.
// Equal secrets have equal digests, and who sees digests can neither guess at the
// secrets nor compare them with digests made by another. It has no other state, so
// its methods may be called by several goroutines.
type Digester struct{ key string }

// NewDigester returns a digester with a new key.
func NewDigester() Digester {
	key := make([]byte, sha256.Size)
	// It never fails.
	_, _ = rand.Read(key)
	return Digester{string(key)}
}

// Of returns the digest of a secret, and of an absent one the absent secret.
func (d Digester) Of(t Text) Text {
	if t.IsZero() {
		return t
	}
	mac := hmac.New(sha256.New, []byte(d.key))
	_, _ = mac.Write([]byte(t.Reveal()))
	return New(string(mac.Sum(nil)))
}
