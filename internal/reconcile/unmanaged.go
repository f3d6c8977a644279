package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/audit"
	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/store"
)

// UnknownError is returned for names that neither the environment nor an enabled, live row
// has.
type UnknownError struct {
	Names []string
	// Rows are the names of the unmanaged rows that there are.
	Rows []string
}

// Error does not show the names, which can be anything that was given for one.
func (e *UnknownError) Error() string {
	return "the environment names no provider of that name, and there is no enabled row of it"
}

// ManagedError is returned for names of rows that the environment of the workers names, and that of
// the request does not.
type ManagedError struct{ Names []string }

// Error does not show the names, as that of an [UnknownError].
func (*ManagedError) Error() string {
	return "the environment here names no provider of that name, and that of the workers does"
}

// acceptance is what a resolution does about an unmanaged row: it accepts the row, or nothing.
type acceptance struct {
	row     drift.UnmanagedRow
	expires time.Time // the zero time for no end
	outcome Outcome
	writes  bool
}

// isOfAllRows reports whether the request is about all unmanaged rows that drift.
func (r Request) isOfAllRows() bool { return r.Drifting && r.Side == Database }

// unmanaged returns the unmanaged rows that the request is about, by name.
func (r Request) unmanaged(ctx context.Context, queries *store.Queries, keys *dbcrypt.Ring) ([]drift.UnmanagedRow, error) {
	all := r.isOfAllRows()
	if len(r.Unmanaged) == 0 && !all {
		return nil, nil
	}
	hasher, err := queries.Hasher(ctx)
	if err != nil {
		return nil, err
	}
	var only []string
	if !all {
		// The database takes no other text.
		only = slices.DeleteFunc(slices.Clone(r.Unmanaged), func(name string) bool { return !utf8.ValidString(name) || strings.ContainsRune(name, 0) })
	}
	rows, err := queries.ListUnmanaged(ctx, hasher, r.Named, only, keys)
	if err != nil {
		return nil, fmt.Errorf("load unmanaged rows: %w", err)
	}
	if all {
		return slices.DeleteFunc(rows, func(u drift.UnmanagedRow) bool { return !u.IsDrift() }), nil
	}
	unknown, managed := &UnknownError{}, &ManagedError{}
	var found []drift.UnmanagedRow
	for _, name := range r.Unmanaged {
		at := slices.IndexFunc(rows, func(u drift.UnmanagedRow) bool { return u.Observation.Provider == name })
		switch {
		case at < 0:
			unknown.Names = append(unknown.Names, name)
		case rows[at].IsManaged():
			managed.Names = append(managed.Names, name)
		default:
			found = append(found, rows[at])
		}
	}
	if len(unknown.Names) > 0 {
		if rows, err = queries.ListUnmanaged(ctx, hasher, r.Named, nil, keys); err != nil {
			return nil, fmt.Errorf("load unmanaged rows: %w", err)
		}
		for _, u := range rows {
			unknown.Rows = append(unknown.Rows, u.Observation.Provider)
		}
		return nil, unknown
	}
	if len(managed.Names) > 0 {
		return nil, managed
	}
	slices.SortFunc(found, func(a, b drift.UnmanagedRow) int {
		return strings.Compare(a.Observation.Provider, b.Observation.Provider)
	})
	return found, nil
}

// planRows returns what to do about unmanaged rows, at the database's time. The error names
// each row that cannot be accepted. [Request.Drifting] leaves such rows out, each with an outcome. Whether the acceptance can end when it does is checked with
// the plan of the providers. subjects is how many providers and rows the request is about.
func (r Request) planRows(rows []drift.UnmanagedRow, now time.Time, subjects int) (planned []acceptance, err error) {
	expires := r.Expires.of(now)
	var refused []error
	for _, u := range rows {
		o := u.Observation
		a := acceptance{row: u, expires: expires, outcome: Outcome{
			Provider: o.Provider, ProviderID: o.ProviderID, Kind: drift.Unmanaged, Fields: o.Fields, AcceptedUntil: expires,
		}}
		switch {
		case o.Unreadable != nil && r.Drifting:
			a.outcome = Outcome{Provider: o.Provider, ProviderID: o.ProviderID, Kind: drift.NotComparable, NotComparable: o.Unreadable.Error()}
		case o.Unreadable != nil:
			refused = append(refused, of(o.Provider, fmt.Errorf("its row cannot be read and is not accepted: %w", o.Unreadable), subjects))
		case u.IsAccepted() && u.AcceptedUntil().Equal(expires):
			a.outcome.AlreadyAccepted = true
		default:
			a.writes = true
		}
		planned = append(planned, a)
	}
	return planned, errors.Join(refused...)
}

// acceptRows records the acceptances, and stages the audit entry for each.
func (op operation) acceptRows(ctx context.Context, tx pgx.Tx, accepted []acceptance) error {
	var observed []drift.Observation
	var entries []audit.Entry
	var expires time.Time // of each the same
	for _, a := range accepted {
		if !a.writes {
			continue
		}
		o := a.row.Observation
		details := audit.Details{Kind: string(o.Kind), DBHash: o.DBHash, Changes: acceptedValues(o.Fields)}
		if expires = a.expires; !expires.IsZero() {
			details.Expires = expires.Format(time.RFC3339Nano)
		}
		observed = append(observed, o)
		entries = append(entries, audit.Entry{
			OccurredAt: op.at, Actor: op.actor, Action: audit.DriftAccepted, Provider: o.Provider, ProviderID: o.ProviderID, Details: details,
		})
	}
	if len(observed) == 0 {
		return nil
	}
	if err := store.On(tx).AcceptRows(ctx, observed, expires, op.actor, op.reason); err != nil {
		return fmt.Errorf("accept the unmanaged rows %s: %w", memberList(providersOf(observed)), err)
	}
	return op.stage(ctx, tx, entries)
}

// providersOf returns the names of observations.
func providersOf(observed []drift.Observation) []string {
	names := make([]string, len(observed))
	for i, o := range observed {
		names[i] = o.Provider
	}
	return names
}

// idsOf returns the ids of unmanaged rows.
func idsOf(rows []drift.UnmanagedRow) []uuid.UUID {
	ids := make([]uuid.UUID, len(rows))
	for i, u := range rows {
		ids[i] = u.Observation.ProviderID
	}
	return ids
}
