// Package silence keeps the alerts of providers from sinks for a time, as an operator asks
// (docs/specification.md, section 6). A silence is a row of provwatch.silences. Whether one
// matches an alert is decided by the statement that records the alert.
package silence

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/audit"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

// All stands for the name of the provider in a silence of all providers.
const All = provider.All

// MaxListed is how many silences [List] returns at most.
const MaxListed = 1000

// Silence is a time in which the alerts of a provider do not go to sinks.
type Silence struct {
	ID       int64     `json:"id"`
	Provider string    `json:"provider"` // [All] for all providers
	Author   string    `json:"author"`
	Reason   string    `json:"reason"`
	Begins   time.Time `json:"begins_at"`
	Ends     time.Time `json:"ends_at"`
	// EndedBy is the operator who ended it before its time, empty for none.
	EndedBy string `json:"ended_by,omitempty"`
	// Active is set while it lasts, by the database's clock.
	Active bool `json:"active"`
}

// Matches reports whether the silence is of a provider, while it lasts.
func (s Silence) Matches(provider string) bool { return s.Provider == provider || s.Provider == All }

// Request is what an operator asks for.
type Request struct {
	// Providers are names, each once. The environment need not name them. [All] is for all.
	Providers []string
	// For is how long the silences last. Where it is zero, they last until Until.
	For    time.Duration
	Until  time.Time
	Reason string
	Actor  string // who asks, as in audit entries
}

// ends returns when the silences end. Less than a microsecond, which the database does not
// keep, is cut off.
func (r Request) ends(now time.Time) (time.Time, error) {
	if r.For > 0 {
		return now.Add(r.For).Truncate(time.Microsecond), nil
	}
	ends := r.Until.Truncate(time.Microsecond)
	if !ends.After(now) {
		return time.Time{}, fmt.Errorf("the silence would end at %s, and it is %s by the database's clock",
			ends.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return ends, nil
}

// Add silences the alerts of the providers from now on: of all that the request names or,
// with an error, of none. It returns a silence for each, in the order of the request. Each is
// audited in the same transaction.
func Add(ctx context.Context, pool *pgxpool.Pool, r Request) (added []Silence, err error) {
	err = transact(ctx, pool, func(queries *store.Queries) ([]audit.Entry, error) {
		session, err := queries.ReadSession(ctx)
		if err != nil {
			return nil, fmt.Errorf("look up the time: %w", err)
		}
		ends, err := r.ends(session.At)
		if err != nil {
			return nil, err
		}
		rows, err := queries.InsertSilences(ctx, store.InsertSilencesParams{
			Providers: r.Providers, Author: r.Actor, Reason: r.Reason, BeginsAt: session.At, EndsAt: ends,
		})
		if err != nil {
			return nil, fmt.Errorf("write to provwatch.silences: %w", err)
		}
		entries := make([]audit.Entry, len(rows))
		for i, row := range rows {
			s := of(row)
			s.Active = true
			added = append(added, s)
			entries[i] = s.entry(audit.SilenceCreated, r.Actor)
		}
		return entries, nil
	})
	if err != nil {
		return nil, fmt.Errorf("silence alerts: %w", err)
	}
	return added, nil
}

// End ends a silence now. It reports false, and changes nothing, where the silence has ended
// before. The end is audited in the same transaction.
func End(ctx context.Context, pool *pgxpool.Pool, id int64, actor string) (ended Silence, done bool, err error) {
	err = transact(ctx, pool, func(queries *store.Queries) ([]audit.Entry, error) {
		rows, err := queries.LockSilence(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("read provwatch.silences: %w", err)
		}
		if len(rows) == 0 {
			return nil, errUnknown(id)
		}
		row := rows[0]
		ended = of(store.ProvwatchSilence{
			ID: row.ID, Provider: row.Provider, Author: row.Author, Reason: row.Reason, BeginsAt: row.BeginsAt, EndsAt: row.EndsAt, EndedBy: row.EndedBy,
		})
		if done = row.EndedBy == "" && row.At.Before(row.EndsAt); !done {
			return nil, nil
		}
		ended.Ends, ended.EndedBy = row.At.UTC(), actor
		if ended.Ends.Before(ended.Begins) { // the clock was set back
			ended.Ends = ended.Begins
		}
		if err := queries.EndSilence(ctx, store.EndSilenceParams{ID: id, EndsAt: ended.Ends, EndedBy: actor}); err != nil {
			return nil, fmt.Errorf("write to provwatch.silences: %w", err)
		}
		return []audit.Entry{ended.entry(audit.SilenceEnded, actor)}, nil
	})
	if err != nil {
		return Silence{}, false, fmt.Errorf("end silence %d: %w", id, err)
	}
	return ended, done, nil
}

// errUnknown is the error of an id that no silence has.
func errUnknown(id int64) error {
	return remedy.Problem("there is no silence with the id "+strconv.FormatInt(id, 10)+"; see ", remedy.Run("silences"))
}

// transact does something under the seed lock, which staging needs, and stages and announces
// its audit entries.
func transact(ctx context.Context, pool *pgxpool.Pool, do func(*store.Queries) ([]audit.Entry, error)) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		queries := store.On(tx)
		if err := queries.LockSeed(ctx, store.SeedLock); err != nil {
			return fmt.Errorf("take the seed lock: %w", err)
		}
		entries, err := do(queries)
		if err != nil || len(entries) == 0 {
			return err
		}
		if err := audit.Stage(ctx, tx, entries); err != nil {
			return err
		}
		if err := pubsub.Publish(ctx, tx, pubsub.Silences, ""); err != nil {
			return err
		}
		return pubsub.Publish(ctx, tx, pubsub.StagedEntries, "")
	})
}

// entry returns the audit entry of what was done to the silence.
func (s Silence) entry(action audit.Action, actor string) audit.Entry {
	return audit.Entry{
		OccurredAt: time.Now(), Actor: actor, Action: action, Provider: s.Provider,
		Details: audit.Details{Silence: s.ID, Expires: s.Ends.Format(time.RFC3339Nano), Reason: s.Reason},
	}
}

// List returns the silences that last, the first to end first; with ended also the ended
// ones, the last one first. It returns [MaxListed] at most, and reports whether there
// are more.
func List(ctx context.Context, db store.DBTX, ended bool) (list []Silence, more bool, err error) {
	rows, err := store.On(db).ListSilences(ctx, store.ListSilencesParams{Ended: ended, MaxSilences: MaxListed + 1})
	if err != nil {
		if schema.IsMissing(err) {
			return nil, false, &schema.UnusableError{Err: remedy.Problem("provwatch's table of silences is not there yet; run ", remedy.Run("migrate"))}
		}
		return nil, false, fmt.Errorf("read provwatch.silences: %w", err)
	}
	if more = len(rows) > MaxListed; more {
		rows = rows[:MaxListed]
	}
	list = make([]Silence, len(rows))
	for i, row := range rows {
		list[i] = of(store.ProvwatchSilence{
			ID: row.ID, Provider: row.Provider, Author: row.Author, Reason: row.Reason, BeginsAt: row.BeginsAt, EndsAt: row.EndsAt, EndedBy: row.EndedBy,
		})
		list[i].Active = row.Active
	}
	return list, more, nil
}

func of(row store.ProvwatchSilence) Silence {
	return Silence{
		ID: row.ID, Provider: row.Provider, Author: row.Author, Reason: row.Reason, Begins: row.BeginsAt.UTC(), Ends: row.EndsAt.UTC(), EndedBy: row.EndedBy,
	}
}
