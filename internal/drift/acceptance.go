package drift

// Acceptance is a drift that an operator accepted: a pair of hashes, and the kind that
// the drift had. It holds while both sides stay as they were (spec section 4).
type Acceptance struct {
	Kind            Kind
	EnvHash, DBHash string
}

// Covers reports whether both hashes are as they were. A soft-deleted row whose settings
// cannot be read counts as unchanged: its hash is not known. A nil acceptance covers
// nothing.
//
// A seed goes by the pair alone, since a row that was disabled later does not fail a boot.
func (a *Acceptance) Covers(o Observation) bool {
	unknown := o.Kind == Deleted && o.Unreadable != nil
	return a != nil && a.EnvHash == o.EnvHash && (a.DBHash == o.DBHash || unknown)
}

// Holds reports whether the drift is the one that was accepted: the pair and the kind are
// as they were. A nil acceptance does not hold.
func (a *Acceptance) Holds(o Observation) bool { return a.Covers(o) && a.Kind == o.Kind }
