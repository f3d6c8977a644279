package verify

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// The sequence of alerts can be rewound under a worker: by a restore of the database, or
// when a standby is promoted that lacked the latest commits. What was published then is
// gone, and its numbers are given out again. So the sequence has epochs. The leader begins
// one with an alert "rewound" when the counter's row is not what the last worker left, and
// when it ends before what this process has seen.

// server identifies the server, each field 0 where it is not known.
type server struct {
	system   int64 // its identifier
	timeline int32
}

// TakeOver prepares for following another worker, whose environment may have named other
// providers. What is recorded from now on is of the term, and refused when there is a
// later one. Where the sequence of alerts was rewound since, it begins an epoch, with an
// alert from the source. It fails with a [*rollout.OlderError] where the environment is older
// than that of another worker. No verification is under way meanwhile.
func (v *Verifier) TakeOver(ctx context.Context, term int64, source pubsub.Source) error {
	// After a restore the generation can be equal to the known one, and the recorded states
	// differ.
	v.baseline.forget()
	v.conditions.takenOver()
	v.silences.add()
	v.pending.add()
	v.sequence.begin(term)
	hasher, err := v.Hasher(ctx)
	if err == nil {
		environment := v.environment.Load()
		environment.newest.Store(nil)
		_, err = v.takeGeneration(ctx, v.pool, environment, hasher)
	}
	if err == nil {
		err = v.findGaps(ctx)
	}
	if err == nil {
		err = v.takeCounter(ctx, source)
	}
	if err != nil {
		return fmt.Errorf("take over from another worker: %w", err)
	}
	return nil
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
	term := v.sequence.currentTerm()
	for range maxRaces {
		counter, err := queries.ReadCounter(ctx)
		if err != nil {
			return fmt.Errorf("read provwatch.alert_counter: %w", err)
		}
		if counter.Term != term {
			return store.ErrLaterTerm
		}
		reasons, certain := v.whyRewound(counter, server)
		taken := false
		switch {
		case len(reasons) > 0:
			taken, err = v.rewind(ctx, counter, server, strings.Join(reasons, "; "), certain, source)
		case isNoted(counter, server):
			taken = true
			v.sequence.goOn(counter.Epoch)
			v.sequence.see(counter.Epoch, counter.LastSeq)
		default:
			// Noted for the first time: there is nothing to compare with.
			_, err = queries.NoteCounter(ctx, store.NoteCounterParams{
				Timeline: timeline, TableOid: counter.OidHere, SystemIdentifier: system, Term: term, Generation: counter.Generation,
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
	if why := v.sequence.whyBefore(counter.Epoch, counter.FormerEpochs, counter.LastSeq); why != "" {
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

// rewind begins an epoch, and reports whether it has: not when another worker has recorded
// anything meanwhile.
func (v *Verifier) rewind(ctx context.Context, counter store.ReadCounterRow, server server, reason string, certain bool, source pubsub.Source) (bool, error) {
	at := position{counter.Generation, max(counter.LastSeq, counter.LastRow), uuid.Must(uuid.NewV7())}
	alert, err := alertOfNone(drift.Rewound, at, reason, source)
	if err != nil {
		return false, err
	}
	alert.Certain = &certain
	done, err := store.On(v.pool).Rewind(ctx, store.RewindParams{
		Seq: alert.Seq, Epoch: at.epoch, Timeline: server.timeline, TableOid: counter.OidHere, SystemIdentifier: server.system,
		Term: v.sequence.currentTerm(), Generation: at.generation, ID: alert.ID, Source: string(source), DetectedAt: alert.DetectedAt,
		Reason: alert.Reason, Certain: certain, Payload: alert.Payload(),
	})
	if err != nil || len(done) == 0 {
		return false, err
	}
	v.sequence.rewound(at.epoch, alert.Seq)
	v.announce(ctx, Recorded{environment: v.environment.Load(), generation: done[0].Generation, alerts: []pubsub.DriftAlert{alert}})
	return true, nil
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
