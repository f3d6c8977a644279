package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"slices"
	"strings"
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

// OfSet returns one digest of a set of secrets: neither their order counts nor
// how often each is in it. That of an empty set is not absent.
func (d Digester) OfSet(texts []Text) Text {
	sums := make([]string, len(texts))
	for i, t := range texts {
		sums[i] = d.sum(t.Reveal())
	}
	slices.Sort(sums)
	// All are of one length, so that no two sets join to the same.
	return New(d.sum(strings.Join(slices.Compact(sums), "")))
}

// OfList returns one digest of secrets in their order, absent ones included.
func (d Digester) OfList(texts ...Text) Text {
	var sums strings.Builder
	for _, t := range texts {
		sums.WriteString(d.sum(t.Reveal()))
	}
	return New(d.sum(sums.String()))
}

func (d Digester) sum(plain string) string {
	d.mac.Reset()
	_, _ = d.mac.Write([]byte(plain))
	return string(d.mac.Sum(nil))
}
