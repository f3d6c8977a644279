package status_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/sink"
	"provwatch/internal/status"
)

// TestUnreadableSinks collects how far sinks are, and then without the privilege for it,
// the time and the tables.
func TestUnreadableSinks(t *testing.T) {
	t.Parallel()
	pool, _ := lived(t)
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), string(script))
	require.NoError(t, err)
	config := pool.Config().ConnConfig
	config.RuntimeParams["role"] = "provwatch_reader"
	reader, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), "SET lock_timeout = '10ms'")
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close(context.Background()) })
	collected := func() status.Status {
		t.Helper()
		s, err := status.Collect(t.Context(), reader, noKeys, status.Environment{}, everyOfBilling())
		require.NoError(t, err)
		require.Equal(t, livedSummaries, summaries(s))
		require.Len(t, s.Alerts, 4)
		return s
	}
	s := collected()
	require.Empty(t, s.Sinks)
	require.Empty(t, s.DeadLetters)
	require.Empty(t, s.SinksUnread)

	_, err = pool.Exec(t.Context(), `
		INSERT INTO provwatch.sink_cursors (sink, stream, seq) VALUES ('nats', 'drift', 4), ('webhook', 'drift', 1);
		INSERT INTO provwatch.sink_dead_letters (sink, stream, seq, event_id, provider, reason, attempts, at)
		SELECT 'nats', 'drift', n, gen_random_uuid(), 'openai', 'HTTP 410 Gone', 2, '2026-07-01'::timestamptz + n * interval '1 second'
		FROM generate_series(1, 21) n`)
	require.NoError(t, err)
	s = collected()
	for i := range s.Sinks {
		require.WithinDuration(t, time.Now(), s.Sinks[i].MovedAt, time.Hour)
		s.Sinks[i].MovedAt = time.Time{}
	}
	require.Equal(t, []sink.Progress{
		{Sink: "nats", Stream: sink.Drift, Seq: 4, DeadLetters: 21}, {Sink: "webhook", Stream: sink.Drift, Seq: 1, Behind: 3},
	}, s.Sinks)
	require.Len(t, s.DeadLetters, status.MaxDeadLetters)
	latest := s.DeadLetters[0]
	latest.EventID = uuid.Nil
	require.Equal(t, sink.DeadLetter{
		Sink: "nats", Stream: sink.Drift, Seq: 21, Provider: "openai", Reason: "HTTP 410 Gone", Attempts: 2,
		At: time.Date(2026, 7, 1, 0, 0, 21, 0, time.UTC),
	}, latest)
	require.EqualValues(t, 2, s.DeadLetters[19].Seq)

	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE provwatch.sink_cursors`)
	require.NoError(t, err)
	s = collected()
	require.NoError(t, tx.Rollback(t.Context()))
	require.Contains(t, s.SinksUnread, "lock timeout")
	require.Empty(t, s.Sinks)

	_, err = pool.Exec(t.Context(), `REVOKE SELECT ON provwatch.sink_cursors, provwatch.sink_dead_letters FROM provwatch_reader`)
	require.NoError(t, err)
	s = collected()
	for _, table := range []string{"sink_cursors", "sink_dead_letters"} {
		require.Contains(t, s.SinksUnread, `GRANT SELECT ON TABLE provwatch.`+table+` TO "provwatch_reader";`)
	}
	require.Empty(t, s.DeadLetters)
	require.Contains(t, s.SinksUnread, `"worker roles --config /etc/provwatch.yaml --target billing"`)

	// A database that an earlier version has migrated.
	_, err = pool.Exec(t.Context(), `DROP TABLE provwatch.sink_cursors, provwatch.sink_dead_letters`)
	require.NoError(t, err)
	s = collected()
	require.Empty(t, s.Sinks)
	require.Empty(t, s.SinksUnread)
}
