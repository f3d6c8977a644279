package status

import (
	"context"
	"slices"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// comparer compares the present rows of providers with the environment.
type comparer struct {
	queries *store.Queries
	keys    *dbcrypt.Ring
	desired func(name string) (provider.Desired, bool) // [Environment.Desired]
	hashing hashing
}

// compare replaces what was recorded, in the order of the providers, by how things are now.
func (c comparer) compare(ctx context.Context, providers []Provider, listed []store.Listed) error {
	names := namesOf(providers)
	found, err := c.queries.ListProviders(ctx, names, c.keys, false)
	if err != nil {
		return err
	}
	bases, err := c.queries.ListBases(ctx, names)
	if err != nil {
		return err
	}
	rows := provider.CurrentByName(found)
	for i := range providers {
		p, row := &providers[i], rows[names[i]]
		if row != nil && p.State != Unsupported {
			p.Type, p.BaseURL = row.Type, provider.DisplayURL(row.BaseURL)
			if p.Kind == drift.Unmanaged {
				p.Fields = drift.ObserveRow(c.hashing.Hasher, row, false).Fields
			}
		}
		if c.desired == nil {
			continue
		}
		desired, named := c.desired(p.Name)
		if !named {
			continue
		}
		p.Type, p.BaseURL = desired.Type, provider.DisplayURL(desired.BaseURL)
		if p.State == Unsupported {
			continue // no row of its name is its row
		}
		known := listed[i].Recorded
		if p.Kind == drift.Unmanaged {
			known = drift.Recorded{} // it is of the row, before the environment named it
		}
		known.Base = bases[p.Name]
		p.now(known, c.hashing.comparable(drift.Compare(c.hashing.Hasher, desired, row, false), known))
	}
	return nil
}

// recount counts the listed providers in the states that they have now, instead of the recorded
// ones.
func (s *Status) recount(listed []store.Listed) {
	for i, row := range listed {
		s.Counts[States[row.Rank]]--
		s.Counts[s.Providers[i].State]++
	}
}

// hashing makes hashes, with the database's own key or another one.
type hashing struct {
	provider.Hasher
	ownKey bool
}

// comparable returns an observation whose hashes can be compared with those recorded.
// Without the database's key a keyed hash counts as the recorded one, if that is keyed too.
func (h hashing) comparable(o drift.Observation, known drift.Recorded) drift.Observation {
	if h.ownKey || known.State == nil {
		return o
	}
	unlessKeyed := func(now, recorded string) string {
		if provider.IsKeyed(now) && provider.IsKeyed(recorded) {
			return recorded
		}
		return now
	}
	o.EnvHash, o.DBHash = unlessKeyed(o.EnvHash, known.State.EnvHash), unlessKeyed(o.DBHash, known.State.DBHash)
	return o
}

// now makes a provider what it is seen to be, beside what is recorded of it. Credentials
// are not looked at here: what is recorded of them stands.
func (p *Provider) now(known drift.Recorded, o drift.Observation) {
	j, judged := known.JudgeRow(o, true)
	if !judged {
		return // it can be not comparable for its credentials
	}
	p.Fields = slices.DeleteFunc(p.Fields, func(f drift.Field) bool { return !f.OfCredentials() })
	if j.Observation.Credentials == "" {
		p.Fields = nil
	}
	p.Fields = append(slices.Clone(o.Fields), p.Fields...)
	switch p.Kind = j.Observation.Kind; {
	case j.Reason != "":
		p.State, p.Kind = NotComparable, ""
	case known.State == nil && known.NotComparable == "" && known.Pending == nil:
		// Its first verification decides its state.
		p.State = Unverified
	case j.IsAccepted():
		p.State = Accepted
	case j.Kind == drift.InSync:
		p.State = InSync
	case known.Pending != nil:
		p.State = Pending
	case j.Kind == drift.Deleted:
		p.State = SoftDeleted
	default:
		p.State = Drifted
	}
	if p.Kind == drift.InSync {
		p.Kind = ""
	}
	if p.State != Accepted {
		p.AcceptedAt, p.AcceptedUntil, p.AcceptedBy, p.AcceptedReason = nil, nil, "", "" // of a drift that is over
	}
	if p.Kind != drift.Missing {
		p.RenamedTo = ""
	}
	if p.Moved = ""; p.State == Drifted || p.State == SoftDeleted || p.State == Pending {
		p.Moved = known.Moved(j.Observation)
	}
}
