package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/audit"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
	"provwatch/internal/systemd"
	"provwatch/internal/verify"
	"provwatch/internal/web"
)

const (
	// recordPause is the least time between two records that everything was verified, so
	// that a flood of verifications causes no flood of writes.
	recordPause = time.Second
	// recordTimeout is how long a verification waits for its record.
	recordTimeout = 5 * time.Second
)

// verifications does what follows from the end of a verification. The goroutine of the source
// calls it, and those of the WAL source while it runs.
type verifications struct {
	worker     uuid.UUID
	pool       *pgxpool.Pool
	database   *pgxpool.Config
	verifier   *verify.Verifier
	deliverer  *audit.Deliverer
	leadership *leadership
	faults     *faults
	encryption *encryption
	publisher  *publisher
	health     *health
	liveness   *liveness
	page       *statusPage
	report     *report
	member     *systemd.Member
	logger     *slog.Logger

	// Of the goroutines that call Verified, one at a time.
	booted   bool      // everything was verified once while the session listened
	recorded time.Time // when it was last recorded that everything was verified
	logged   logDedup
}

// Verified implements [verify.Host]: it does what follows from a verification that has ended, with its error.
func (v *verifications) Verified(ctx context.Context, request verify.Request, err error) {
	v.liveness.verified()
	if err != nil && ctx.Err() != nil || rollout.IsOlder(err) {
		return // it was broken off, by a stop or with the term
	}
	v.faults.react(ctx, err)
	defer v.report.describe()
	if err != nil {
		v.health.setVerified(request.All, fmt.Errorf("the last verification failed: %w", postgres.Explain(v.database, err)))
		return
	}
	v.health.setVerified(request.All, nil)
	// A standby leaves to the leader what no alert depends on, and what notifications ask
	// for anyway.
	idle := !v.leadership.leads() && v.booted && !request.Events.Has(verify.Reconnected) && request.Source == pubsub.SourceResync
	// A writer that changed a provider may have staged an audit entry as well. The
	// verifier's limit on what a flood of notifications costs holds for this too.
	if !idle {
		v.deliverer.Wake()
	}
	if request.All && !idle || v.health.cannotEncrypt() {
		v.encryption.check(ctx)
	}
	if request.All {
		v.record(ctx)
		v.page.Changed(web.Resync)
		v.publish(ctx, request.Events)
	}
}

// publish publishes what a full verification was awaited for: that this worker is ready, the
// first time, and the events before the verification. An event that came while it was under
// way waits for the next one.
func (v *verifications) publish(ctx context.Context, events verify.Events) {
	// A resync can come before the listening connection does.
	if !v.booted && v.health.listens() {
		v.booted = true
		v.logger.InfoContext(ctx, "ready", "providers", v.verifier.Providers(), "worker", v.worker.String())
		v.publisher.publish(ctx, pubsub.EventReady, "")
		v.member.Ready()
		if postgres.IsShared(v.database) {
			// Those of the boot are not kept until they have been idle for long: many
			// databases boot together.
			v.pool.Reset()
		}
	}
	if events.Has(verify.Reconnected) {
		v.publisher.publish(ctx, pubsub.EventReconnected, "")
	}
	if events.Has(verify.Reloaded) {
		v.publisher.publish(ctx, pubsub.EventReloaded, "")
	}
}

// record records, while leading, that everything has been verified, for "worker status" and
// the pages of other workers. Nothing depends on it: a failure is logged, and the next
// verification records it again.
func (v *verifications) record(ctx context.Context) {
	term := v.leadership.currentTerm()
	if term == nil || time.Since(v.recorded) < recordPause {
		return
	}
	limited, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	err := store.On(v.pool).NoteVerified(limited, term.Number)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		v.faults.react(ctx, err)
	} else {
		v.recorded = time.Now()
	}
	if v.logged.isNewError("record", err) && err != nil {
		v.logger.WarnContext(ctx, "could not record that everything was verified", "error", err)
	}
}
