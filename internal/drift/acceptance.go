package drift

import "time"

// Acceptance is a drift that an operator accepted: a pair of hashes, and the kind that
// the drift had. It holds while both sides stay as they were (docs/specification.md,
// section 4).
type Acceptance struct {
	Kind            Kind
	EnvHash, DBHash string
	// PartHash is that of the observation of an unmanaged row.
	PartHash string
	// Expires is when the acceptance ends, the zero time for never. At is the time by which
	// that is judged: the database's when the acceptance was read, so that workers and
	// commands agree whatever their own clocks show.
	Expires, At time.Time
	// AcceptedAt is when the drift was accepted, by the database's clock; the zero time where
	// that is not known.
	AcceptedAt time.Time
}

// isLaterThan reports whether the acceptance lasts and was made after a commit of that time, which
// then does not show the row that was accepted. A nil acceptance is not.
func (a *Acceptance) isLaterThan(commit time.Time) bool {
	return a != nil && !a.IsExpired() && a.AcceptedAt.After(commit)
}

// IsSame reports whether another acceptance is this one, and of the same pair: an apply that renews
// one for another pair keeps the time. No acceptance is the same as nil.
func (a *Acceptance) IsSame(other *Acceptance) bool {
	return other != nil && a.AcceptedAt.Equal(other.AcceptedAt) &&
		a.Kind == other.Kind && a.EnvHash == other.EnvHash && a.DBHash == other.DBHash
}

// IsExpired reports whether the acceptance has ended. A nil acceptance has not.
func (a *Acceptance) IsExpired() bool {
	return a != nil && !a.Expires.IsZero() && !a.At.Before(a.Expires)
}

// Covers reports whether the acceptance lasts and both hashes are as they were. A soft-deleted row whose settings
// cannot be read counts as unchanged: its hash is not known. A nil acceptance covers
// nothing.
//
// A seed goes by the pair alone, since a row that was disabled later does not fail a boot.
func (a *Acceptance) Covers(o Observation) bool {
	unknown := o.Kind == Deleted && o.Unreadable != nil
	return a != nil && !a.IsExpired() && a.EnvHash == o.EnvHash && (a.DBHash == o.DBHash || unknown)
}

// Holds reports whether the drift is the one that was accepted: the pair and the kind are
// as they were. A nil acceptance does not hold.
func (a *Acceptance) Holds(o Observation) bool { return a.Covers(o) && a.Kind == o.Kind }

// isOver reports whether an acceptance that does not hold must be withdrawn: it expired, the
// row changed, or the drift ended. With another environment alone it is kept, since of two
// workers during a deployment one must not undo what was accepted for the other.
func (a *Acceptance) isOver(o Observation) bool {
	return a.IsExpired() || a.DBHash != o.DBHash || a.EnvHash == o.EnvHash && o.Kind == InSync
}
