package status

import (
	"context"
	"encoding/json"
	"slices"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

func (c collector) counts(ctx context.Context, s *Status, accepted []string) error {
	counts, err := c.queries.CountRecorded(ctx, c.environment.Names, accepted)
	if err != nil {
		return err
	}
	s.Counts = make(map[State]int, len(States))
	for _, state := range States {
		s.Counts[state] = 0
	}
	for rank, providers := range counts {
		s.Counts[States[rank]] += int(providers)
	}
	return nil
}

// list lists the providers of a page, and one more if there are more.
func (c collector) list(ctx context.Context, counts map[State]int, accepted []string) ([]store.Listed, error) {
	page := store.Page{
		Ranks: []int32{}, Search: c.query.Search, Accepted: accepted, AfterRank: -1, Most: int32(limit(c.query.Providers)) + 1,
	}
	if after := slices.Index(States, c.query.After.State); after >= 0 {
		page.AfterRank, page.AfterName = int32(after), c.query.After.Name
	}
	// With very many providers a page is cheap because it reads few ranks. It skips the
	// empty ones, and those after the page is full.
	room := int(page.Most)
	for rank, state := range States {
		if len(c.query.States) > 0 && !slices.Contains(c.query.States, state) || int32(rank) < page.AfterRank || counts[state] == 0 || room <= 0 {
			continue
		}
		page.Ranks = append(page.Ranks, int32(rank))
		// Not known is how many come after a name, or match a search.
		if int32(rank) > page.AfterRank && c.query.Search == "" {
			room -= counts[state]
		}
	}
	if len(page.Ranks) == 0 {
		return nil, nil
	}
	return c.queries.ListRecorded(ctx, c.environment.Names, page)
}

func (c collector) providers(ctx context.Context, s *Status, accepted []string, mayCompare bool, hasher hashing) error {
	listed, err := c.list(ctx, s.Counts, accepted)
	if err != nil {
		return err
	}
	if s.MoreProviders = len(listed) > limit(c.query.Providers); s.MoreProviders {
		listed = listed[:limit(c.query.Providers)]
		last := listed[len(listed)-1]
		s.Next = Cursor{State: States[last.Rank], Name: last.Name}
	}
	names := make([]string, len(listed))
	s.Providers = make([]Provider, len(listed))
	for i, row := range listed {
		names[i] = row.Name
		s.Providers[i] = recorded(row)
	}
	if len(names) == 0 {
		return nil
	}
	drifts, err := c.latestDrifts(ctx, names)
	if err != nil {
		return err
	}
	for i, row := range listed {
		drifts.explain(&s.Providers[i], row)
	}
	if !mayCompare {
		return c.inBrief(ctx, s.Providers, names)
	}
	return c.compare(ctx, s.Providers, listed, names, hasher)
}

// recorded returns a provider as it was recorded.
func recorded(row store.Listed) Provider {
	p := Provider{Name: row.Name, State: States[row.Rank]}
	switch p.State {
	case Drifted, SoftDeleted:
		p.Kind = row.Recorded.State.Kind
	case NotComparable:
		p.Fields = []drift.Field{{Name: "row", DB: drift.NotCompared + row.Recorded.NotComparable}}
	case Accepted:
		p.Kind = row.Recorded.Accepted.Kind
		p.AcceptedAt, p.AcceptedBy = utc(row.AcceptedAt), row.AcceptedBy
	}
	p.Since = unlessEpoch(row.ObservedAt)
	return p
}

// drifts are the latest alerts of drifts, by provider.
type drifts map[string]store.ListLatestDriftsRow

func (c collector) latestDrifts(ctx context.Context, names []string) (drifts, error) {
	rows, err := c.queries.ListLatestDrifts(ctx, names)
	if err != nil {
		return nil, err
	}
	latest := make(drifts, len(rows))
	for _, row := range rows {
		latest[row.Provider] = row
	}
	return latest, nil
}

// explain sets the fields of a recorded drift: those of its alert, if that was of
// the same values.
func (d drifts) explain(p *Provider, row store.Listed) {
	alert, found := d[row.Name]
	switch {
	case p.Kind == "":
	case found && alert.Kind == string(p.Kind) && alert.EnvHash == row.Recorded.State.EnvHash && alert.DbHash == row.Recorded.State.DBHash:
		p.Fields = fieldsOf(alert.Fields)
	case p.Kind == drift.Deleted:
		p.Fields = []drift.Field{drift.RowDeleted}
	case p.Kind == drift.Disabled:
		p.Fields = []drift.Field{drift.RowDisabled}
	}
}

// inBrief sets what a role sees that cannot read settings.
func (c collector) inBrief(ctx context.Context, providers []Provider, names []string) error {
	rows, err := c.queries.ListRowsInBrief(ctx, names)
	if err != nil {
		return err
	}
	for i := range providers {
		p := &providers[i]
		at := slices.IndexFunc(rows, func(row store.ListRowsInBriefRow) bool { return row.Name == p.Name })
		if at < 0 {
			continue
		}
		p.Type = provider.Type(rows[at].Type)
		if p.State == DBOnly {
			p.Enabled = &rows[at].Enabled
		}
	}
	return nil
}

func fieldsOf(encoded []byte) []drift.Field {
	fields := []drift.Field{}
	// Anything else than what we have written there shows as no field.
	_ = json.Unmarshal(encoded, &fields)
	return fields
}

func limit(n int) int { return min(max(n, 1), MaxPage) }
