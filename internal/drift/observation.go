package drift

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"provwatch/internal/provider"
)

// Observation is the result of comparing one desired provider with the
// database at one moment, or of looking at a row by itself.
type Observation struct {
	Provider string
	// OfRow is set of an observation of a row by itself, of the id ProviderID, by
	// [ObserveRow]. Provider is then the row's name, and IsNamed whether the environment
	// names a provider of that name.
	OfRow, IsNamed bool

	ProviderID uuid.UUID // uuid.Nil when there is no row
	Kind       Kind
	Fields     []Field
	// EnvHash and DBHash are made by a [provider.Hasher].
	EnvHash string
	// DBHash is the row's hash that is compared with EnvHash: see
	// [provider.RowHashes.Against]. It is empty when there is no row, or when Unreadable
	// is set.
	DBHash string
	// PartHash is the hash of the type and the base URL of an unmanaged row alone, empty where it
	// is not known.
	PartHash string
	// DBType is the row's type as its column has it. DBSettings and DBHashes come from
	// the row's settings and canonical fields.
	DBType     provider.Type
	DBSettings provider.DecodedSettings // without credentials
	DBHashes   provider.RowHashes
	// pair has both sides, and the key of digests whether it is used or not. The
	// database's side is known where the row was read, and where both sides agree.
	pair Base
	// Credentials sums up how credentials differ, in counts alone; empty when
	// they agree or were not compared.
	Credentials string
	// Unreadable is why the row's settings cannot be decoded or decrypted, else nil.
	Unreadable error
	// RenamedTo is the name that the provider's row has now, of a provider that is
	// [Missing]; empty where the row was removed, and where none is known.
	RenamedTo string
	// UnreadableCredentials is why credentials that the caller asked for cannot be
	// compared, else nil. Credentials is then empty.
	UnreadableCredentials error
}

// WhyNotComparable returns the reason of an observation of kind [NotComparable], nil
// for one of another kind.
func (o Observation) WhyNotComparable() error {
	if o.Kind != NotComparable {
		return nil
	}
	return cmp.Or(o.Unreadable, o.UnreadableCredentials)
}

// HashDiffers reports whether the row is one that the seed must not take for
// the desired provider: its canonical hash differs or cannot be computed.
// A missing row does not differ.
func (o Observation) HashDiffers() bool {
	return o.Kind != Missing && o.DBHash != o.EnvHash
}

// WithoutCredentials returns the observation as if credentials had not been
// compared.
func (o Observation) WithoutCredentials() Observation {
	if o.Credentials == "" && o.UnreadableCredentials == nil {
		return o
	}
	ofCredentials := o.Kind == Changed || o.Kind == NotComparable && o.Unreadable == nil
	o.Credentials, o.UnreadableCredentials = "", nil
	o.Fields = slices.DeleteFunc(slices.Clone(o.Fields), Field.OfCredentials)
	if len(o.Fields) == 0 {
		o.Fields = nil // as in an observation that is in sync from the start
		if ofCredentials {
			o.Kind = InSync
		}
	}
	return o
}

// CredentialsProblem returns how the credentials that were compared do not agree, or why
// they cannot be compared; nil where they agree, and where nothing was compared.
func (o Observation) CredentialsProblem() error {
	switch {
	case o.UnreadableCredentials != nil:
		return fmt.Errorf("its credentials cannot be compared: %w", o.UnreadableCredentials)
	case o.Credentials != "":
		return fmt.Errorf("its credentials differ: %s", List(o.Kind, o.Fields))
	default:
		return nil
	}
}

// IsDrift reports whether the database differs from the environment. Whether that was
// accepted is not asked.
func (o Observation) IsDrift() bool { return o.Kind != InSync && o.Kind != NotComparable }

// AtBoot returns the kind that counts for a seed. A seed goes by the canonical hash alone:
// a disabled row counts as an enabled one, and credentials count only where they must
// agree. The kind is never [Disabled].
func (o Observation) AtBoot(mustAgree bool) Kind {
	switch {
	case o.Kind == Missing, o.Kind == Deleted:
		return o.Kind
	case o.Unreadable != nil, mustAgree && o.UnreadableCredentials != nil:
		return NotComparable
	case mustAgree && o.Credentials != "", o.HashDiffers():
		return Changed
	default:
		return InSync
	}
}

// Has reports whether a field of the name differs.
func (o Observation) Has(name string) bool {
	return slices.ContainsFunc(o.Fields, func(f Field) bool { return f.Name == name })
}

// SameState reports whether two observations show the same state of a provider. Where
// several rows of the name are soft-deleted, the two can have picked different ones.
func (o Observation) SameState(other Observation) bool {
	return o.Kind == other.Kind && (o.Kind == Deleted || o.DBHash == other.DBHash && o.ProviderID == other.ProviderID)
}

// SameBesideSettings reports whether two observations of one row agree in the fields that
// do not depend on its settings, which can be decoded in one of them alone. The base URL
// counts with baseURL set. Whether the row is enabled does not count: an observation that
// could not decode the settings does not show it.
func (o Observation) SameBesideSettings(other Observation, baseURL bool) bool {
	others := func(fields []Field) map[Field]bool {
		set := map[Field]bool{}
		for _, f := range fields {
			if !f.ofSettings() && f.Name != EnabledField && (baseURL || f.Name != BaseURLField) {
				set[f] = true
			}
		}
		return set
	}
	return maps.Equal(others(o.Fields), others(other.Fields))
}

// Base returns the base of an operator who accepts what was observed.
func (o Observation) Base() Base { return o.pair.toRecord() }

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
