package drift

import (
	"fmt"

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
	// HashKey identifies the key of the keyed digests, empty where there is none.
	HashKey string
	Origin  Origin
	// Named is whether the environment has named the provider ever since.
	Named bool
	// SetAt is when the base was recorded, as the database shows it; empty before that.
	SetAt string
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

// Base returns the base of an operator who accepts what was observed.
func (o Observation) Base() Base { return o.pair.toRecord() }

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

// samePair reports whether two bases have the same sides.
func (b Base) samePair(other Base) bool { return b.Env == other.Env && b.DB == other.DB }

// Moved is the side of a provider that has moved since both last agreed.
type Moved string

// What has moved. It is empty of an alert that is not about a difference.
const (
	EnvironmentMoved Moved = "environment"
	DatabaseMoved    Moved = "database"
	BothMoved        Moved = "both"
	// UnknownMoved: there is no base, or neither side has moved. Of a difference of
	// credentials alone nothing is known, since no base has them.
	UnknownMoved Moved = "unknown"
)

// Label returns the words for it.
func (m Moved) Label() string {
	switch m {
	case "":
		return ""
	case UnknownMoved:
		return "moved: not known"
	default:
		return "moved: " + string(m)
	}
}

// How is the way in which a drift ended.
type How string

// The ways in which a drift ends.
const (
	Reverted           How = "reverted"             // the row is as the environment asks for again
	ResolvedByOperator How = "resolved_by_operator" // by "worker resolve --take env"
	Accepted           How = "accepted"             // by "worker resolve --take db"
	EnvironmentChanged How = "environment_changed"  // the environment now asks for what the row has
	NoLongerNamed      How = "unnamed"              // the environment no longer names the provider
)

// Label returns the words for it.
func (h How) Label() string {
	switch h {
	case ResolvedByOperator:
		return "resolved by an operator"
	case EnvironmentChanged:
		return "the environment changed"
	case NoLongerNamed:
		return "no longer named by the environment"
	default:
		return string(h)
	}
}

// Ending returns the words for how a drift ended, and for the alert that this ends: its seq,
// 0 where there is none.
func (h How) Ending(resolves int64) string {
	switch label := h.Label(); {
	case resolves == 0:
		return label
	case label == "":
		return fmt.Sprintf("ends #%d", resolves)
	default:
		return fmt.Sprintf("%s, ends #%d", label, resolves)
	}
}

// usable returns a base whose digests can be compared with the observation's, else nil:
// digests of another key are of no use.
func (b *Base) usable(o Observation) *Base {
	if b == nil || b.HashKey != "" && b.HashKey != o.pair.HashKey {
		return nil
	}
	return b
}

// Moved returns which side has moved since the base, of an observation that is a drift. The
// base is nil for none.
func (o Observation) Moved(base *Base) Moved {
	base = base.usable(o)
	if base == nil || !o.IsDrift() || o.DBHash == o.EnvHash {
		return UnknownMoved
	}
	env, db := base.Env.Hash != o.pair.Env.Hash, base.DB.Hash != o.DBHashes.Alone
	switch {
	case env && db:
		return BothMoved
	case env:
		return EnvironmentMoved
	case db:
		return DatabaseMoved
	default:
		return UnknownMoved
	}
}

// agrees reports whether there is a row, not soft-deleted, with the canonical fields that
// the environment asks for.
func (o Observation) agrees() bool {
	return o.Kind != Missing && o.Kind != Deleted && o.DBHash != "" && o.DBHash == o.EnvHash
}

// newBase returns the base to record with an observation, nil where what is recorded stands.
func (r Recorded) newBase(o Observation) *Base {
	if !o.agrees() || o.pair == (Base{}) { // an observation of no comparison has no pair
		return nil
	}
	if r.Base != nil && r.Base.samePair(o.pair) && r.Base.Origin == ByAgreement && r.Base.Named {
		return nil
	}
	base := o.Base()
	if r.Base != nil {
		base.SetAt = r.Base.SetAt
	}
	return &base
}

// Moved returns which side of a provider has moved since both last agreed. A row that is
// missing, soft-deleted or disabled has moved itself, unless the environment has only begun
// to name the provider.
func (r Recorded) Moved(o Observation) Moved {
	switch o.Kind {
	case Missing, Deleted, Disabled:
		if r.State == nil && (r.Base == nil || !r.Base.Named) {
			return EnvironmentMoved
		}
		return DatabaseMoved
	}
	return o.Moved(r.Base)
}

// how returns how a drift ended that the judgement is the end of.
func (r Recorded) how(o Observation, accepted bool) How {
	before := r.before()
	base := r.Base.usable(o)
	switch {
	case accepted:
		return Accepted
	case base != nil && base.Origin == ByResolve && base.samePair(o.pair):
		return ResolvedByOperator
	case before.Kind == Changed && before.EnvHash != o.EnvHash && (before.DBHash == o.DBHashes.Alone || before.DBHash == o.DBHashes.Anthropic):
		return EnvironmentChanged
	default:
		return Reverted
	}
}
