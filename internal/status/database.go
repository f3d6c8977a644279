package status

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/lockwait"
	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

// maxWorkers bounds the sessions that are listed.
const maxWorkers = 50

// databaseReader reads the state of the workers.
type databaseReader struct {
	tx      pgx.Tx
	queries *store.Queries
	site    remedy.Site
}

func (r databaseReader) read(ctx context.Context, found store.InspectStatusRow) (Database, error) {
	d := Database{Name: found.Database, Server: found.ServerVersion}
	if found.InRecovery {
		d.Replica = &Replica{ReplayedAt: unlessEpoch(found.ReplayedAt)}
	} else if err := r.watching(ctx, &d, found.Slot); err != nil {
		return d, err
	}
	if err := r.outbox(ctx, &d); err != nil {
		return d, err
	}
	return d, r.verified(ctx, &d, found)
}

func (r databaseReader) watching(ctx context.Context, d *Database, slotName string) error {
	workers, err := r.queries.ListWorkers(ctx, maxWorkers)
	if err != nil {
		return err
	}
	d.Workers = []Session{}
	for _, w := range workers {
		d.Workers = append(d.Workers, Session{PID: int(w.Pid), Role: w.Role, Address: w.Address, Since: utc(w.BackendStart), Leads: w.Leads, Observes: w.Observes})
	}
	if d.Leader() == nil {
		strangers, err := lockwait.OfLeadersLock(ctx, r.tx)
		if err != nil {
			return err
		}
		for _, s := range strangers {
			d.LockHolder = s.String()
		}
	}
	slot, err := r.queries.InspectSlot(ctx, slotName)
	switch {
	case err == nil:
		d.Slot = &Slot{Name: slotName, Active: slot.Active != nil && *slot.Active, WALStatus: slot.WalStatus, RetainedBytes: slot.RetainedBytes}
	case !errors.Is(err, pgx.ErrNoRows):
		return err
	}
	return nil
}

func (r databaseReader) outbox(ctx context.Context, d *Database) error {
	outbox, err := r.queries.OutboxDepth(ctx)
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

// verified collects when everything was last verified. A role without the
// privilege for it, which came later than the others, gets the reason beside the rest.
func (r databaseReader) verified(ctx context.Context, d *Database, found store.InspectStatusRow) error {
	if d.KeepsVerified = found.KeepsVerified; !d.KeepsVerified {
		return nil
	}
	if found.MayReadVerified {
		at, err := r.queries.ReadVerified(ctx)
		d.VerifiedAt = utc(at)
		return err
	}
	err := schema.CheckPrivileges(ctx, r.tx, schema.Reporting)
	var lacking *schema.UnusableError
	if errors.As(err, &lacking) {
		d.VerifiedUnread, err = r.site.Text(lacking), nil
	}
	return err
}
