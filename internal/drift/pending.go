package drift

import "time"

// Pending is a drift of a provider, or of an unmanaged row, that is not alerted yet, since it has
// not lasted for long enough (docs/specification.md, section 6).
type Pending struct {
	// State is the drift as it was last seen, with the fields that differ and the side that has
	// moved.
	State
	Fields []Field
	Moved  Moved
	// RenamedTo is that of the observation which the drift began with, or got other values.
	RenamedTo string
	// Since is when the provider began to drift, by the database's clock. Other values do not
	// change it.
	Since time.Time
	// Shown is what has shown the state.
	Shown Evidence
}

// Evidence is what has shown a drift: the source of a verification, or a transaction of the WAL.
type Evidence struct {
	Source string
	// LSN, XID and CommittedAt are those of the transaction, zero without one.
	LSN         string
	XID         int64
	CommittedAt time.Time
}

// hasLasted reports whether the drift has lasted for the time given.
func (p *Pending) hasLasted(now time.Time, least time.Duration) bool {
	return least == 0 || now.Sub(p.Since) >= least
}

// lasting returns the drift as it lasts beside an acceptance, nil where it does not: an operator ended
// it. Where that acceptance has expired, the drift began again then.
func (p *Pending) lasting(a *Acceptance, least time.Duration) *Pending {
	switch {
	case !p.isAccepted(a, least):
		return p
	case !a.IsExpired():
		return nil
	}
	again := *p
	again.Since = a.Expires
	return &again
}

// isAccepted reports whether an operator accepted the drift before it had lasted for the time given,
// which ended it. A nil drift was not accepted, nor is any by a nil acceptance.
func (p *Pending) isAccepted(a *Acceptance, least time.Duration) bool {
	return p != nil && a != nil && a.Kind == p.Kind && a.EnvHash == p.EnvHash && a.DBHash == p.DBHash &&
		!a.AcceptedAt.Before(p.Since) && a.AcceptedAt.Before(p.Since.Add(least))
}
