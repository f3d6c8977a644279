package provider

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// keyedPrefix begins every keyed digest, so that wherever it stands it is told from a
// canonical hash.
const keyedPrefix = "hmac:"

// Hasher makes the hashes that are compared, stored and published. That of a base URL
// which can hold credentials is a keyed digest, HMAC-SHA-256 of what the canonical
// hash is made of: a canonical hash would let whoever sees it try passwords. The key
// is in provwatch.hash_key. All methods of the zero value panic: a hash without a key
// would give away what it is there to keep.
type Hasher struct{ key, id string }

// NewHasher returns the hasher of a key, as provwatch.hash_key holds it.
func NewHasher(key []byte) Hasher {
	id := sha256.Sum256(append([]byte("provwatch hash key "), key...))
	return Hasher{string(key), hex.EncodeToString(id[:8])}
}

// ID identifies the key. It does not help to guess it.
func (h Hasher) ID() string { return h.id }

// NewRandomHasher returns a hasher with a key of its own. Its keyed digests equal one
// another and none that is stored or published: it is for whoever may not read the
// key, or where there is none yet.
func NewRandomHasher() Hasher {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // it never fails
	return NewHasher(key)
}

// IsZero reports whether the hasher has no key, and so cannot be used.
func (h Hasher) IsZero() bool { return h.key == "" }

// Hash returns the canonical hash of c, or the keyed digest in its place.
func (h Hasher) Hash(c Canonical) string {
	if h.IsZero() {
		panic("provider: a Hasher without a key was used")
	}
	if !MayHoldCredentials(c.BaseURL) {
		return c.Hash()
	}
	return h.digest(c.encode())
}

func (h Hasher) digest(text []byte) string {
	mac := hmac.New(sha256.New, []byte(h.key))
	_, _ = mac.Write(text)
	return keyedPrefix + hex.EncodeToString(mac.Sum(nil))
}

// maxKept bounds a value that is stored a second time, in bytes.
const maxKept = 1024

// Keep returns what is stored of a value to compare later ones with it: the value itself, or
// a keyed digest of a value that is too long. Equal values are kept equal, and others differ.
func (h Hasher) Keep(value string) string {
	if len(value) > maxKept || IsKeyed(value) {
		return h.digest([]byte(value))
	}
	return value
}

// KeepURL is [Hasher.Keep] of a base URL, with a keyed digest of a URL that can hold credentials.
func (h Hasher) KeepURL(baseURL string) string {
	if MayHoldCredentials(baseURL) {
		return h.digest([]byte(baseURL))
	}
	return h.Keep(baseURL)
}

// RowHashes returns the hashes of a row's canonical fields, made by [CanonicalOfRow].
func (h Hasher) RowHashes(c Canonical) RowHashes {
	hashes := RowHashes{Alone: h.Hash(c)}
	hashes.Anthropic = hashes.Alone
	if anthropic := c.against(Anthropic, true); anthropic != c {
		hashes.Anthropic = h.Hash(anthropic)
	}
	return hashes
}

// EnvironmentDigest returns the digest of an environment, HMAC-SHA-256 over the names and
// canonical hashes of its providers in the order of their names (docs/specification.md,
// section 4). No credential of them goes into it, apart from the ones in a base URL.
func (h Hasher) EnvironmentDigest(providers []Desired) string {
	if h.IsZero() {
		panic("provider: a Hasher without a key was used")
	}
	pairs := make([][2]string, len(providers))
	for i, d := range providers {
		pairs[i] = [2]string{d.Name, d.Canonical().Hash()}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	text, err := json.Marshal(pairs)
	if err != nil {
		panic(err) // of strings alone
	}
	return h.digest(append([]byte("provwatch environment "), text...))
}

// IsKeyed reports whether a hash is a keyed digest.
func IsKeyed(hash string) bool { return strings.HasPrefix(hash, keyedPrefix) }

// MayHoldCredentials reports whether a base URL has userinfo, a query or a fragment, or
// is so malformed that it could.
func MayHoldCredentials(baseURL string) bool {
	return strings.ContainsAny(baseURL, "@?#") || PublicURL(baseURL) == unparseableURL
}
