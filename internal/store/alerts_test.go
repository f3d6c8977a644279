package store_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/store"
)

func TestStoredAlert(t *testing.T) {
	t.Parallel()
	id, epoch := uuid.New(), uuid.New()
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.FixedZone("", 2*3600))
	row := store.AlertRow{
		Seq: 7, ID: id, Kind: "changed", Provider: "openai", ProviderID: &id, EnvHash: "e", DbHash: "d", Source: "wal", DetectedAt: at,
		Fields: []byte(`[{"name":"base_url","env":"https://a/","db":"https://b/"}]`), Lsn: "0/10", Xid: 3, CommittedAt: &at, Epoch: epoch,
	}
	want := store.StoredAlert{
		Alert: store.Alert{
			Seq: 7, ID: id, Kind: drift.Changed, Provider: "openai", ProviderID: id, EnvHash: "e", DBHash: "d", DetectedAt: at.UTC(),
			Fields: []drift.Field{{Name: "base_url", Env: "https://a/", DB: "https://b/"}}, LSN: "0/10", XID: 3, CommittedAt: at.UTC(),
		},
		Source: "wal", Epoch: epoch,
	}
	require.Equal(t, want, store.AlertOf(row))

	row.CommittedAt, row.ProviderID, row.Fields = nil, nil, []byte(`{}`)
	got := store.AlertOf(row)
	require.Equal(t, uuid.Nil, got.ProviderID)
	require.Empty(t, got.LSN, "an alert of the WAL has all of its commit")
	require.ErrorContains(t, got.Err, "decode the fields of alert 7: ")
	require.Equal(t, int64(7), got.Seq)
}
