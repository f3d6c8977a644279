package retention

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/audit"
	"provwatch/internal/pubsub"
)

// auditor stages the audit entries of an actor who prunes.
type auditor struct {
	actor     string
	olderThan time.Duration
}

// stage stages the audit entry of what the transaction tx deletes.
func (a auditor) stage(ctx context.Context, tx pgx.Tx, pruned Pruned) error {
	err := audit.Stage(ctx, tx, []audit.Entry{{
		ID: uuid.Must(uuid.NewV7()), OccurredAt: time.Now(), Actor: a.actor, Action: audit.HistoryPruned, Provider: audit.AllProviders,
		Details: audit.Details{Pruned: &audit.Pruned{
			OlderThanSeconds: int64(a.olderThan.Seconds()), Alerts: pruned.Alerts, AlertsUpTo: pruned.AlertsUpTo,
			AuditEntries: pruned.AuditEntries, AuditUpTo: pruned.AuditUpTo, Acceptances: pruned.Acceptances, Silences: pruned.Silences,
		}},
	}})
	if err != nil {
		return err
	}
	return pubsub.Publish(ctx, tx, pubsub.StagedEntries, "")
}
