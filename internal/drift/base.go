package drift

import (
	"time"

	"provwatch/internal/provider"
)

// Side is one side of a provider at a moment: its canonical fields, to be compared with
// later ones. A base URL that can hold credentials is a keyed digest, as is a value that is
// too long to be stored a second time: see [provider.Hasher.KeepURL].
type Side struct {
	Hash          string // of the row by itself, on the database's side: see [provider.RowHashes]
	Type          provider.Type
	BaseURL       string
	BedrockRegion string
}

// sideOf returns a side. The hash is that of its canonical fields.
func sideOf(h provider.Hasher, hash string, c provider.Canonical) Side {
	return Side{Hash: hash, Type: c.Type, BaseURL: h.KeepURL(c.BaseURL), BedrockRegion: h.Keep(c.BedrockRegion)}
}

func (s Side) isKeyed() bool {
	return provider.IsKeyed(s.Hash) || provider.IsKeyed(s.BaseURL) || provider.IsKeyed(s.BedrockRegion)
}

// Origin is what made both sides agree.
type Origin string

// The origins of a base. An operator's is replaced by the other once a leader has recorded
// what it led to.
const (
	ByAgreement Origin = "agreement" // they were equal, or their difference was accepted
	ByResolve   Origin = "resolve"   // "worker resolve --take env" made them equal
)

// Base is what both sides of a provider were when they last agreed: when they were equal, or
// when a difference was accepted (docs/specification.md, section 4).
type Base struct {
	Env, DB Side
	// HashKey identifies the key of the keyed digests, empty without a digest.
	HashKey string
	Origin  Origin
	// Named is whether the environment has named the provider ever since.
	Named bool
	// SetAt is when the base was recorded, as the database shows it; empty before that.
	SetAt string
	// AppliedLSN is where the WAL was when an apply last wrote to the row, 0 for never.
	AppliedLSN uint64
}

// newBase returns the base of two sides.
func newBase(h provider.Hasher, env, db Side) Base {
	return Base{Env: env, DB: db, HashKey: h.ID(), Origin: ByAgreement, Named: true}
}

// toRecord returns a base without the key, where that is not used.
func (b Base) toRecord() Base {
	if !b.Env.isKeyed() && !b.DB.isKeyed() {
		b.HashKey = ""
	}
	return b
}

// Agreement returns the base of a provider whose row is as the environment asks for.
func Agreement(h provider.Hasher, desired provider.Desired, origin Origin) Base {
	b := agreement(h, desired)
	b.Origin = origin
	return b.toRecord()
}

func agreement(h provider.Hasher, desired provider.Desired) Base {
	want := desired.Canonical()
	row := want
	if desired.Bedrock != nil {
		row.Type = provider.AmazonBedrock // as in all base pairs
	}
	return newBase(h, sideOf(h, h.Hash(want), want), sideOf(h, h.Hash(row), row))
}

// isSetAfter reports whether the base was recorded after a time.
func (b Base) isSetAfter(at time.Time) bool {
	set, err := time.Parse(time.RFC3339Nano, b.SetAt)
	return err == nil && set.After(at)
}

// samePair reports whether two bases have the same sides.
func (b Base) samePair(other Base) bool { return b.Env == other.Env && b.DB == other.DB }
