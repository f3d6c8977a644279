package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/schema"
	"provwatch/internal/sink"
	"provwatch/internal/store"
)

// maxWorkers bounds the sessions that are listed.
const maxWorkers = 50

// DB begins transactions: a pool, or a connection.
type DB interface {
	store.DBTX
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Collect collects what the query asks for, in one snapshot. Where the role may
// read the rows' settings and the environment is known, the providers on the page
// are compared as they are now; otherwise what was recorded of them last is shown.
//
// A role that lacks privileges gets a [*schema.UnusableError] that names them, and
// so does a database that was never migrated.
func Collect(ctx context.Context, db DB, keys *dbcrypt.Ring, environment Environment, query Query) (Status, error) {
	var s Status
	var unread error
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := postgres.BeginTx(ctx, db, snapshot, func(tx pgx.Tx) error {
		s, unread = Status{}, nil
		c := collector{tx: tx, queries: store.On(tx), keys: keys, environment: environment, query: query}
		if err := c.collect(ctx, &s); err != nil {
			return err
		}
		var err error
		unread, err = s.collectSinks(ctx, tx)
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == pgerrcode.UndefinedTable {
		err = &schema.UnusableError{Reason: "it has no provider tables, or none of provwatch yet; run \"worker migrate\"", Err: err}
	}
	if err != nil {
		return Status{}, fmt.Errorf("collect the status: %w", schema.Explain(ctx, db, schema.Reporting, err))
	}
	if unread != nil {
		s.SinksUnread = schema.Explain(ctx, db, schema.Reporting, unread).Error()
	}
	return s, nil
}

type collector struct {
	tx          pgx.Tx
	queries     *store.Queries
	keys        *dbcrypt.Ring
	environment Environment
	query       Query
}

func (c collector) collect(ctx context.Context, s *Status) error {
	found, err := c.queries.InspectStatus(ctx)
	if err != nil {
		return err
	}
	s.At = found.At.UTC()
	s.Database.Name, s.Database.Server = found.Database, found.ServerVersion
	if found.InRecovery {
		s.Database.Replica = &Replica{ReplayedAt: noted(found.ReplayedAt)}
	} else if err := c.watching(ctx, &s.Database, found.Slot); err != nil {
		return err
	}
	if err := c.outbox(ctx, &s.Database); err != nil {
		return err
	}
	if err := c.verified(ctx, &s.Database, found); err != nil {
		return err
	}
	accepted, err := c.queries.ListAccepted(ctx)
	if err != nil {
		return err
	}
	if err := c.counts(ctx, s, accepted); err != nil {
		return err
	}
	// Without the key what is compared is right, and only told from what was recorded.
	hasher := provider.NewRandomHasher()
	if found.MayReadHashKey {
		if hasher, err = c.queries.Hasher(ctx); err != nil {
			return err
		}
	}
	if err := c.providers(ctx, s, accepted, found.MayCompare, hashing{hasher, found.MayReadHashKey}); err != nil {
		return err
	}
	if err := c.alerts(ctx, s); err != nil {
		return err
	}
	return c.audit(ctx, s)
}

func (c collector) watching(ctx context.Context, d *Database, slotName string) error {
	workers, err := c.queries.ListWorkers(ctx, maxWorkers)
	if err != nil {
		return err
	}
	d.Workers = []Session{}
	for _, w := range workers {
		d.Workers = append(d.Workers, Session{PID: int(w.Pid), Role: w.Role, Address: w.Address, Since: utc(w.BackendStart), Leads: w.Leads})
	}
	if d.Leader() == nil {
		strangers, err := lockwait.OfLeadersLock(ctx, c.tx)
		if err != nil {
			return err
		}
		for _, s := range strangers {
			d.LockHolder = s.String()
		}
	}
	slot, err := c.queries.InspectSlot(ctx, slotName)
	switch {
	case err == nil:
		d.Slot = &Slot{Name: slotName, Active: slot.Active != nil && *slot.Active, WALStatus: slot.WalStatus, RetainedBytes: slot.RetainedBytes}
	case !errors.Is(err, pgx.ErrNoRows):
		return err
	}
	return nil
}

func (c collector) outbox(ctx context.Context, d *Database) error {
	outbox, err := c.queries.OutboxDepth(ctx)
	if err != nil {
		return err
	}
	d.Undelivered = int(outbox.Depth)
	if outbox.Depth > 0 {
		oldest := time.Now().Add(-time.Duration(outbox.OldestAgeSeconds * float64(time.Second))).UTC()
		d.Oldest = &oldest
	}
	return nil
}

// verified collects when everything was last verified. A role that may not know
// is told so beside the rest, since the privilege for it came later.
func (c collector) verified(ctx context.Context, d *Database, found store.InspectStatusRow) error {
	if d.KeepsVerified = found.KeepsVerified; !d.KeepsVerified {
		return nil
	}
	if found.MayReadVerified {
		at, err := c.queries.ReadVerified(ctx)
		d.VerifiedAt = utc(at)
		return err
	}
	err := schema.CheckPrivileges(ctx, c.tx, schema.Reporting)
	var lacking *schema.UnusableError
	if errors.As(err, &lacking) {
		d.VerifiedUnread, err = lacking.Error(), nil
	}
	return err
}

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
	// With very many providers it is the ranks that are not looked at that make a
	// page cheap: those of which there are none, and those after the page is full.
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
	p.Since = noted(row.ObservedAt)
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

// inBrief sets what a role sees that may not read settings.
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

// compare replaces what was recorded by how things are now.
func (c collector) compare(ctx context.Context, providers []Provider, listed []store.Listed, names []string, hasher hashing) error {
	found, err := c.queries.ListProviders(ctx, names, c.keys, false)
	if err != nil {
		return err
	}
	rows := provider.CurrentByName(found)
	for i := range providers {
		p, row := &providers[i], rows[names[i]]
		if row != nil {
			p.Type, p.BaseURL = row.Type, provider.DisplayURL(row.BaseURL)
			if p.State == DBOnly {
				p.Enabled = &row.Enabled
			}
		}
		if c.environment.Desired == nil {
			continue
		}
		desired, named := c.environment.Desired(p.Name)
		if !named {
			continue
		}
		p.Type, p.BaseURL, p.Enabled = desired.Type, provider.DisplayURL(desired.BaseURL), nil
		known := listed[i].Recorded
		p.now(known, hasher.comparable(drift.Compare(hasher.Hasher, desired, row, false), known))
	}
	return nil
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
	case known.State == nil && known.NotComparable == "":
		// What there is to say of it is for its first verification.
		p.State = Unverified
	case j.IsAccepted():
		p.State = Accepted
	case j.Kind == drift.InSync:
		p.State = InSync
	case j.Kind == drift.Deleted:
		p.State = SoftDeleted
	default:
		p.State = Drifted
	}
	if p.Kind == drift.InSync {
		p.Kind = ""
	}
}

func (c collector) alerts(ctx context.Context, s *Status) error {
	most := limit(c.query.Alerts)
	rows, err := c.queries.ListAlertsBefore(ctx, store.ListAlertsBeforeParams{Before: before(c.query.AlertsBefore), MaxAlerts: int32(most) + 1})
	if err != nil {
		return err
	}
	if s.MoreAlerts = len(rows) > most; s.MoreAlerts {
		rows = rows[:most]
	}
	s.Alerts = []Alert{}
	for _, row := range rows {
		s.Alerts = append(s.Alerts, Alert{
			Seq: row.Seq, Kind: drift.Kind(row.Kind), Provider: row.Provider, Fields: fieldsOf(row.Fields),
			Source: pubsub.Source(row.Source), DetectedAt: row.DetectedAt.UTC(), CommittedAt: utc(row.CommittedAt),
			Epoch: row.Epoch, Reason: row.Reason, Certain: row.Certain,
		})
	}
	return nil
}

func (c collector) audit(ctx context.Context, s *Status) error {
	most := limit(c.query.Audit)
	rows, err := c.queries.ListAuditEntriesBefore(ctx, store.ListAuditEntriesBeforeParams{Before: before(c.query.AuditBefore), MaxEntries: int32(most) + 1})
	if err != nil {
		return err
	}
	if s.MoreAudit = len(rows) > most; s.MoreAudit {
		rows = rows[:most]
	}
	s.Audit = []AuditEntry{}
	for _, row := range rows {
		entry := AuditEntry{
			Seq: row.Seq, OccurredAt: row.OccurredAt.UTC(), Actor: row.Actor, Action: audit.Action(row.Action), Provider: row.Provider,
		}
		// What another version has written of an action may not fit; the rest does.
		_ = json.Unmarshal(row.Details, &entry.Details)
		s.Audit = append(s.Audit, entry)
	}
	return nil
}

// collectSinks collects how far sinks are. What the server has against it is
// returned as unread, since it concerns nothing else: a role may lack the
// privileges, which came later than those for the rest, and counting what a sink
// did not get for a long time may take too long.
func (s *Status) collectSinks(ctx context.Context, tx pgx.Tx) (unread, err error) {
	s.Sinks, s.DeadLetters = []sink.Progress{}, []sink.DeadLetter{}
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		found, err := sink.InspectLatest(ctx, tx, MaxDeadLetters)
		if err == nil {
			s.Sinks, s.DeadLetters = found.Sinks, found.DeadLetters
		}
		return err
	})
	var absent *schema.UnusableError
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &absent):
		return nil, nil // and so there can be no sinks
	case errors.As(err, &pg):
		return err, nil
	default:
		return nil, err
	}
}

func fieldsOf(encoded []byte) []drift.Field {
	fields := []drift.Field{}
	// Anything else than what we have written there shows as no field.
	_ = json.Unmarshal(encoded, &fields)
	return fields
}

func before(seq int64) int64 {
	if seq <= 0 {
		return math.MaxInt64
	}
	return seq
}

func limit(n int) int { return min(max(n, 1), MaxPage) }

// noted returns a time that the queries have as the epoch where there is none.
func noted(t time.Time) *time.Time {
	if !t.After(time.Unix(0, 0)) {
		return nil
	}
	return utc(&t)
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
