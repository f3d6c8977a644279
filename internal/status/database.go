package status

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/lockwait"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

// maxWorkers bounds the sessions that are listed.
const maxWorkers = 50

// databaseReader reads the state of the workers.
type databaseReader struct {
	tx      pgx.Tx
	queries *store.Queries
	query   Query
	// mayReadEnvironments is set where there is provwatch.environments, and the role may read it.
	mayReadEnvironments bool
	// mayReadNotLoaded is the same of provwatch.not_loaded.
	mayReadNotLoaded bool
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
	if err := r.environments(ctx, d); err != nil {
		return err
	}
	if err := r.notLoaded(ctx, d); err != nil {
		return err
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

// environments collects the workers that were lately seen. A database that an earlier version
// has migrated, or a role without the privilege for it, has none to show.
func (r databaseReader) environments(ctx context.Context, d *Database) error {
	if !r.mayReadEnvironments {
		return nil
	}
	rows, err := r.queries.ListWorkerEnvironments(ctx, store.ListWorkerEnvironmentsParams{WindowMs: r.window().Milliseconds(), MaxWorkers: maxWorkers})
	if err != nil {
		return err
	}
	d.Environments = []WorkerEnvironment{}
	for _, row := range rows {
		e := WorkerEnvironment{Worker: row.Worker.String(), Role: row.Role, Generation: row.Generation, SeenAt: row.SeenAt.UTC()}
		if row.Generation > 0 {
			e.Since, e.Older = utc(&row.RecordedAt), row.Generation < rows[0].Generation
		}
		d.Environments = append(d.Environments, e)
	}
	return nil
}

// FilesWindow is for how long files that a worker has not loaded are shown after it last recorded
// them. A worker with any --rollback-after records them several times within it.
const FilesWindow = 2 * time.Minute

// notLoaded collects the workers that were lately seen, and have not loaded a file of their
// environment as it is on disk. As with environments, there can be none to show.
func (r databaseReader) notLoaded(ctx context.Context, d *Database) error {
	if !r.mayReadNotLoaded {
		return nil
	}
	rows, err := r.queries.ListNotLoaded(ctx, store.ListNotLoadedParams{WindowMs: FilesWindow.Milliseconds(), MaxWorkers: maxWorkers})
	if err != nil {
		return err
	}
	for _, row := range rows {
		d.NotLoaded = append(d.NotLoaded, NotLoaded{Worker: row.Worker.String(), Role: row.Role, Files: row.Paths, Since: row.Since.UTC(), SeenAt: row.SeenAt.UTC()})
	}
	return nil
}

// window is for how long a worker counts as there after it was seen.
func (r databaseReader) window() time.Duration { return cmp.Or(r.query.RollbackAfter, rollout.Window) }

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
		d.VerifiedUnread, err = r.query.Site.Text(lacking), nil
	}
	return err
}
