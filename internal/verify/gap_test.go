package verify_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// TestGapRow records gaps between alerts, each in a transaction.
func TestGapRow(t *testing.T) {
	t.Parallel()
	pool, _, metrics := seeded(t, drift.IgnoreCredentials, openAI("a"))
	var log strings.Builder
	v := verify.New(pool, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, slog.New(slog.NewTextHandler(&log, nil)), metrics)
	takeOver(t, pool, v)
	require.Equal(t, map[drift.Kind]bool{drift.Gap: false, drift.Rewound: false}, metrics.seenGaps())
	listening, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer func() { _ = listening.Hijack().Close(t.Context()) }()
	_, err = listening.Exec(t.Context(), "LISTEN "+string(pubsub.DriftAlerts))
	require.NoError(t, err)

	gap := func(v *verify.Verifier) error {
		var recorded verify.Recorded
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
			recorded, err = v.Gap(t.Context(), tx, "the slot\x00is \xffgone", pubsub.SourceWAL)
			return err
		})
		if err == nil {
			v.Announce(t.Context(), recorded)
		}
		return err
	}
	require.NoError(t, gap(v))
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.NoError(t, gap(v))
	require.NoError(t, v.Verify(t.Context(), resync), "what a gap has counted is known")
	require.Equal(t, []string{"1 gap  wal", "2 disabled a resync", "3 gap  wal"}, alerts(t, pool))
	require.Equal(t, "2", value(t, pool, `SELECT count(DISTINCT id)::text FROM provwatch.drift_alerts WHERE kind = 'gap' AND epoch = (SELECT epoch FROM provwatch.alert_counter)
		AND reason = 'the slot`+"\ufffdis \ufffd"+`gone' AND provider_id IS NULL AND certain IS NULL`))
	require.Contains(t, log.String(), `level=WARN msg="changes may have passed unseen" kind=gap seq=1`)
	require.Equal(t, map[drift.Kind]bool{drift.Gap: true, drift.Rewound: false}, metrics.seenGaps())
	for _, want := range alerts(t, pool) {
		notification, err := listening.Conn().WaitForNotification(waittest.Context(t))
		require.NoError(t, err)
		var alert pubsub.DriftAlert
		require.NoError(t, json.Unmarshal([]byte(notification.Payload), &alert))
		require.Equal(t, want, strings.Join([]string{string(rune('0' + alert.Seq)), string(alert.Kind), alert.Provider, string(alert.Source)}, " "))
		require.Equal(t, value(t, pool, `SELECT epoch::text FROM provwatch.alert_counter`), alert.Epoch.String())
		require.Equal(t, alert.Kind == drift.Gap, alert.Reason != "")
	}

	// The next leader measures it as well, and the former one records none.
	var later counter
	next := verify.New(pool, []provider.Desired{openAI("a")}, drift.IgnoreCredentials, quiet, &later)
	takeOver(t, pool, next)
	require.Equal(t, map[drift.Kind]bool{drift.Gap: true, drift.Rewound: false}, later.seenGaps())
	require.Error(t, gap(v))
	require.Len(t, alerts(t, pool), 3)
}
