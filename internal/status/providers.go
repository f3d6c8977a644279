package status

import (
	"context"
	"slices"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// recordedReader reads what is recorded of the providers.
type recordedReader struct {
	queries           *store.Queries
	names             []string // [Environment.Names]
	query             Query
	accepted, expired []string // see [store.Queries.ListAccepted]
	// unsupported are the providers whose type the enum lacks.
	unsupported []string
}

// counts counts the providers of each state.
func (r recordedReader) counts(ctx context.Context) (map[State]int, error) {
	counts, err := r.queries.CountRecorded(ctx, r.names, store.Page{Accepted: r.accepted, Expired: r.expired, Unsupported: r.unsupported})
	if err != nil {
		return nil, err
	}
	byState := make(map[State]int, len(States))
	for _, state := range States {
		byState[state] = 0
	}
	for rank, providers := range counts {
		byState[States[rank]] += int(providers)
	}
	return byState, nil
}

// list lists the providers of a page, and one more if there are more.
func (r recordedReader) list(ctx context.Context, counts map[State]int) ([]store.Listed, error) {
	page := store.Page{
		Ranks: []int32{}, Search: r.query.Search, Accepted: r.accepted, Expired: r.expired, Unsupported: r.unsupported, AfterRank: -1, Most: int32(limit(r.query.Providers)) + 1,
	}
	if after := slices.Index(States, r.query.After.State); after >= 0 {
		page.AfterRank, page.AfterName = int32(after), r.query.After.Name
	}
	// With very many providers a page is cheap because it reads few ranks. It skips the
	// empty ones, and those after the page is full.
	room := int(page.Most)
	for rank, state := range States {
		if len(r.query.States) > 0 && !slices.Contains(r.query.States, state) || int32(rank) < page.AfterRank || counts[state] == 0 || room <= 0 {
			continue
		}
		page.Ranks = append(page.Ranks, int32(rank))
		// Not known is how many come after a name, or match a search.
		if int32(rank) > page.AfterRank && r.query.Search == "" {
			room -= counts[state]
		}
	}
	if len(page.Ranks) == 0 {
		return nil, nil
	}
	return r.queries.ListRecorded(ctx, r.names, page)
}

// page sets the providers of a page as they were recorded, and returns the rows of them.
func (r recordedReader) page(ctx context.Context, s *Status) ([]store.Listed, error) {
	listed, err := r.list(ctx, s.Counts)
	if err != nil {
		return nil, err
	}
	if s.MoreProviders = len(listed) > limit(r.query.Providers); s.MoreProviders {
		listed = listed[:limit(r.query.Providers)]
		last := listed[len(listed)-1]
		s.Next = Cursor{State: States[last.Rank], Name: last.Name}
	}
	s.Providers = make([]Provider, len(listed))
	for i, row := range listed {
		s.Providers[i] = recorded(row)
	}
	if len(listed) == 0 {
		return nil, nil
	}
	drifts, err := r.latestDrifts(ctx, namesOf(s.Providers))
	if err != nil {
		return nil, err
	}
	for i, row := range listed {
		drifts.explain(&s.Providers[i], row)
	}
	return listed, nil
}

// recorded returns a provider as it was recorded.
func recorded(row store.Listed) Provider {
	p := Provider{Name: row.Name, State: States[row.Rank]}
	switch p.State {
	case Drifted, SoftDeleted:
		p.Kind = row.Recorded.State.Kind
	case Pending:
		pending := row.Recorded.Pending
		p.Kind, p.Fields, p.Moved, p.RenamedTo = pending.Kind, pending.Fields, pending.Moved, pending.RenamedTo
	case NotComparable:
		p.Fields = []drift.Field{{Name: "row", DB: drift.NotCompared + row.Recorded.NotComparable}}
	case Accepted:
		p.Kind = row.Recorded.Accepted.Kind
		p.AcceptedAt, p.AcceptedBy, p.AcceptedReason = utc(row.AcceptedAt), row.AcceptedBy, row.AcceptedReason
		p.AcceptedUntil = utc(row.AcceptedUntil)
	}
	p.Since = unlessEpoch(row.ObservedAt)
	return p
}

// drifts are the latest alerts of drifts, by provider.
type drifts map[string]store.StoredAlert

func (r recordedReader) latestDrifts(ctx context.Context, names []string) (drifts, error) {
	alerts, err := r.queries.ListLatestDrifts(ctx, names)
	if err != nil {
		return nil, err
	}
	latest := make(drifts, len(alerts))
	for _, alert := range alerts {
		latest[alert.Provider] = alert
	}
	return latest, nil
}

// explain sets the fields of a recorded drift: those of its alert, if that was of
// the same values.
func (d drifts) explain(p *Provider, row store.Listed) {
	if p.Kind == drift.Unmanaged && p.State == Drifted {
		p.Moved = drift.DatabaseMoved // the row can have another name than in its alert
	}
	alert, found := d[row.Name]
	switch {
	case p.Kind == "", p.State == Pending:
	case found && alert.Kind == p.Kind && alert.EnvHash == row.Recorded.State.EnvHash && alert.DBHash == row.Recorded.State.DBHash:
		p.Fields = fieldsOf(alert)
		if p.State == Drifted || p.State == SoftDeleted {
			p.Moved, p.RenamedTo = alert.Moved, alert.RenamedTo
		}
	case p.Kind == drift.Deleted:
		p.Fields = []drift.Field{drift.RowDeleted}
	case p.Kind == drift.Disabled:
		p.Fields = []drift.Field{drift.RowDisabled}
	}
}

// inBrief sets what a role sees that cannot read settings.
func (r recordedReader) inBrief(ctx context.Context, providers []Provider) error {
	rows, err := r.queries.ListRowsInBrief(ctx, namesOf(providers))
	if err != nil {
		return err
	}
	for i := range providers {
		p := &providers[i]
		if at := slices.IndexFunc(rows, func(row store.ListRowsInBriefRow) bool { return row.Name == p.Name }); at >= 0 {
			p.Type = provider.Type(rows[at].Type)
		}
	}
	return nil
}
