package verify

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// Gap records, in the transaction tx, that changes may have passed unseen, and notifies.
// After tx has committed, hand the result to [Verifier.Announce].
func (v *Verifier) Gap(ctx context.Context, tx pgx.Tx, reason string, source pubsub.Source) (Recorded, error) {
	locked, err := store.On(tx).LockAlerts(ctx)
	if err != nil {
		return Recorded{}, fmt.Errorf("record a gap: %w", err)
	}
	at := position{locked.Generation, locked.LastSeq, locked.Epoch}
	alert, err := alertOfNone(drift.Gap, at, reason, source)
	if err != nil {
		return Recorded{}, fmt.Errorf("record a gap: %w", err)
	}
	// A gap is one whichever environment is the newest.
	recorded, err := record{db: tx, at: at, term: v.sequence.currentTerm(), newest: store.AnyEnvironment, source: source}.write(ctx, Recorded{
		environment: v.environment.Load(), alerts: []pubsub.DriftAlert{alert},
	})
	if err == nil && recorded.generation == 0 {
		err = errRace
	}
	if err != nil {
		return Recorded{}, fmt.Errorf("record a gap: %w", err)
	}
	return recorded, nil
}

// alertOfNone returns the next alert, which is about no provider.
func alertOfNone(kind drift.Kind, at position, reason string, source pubsub.Source) (pubsub.DriftAlert, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return pubsub.DriftAlert{}, err
	}
	return pubsub.DriftAlert{
		ID: id, Seq: at.next(0), Kind: kind, Source: source, DetectedAt: time.Now(), Epoch: at.epoch, Reason: storable(reason),
	}, nil
}

// storable returns a reason, which can be the text of an error, as a column takes it and
// with what must not be shown cut.
func storable(reason string) string {
	return provider.DisplayText(strings.ReplaceAll(strings.ToValidUTF8(reason, "\ufffd"), "\x00", "\ufffd"))
}
