package verify

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// The sequence of alerts can be rewound under a worker: by a restore of the database, or
// when a standby is promoted that lacked the latest commits. What was published then is
// gone, and its numbers are given out again. So the sequence has epochs. The leader begins
// one with an alert "rewound" when the counter's row is not what the last worker left, and
// when it ends before what this process has seen.

// reached is how far the sequence of alerts had got when this process last saw it, in
// whatever term and role, by epoch. The answers to queries may come in any order. Its
// methods may be called by several goroutines.
type reached struct {
	mu   sync.Mutex
	seqs map[uuid.UUID]int64
}

// see adds an end of the sequence.
func (r *reached) see(epoch uuid.UUID, seq int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seqs == nil {
		r.seqs = map[uuid.UUID]int64{}
	}
	r.seqs[epoch] = max(r.seqs[epoch], seq)
}

// whyBefore returns why an end of the sequence, in an epoch that came after the former
// ones, is before what was seen; empty where it is not.
func (r *reached) whyBefore(epoch uuid.UUID, former []uuid.UUID, seq int64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seen := r.seqs[epoch]; seq < seen {
		return fmt.Sprintf("the last alert has the seq %d, and %d was seen before", seq, seen)
	}
	for e, seen := range r.seqs {
		// An epoch that began later says by its alert that something may be lost.
		if e != epoch && !slices.Contains(former, e) && begun(epoch) <= begun(e) {
			return fmt.Sprintf("alerts up to seq %d were seen in a later epoch", seen)
		}
	}
	return ""
}

// begun returns when an epoch began, in milliseconds since 1970 by the clock of the worker
// that began it; 0 for the first one of a database.
func begun(epoch uuid.UUID) int64 {
	if epoch.Version() != 7 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(epoch[:8]) >> 16)
}

// begin notes the epoch that the leader has begun. Of all others the database is known to
// lack something.
func (r *reached) begin(epoch uuid.UUID, seq int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seqs = map[uuid.UUID]int64{epoch: seq}
}

// AlertsSeen notes how far the sequence of alerts has got. It waits for no verification.
func (v *Verifier) AlertsSeen(epoch uuid.UUID, lastSeq int64) { v.reached.see(epoch, lastSeq) }

// server identifies the server, each field 0 where it is not known.
type server struct {
	system   int64 // its identifier
	timeline int32
}

// takeCounter makes the epoch that of the database, and begins another where the sequence
// was rewound.
func (v *Verifier) takeCounter(ctx context.Context, source pubsub.Source) error {
	queries := store.On(v.pool)
	system, err := queries.SystemIdentifier(ctx)
	if err != nil {
		return fmt.Errorf("read the server's system identifier: %w", err)
	}
	timeline, err := queries.Timeline(ctx)
	if err != nil {
		return fmt.Errorf("read the server's timeline: %w", err)
	}
	server := server{system, timeline}
	for range maxRaces {
		counter, err := queries.ReadCounter(ctx)
		if err != nil {
			return fmt.Errorf("read provwatch.alert_counter: %w", err)
		}
		if counter.Term != v.term {
			return leader.ErrLaterTerm
		}
		reasons, certain := v.whyRewound(counter, server)
		taken := false
		switch {
		case len(reasons) > 0:
			taken, err = v.rewind(ctx, counter, server, strings.Join(reasons, "; "), certain, source)
		case isNoted(counter, server):
			taken = true
			v.epoch = counter.Epoch
			v.reached.see(counter.Epoch, counter.LastSeq)
		default:
			// Noted for the first time: there is nothing to compare with.
			_, err = queries.NoteCounter(ctx, store.NoteCounterParams{
				Timeline: timeline, TableOid: counter.OidHere, SystemIdentifier: system, Term: v.term, Generation: counter.Generation,
			})
		}
		if err != nil {
			return fmt.Errorf("write provwatch.alert_counter: %w", err)
		}
		if taken {
			return nil
		}
	}
	return errRace
}

// isNoted reports whether the counter's row says all of where it was written.
func isNoted(counter store.ReadCounterRow, server server) bool {
	return counter.IsNoted && (counter.Timeline != 0 || server.timeline == 0) && counter.TableOid != 0 && (counter.SystemIdentifier != 0 || server.system == 0)
}

// whyRewound returns why the sequence of alerts was rewound, or may have been, none where
// it was not. Where it is certain, alerts that were published can be gone.
func (v *Verifier) whyRewound(counter store.ReadCounterRow, server server) (reasons []string, certain bool) {
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	if !counter.Intact {
		add("the row of provwatch.alert_counter was not written by a worker last, as after a restore from a dump")
	}
	if counter.TableOid != 0 && counter.TableOid != counter.OidHere {
		add("the table provwatch.alert_counter was created again")
	}
	if counter.LastRow > counter.LastSeq {
		add("the last alert counted has the seq %d, and there is one of seq %d", counter.LastSeq, counter.LastRow)
	}
	if counter.LastCursor > counter.LastSeq {
		add("the last alert has the seq %d, and a sink was sent one of seq %d", counter.LastSeq, counter.LastCursor)
	}
	if why := v.reached.whyBefore(counter.Epoch, counter.FormerEpochs, counter.LastSeq); why != "" {
		add("%s", why)
	}
	certain = len(reasons) > 0
	// Alone these need not mean that anything is lost: pg_upgrade gives another identifier.
	if counter.SystemIdentifier != 0 && server.system != 0 && counter.SystemIdentifier != server.system {
		add("the server is another one: its system identifier is %d, and it was %d", server.system, counter.SystemIdentifier)
	}
	if counter.Timeline != 0 && server.timeline != 0 && counter.Timeline != server.timeline {
		add("the server was promoted or recovered: it is on timeline %d, and was on %d", server.timeline, counter.Timeline)
	}
	return reasons, certain
}

// rewind begins an epoch, and reports whether it has: not when somebody else has recorded
// anything meanwhile.
func (v *Verifier) rewind(ctx context.Context, counter store.ReadCounterRow, server server, reason string, certain bool, source pubsub.Source) (bool, error) {
	at := place{counter.Generation, max(counter.LastSeq, counter.LastRow), uuid.Must(uuid.NewV7())}
	alert, err := alertOfNone(drift.Rewound, at, reason, source)
	if err != nil {
		return false, err
	}
	alert.Certain = &certain
	done, err := store.On(v.pool).Rewind(ctx, store.RewindParams{
		Seq: alert.Seq, Epoch: at.epoch, Timeline: server.timeline, TableOid: counter.OidHere, SystemIdentifier: server.system,
		Term: v.term, Generation: at.generation, ID: alert.ID, Source: string(source), DetectedAt: alert.DetectedAt,
		Reason: alert.Reason, Certain: certain, Payload: alert.Payload(),
	})
	if err != nil || len(done) == 0 {
		return false, err
	}
	v.epoch = at.epoch
	v.reached.begin(at.epoch, alert.Seq)
	v.announce(ctx, Recorded{generation: done[0].Generation, alerts: []pubsub.DriftAlert{alert}})
	return true, nil
}

// announceOfNone logs and measures an alert that is about no provider.
func (v *Verifier) announceOfNone(ctx context.Context, a pubsub.DriftAlert) {
	message := "changes may have passed unseen"
	measured := a.Kind
	switch {
	case a.Kind != drift.Rewound:
	case a.Certain != nil && *a.Certain:
		message = "alerts may be lost: their sequence was rewound"
	default:
		message, measured = "the latest alerts may be lost: their sequence may have been rewound", ""
	}
	v.logger.LogAttrs(ctx, slog.LevelWarn, message, slog.String("kind", string(a.Kind)), slog.Int64("seq", a.Seq), slog.String("reason", a.Reason),
		slog.String("source", string(a.Source)), slog.String("epoch", a.Epoch.String()))
	if measured != "" {
		v.metrics.GapObserved(measured, a.DetectedAt)
	}
}

// findGaps measures the gaps and rewinds that others have recorded.
func (v *Verifier) findGaps(ctx context.Context) error {
	latest := map[drift.Kind]time.Time{drift.Gap: {}, drift.Rewound: {}}
	rows, err := store.On(v.pool).LatestGaps(ctx)
	if err != nil {
		return fmt.Errorf("look for gaps in provwatch.drift_alerts: %w", err)
	}
	for _, row := range rows {
		latest[drift.Kind(row.Kind)] = row.DetectedAt
	}
	for kind, at := range latest {
		v.metrics.GapObserved(kind, at)
	}
	return nil
}

// needEpoch reads the epoch unless it is known, as of a verifier that has taken over.
func (v *Verifier) needEpoch(ctx context.Context) (err error) {
	if v.epoch != uuid.Nil {
		return nil
	}
	if v.epoch, err = store.On(v.pool).ReadEpoch(ctx); err != nil {
		return fmt.Errorf("read provwatch.alert_counter: %w", err)
	}
	return nil
}
