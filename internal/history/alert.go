// Package history reads the drift alerts of a database in order. "worker watch" follows
// them.
package history

import (
	"encoding/json"
	"fmt"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
)

// Alert returns the alert of a row.
func Alert(row store.ListAlertsSinceRow) (pubsub.DriftAlert, error) {
	alert := pubsub.DriftAlert{
		V: pubsub.Version, ID: row.ID, Seq: row.Seq, Kind: drift.Kind(row.Kind), Provider: row.Provider, ProviderID: row.ProviderID,
		EnvHash: row.EnvHash, DBHash: row.DbHash, Source: pubsub.Source(row.Source), DetectedAt: row.DetectedAt.UTC(),
		HashKeyed: provider.IsKeyed(row.EnvHash) || provider.IsKeyed(row.DbHash),
		Epoch:     row.Epoch, Reason: row.Reason, Certain: row.Certain,
	}
	if row.Lsn != "" && row.CommittedAt != nil {
		alert.Commit = &pubsub.Commit{LSN: row.Lsn, XID: row.Xid, CommittedAt: row.CommittedAt.UTC()}
	}
	if err := json.Unmarshal(row.Fields, &alert.Fields); err != nil {
		return alert, fmt.Errorf("decode the fields of alert %d: %w", row.Seq, err)
	}
	return alert, nil
}
