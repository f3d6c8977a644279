package verify_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// silence silences a provider, or with * all of them, for an hour.
func silence(t *testing.T, pool *pgxpool.Pool, name string) {
	t.Helper()
	exec(t, pool, `INSERT INTO provwatch.silences (provider, author, reason, begins_at, ends_at) VALUES ($1, 'test', 'test', now(), now() + interval '1 hour')`, name)
}

// endSilences ends all silences.
func endSilences(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	exec(t, pool, `UPDATE provwatch.silences SET ends_at = now() WHERE ends_at > now()`)
}

// silenced returns the alerts, each with whether it is silenced, what it ends and what it
// repeats.
func silenced(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT concat_ws(' ', seq, kind, nullif(provider, ''), CASE WHEN silenced THEN 'silenced' END, 'repeats ' || repeats, 'ends ' || resolves)
		FROM provwatch.drift_alerts ORDER BY seq`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// listen returns what is published on a channel from now on.
func listen(t *testing.T, pool *pgxpool.Pool, channel pubsub.Channel) <-chan string {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig.Copy())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "LISTEN "+string(channel))
	require.NoError(t, err)
	notes, ended := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			n, err := conn.WaitForNotification(t.Context())
			if err != nil {
				return
			}
			notes <- n.Payload
		}
	}()
	t.Cleanup(func() {
		<-ended
		_ = conn.Close(context.Background())
	})
	return notes
}

// mover changes rows and has each change verified.
type mover struct {
	t    *testing.T
	pool *pgxpool.Pool
	v    *verify.Verifier
}

// to sets the base URL of a provider; that of [openAI] is https://h/.
func (m mover) to(name, baseURL string) {
	m.t.Helper()
	exec(m.t, m.pool, `UPDATE public.ai_providers SET base_url = $2 WHERE name = $1`, name, baseURL)
	require.NoError(m.t, m.v.Verify(m.t.Context(), resync))
}

func TestSilenced(t *testing.T) {
	t.Parallel()
	t.Run("ByNameOrAll", testSilencedByNameOrAll)
	t.Run("EndOfADrift", testSilencedEndOfADrift)
	t.Run("OneTransaction", testSilencedOneTransaction)
	t.Run("Gap", testSilencedGap)
	t.Run("NeverAlerted", testSilencedNeverAlerted)
	t.Run("NoLongerNamed", testSilencedNoLongerNamed)
	t.Run("EarlierVersion", testSilencedEarlierVersion)
}

// testSilencedByNameOrAll silences one provider before it drifts, and then all.
func testSilencedByNameOrAll(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	takeOver(t, pool, v)
	move := mover{t, pool, v}
	silence(t, pool, "a")
	silence(t, pool, "no-provider-yet")
	notes := listen(t, pool, pubsub.DriftAlerts)
	move.to("a", "https://2/")
	move.to("b", "https://2/")
	endSilences(t, pool)
	silence(t, pool, "*")
	move.to("b", "https://3/")
	endSilences(t, pool)
	exec(t, pool, `INSERT INTO provwatch.silences (provider, author, reason, begins_at, ends_at) VALUES ('b', '', '', now() + interval '1 hour', now() + interval '2 hours')`)
	move.to("b", "https://4/")
	require.Equal(t, []string{"1 changed a silenced", "2 changed b", "3 changed b silenced", "4 changed b", "5 changed a repeats 1"}, silenced(t, pool))
	for _, want := range []bool{true, false, true, false, false} {
		var published map[string]any
		require.NoError(t, json.Unmarshal([]byte(waittest.Receive(t, notes, "an alert is published")), &published))
		require.Equal(t, want, published["silenced"] == true, "%v", published)
	}
}

// testSilencedEndOfADrift ends drifts: each end is silenced exactly where no alert of the
// drift was for sinks, whether a silence lasts or not.
func testSilencedEndOfADrift(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"), openAI("c"), openAI("d"))
	takeOver(t, pool, v)
	move := mover{t, pool, v}
	move.to("a", "https://2/")
	move.to("b", "https://2/")
	silence(t, pool, "*")
	move.to("a", "https://h/") // alerted before
	move.to("b", "https://3/") // alerted before, and changed meanwhile
	move.to("b", "https://h/")
	move.to("c", "https://2/") // silenced from the begin to the end
	move.to("c", "https://h/")
	move.to("d", "https://2/") // silenced at the begin alone
	endSilences(t, pool)
	move.to("d", "https://h/")
	require.Equal(t, []string{
		"1 changed a", "2 changed b", "3 resolved a ends 1", "4 changed b silenced", "5 resolved b ends 4",
		"6 changed c silenced", "7 resolved c silenced ends 6", "8 changed d silenced", "9 resolved d silenced ends 8",
	}, silenced(t, pool))

	// Later drifts of the same providers are others.
	move.to("c", "https://2/")
	silence(t, pool, "c")
	move.to("c", "https://h/")
	require.Equal(t, []string{"10 changed c", "11 resolved c ends 10"}, silenced(t, pool)[9:])
}

// testSilencedOneTransaction records several alerts of a provider at once, as a batch of the
// WAL does.
func testSilencedOneTransaction(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, v)
	observe := func(baseURL string) verify.Observed {
		t.Helper()
		exec(t, pool, `UPDATE public.ai_providers SET base_url = $1`, baseURL)
		observed, err := v.Observe(t.Context(), []drift.Subject{{Provider: "a"}})
		require.NoError(t, err)
		observed[0].Commit = &pubsub.Commit{LSN: "0/10", XID: 7, CommittedAt: time.Unix(1, 0)}
		return observed[0]
	}
	record := func(observed ...verify.Observed) {
		t.Helper()
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := v.Record(t.Context(), tx, observed, pubsub.SourceWAL)
			return err
		}))
	}
	record(observe("https://2/"))
	silence(t, pool, "a")
	record(observe("https://3/"), observe("https://h/"), observe("https://4/"), observe("https://h/"), observe("https://5/"))
	endSilences(t, pool)
	record(observe("https://6/"), observe("https://h/"), observe("https://7/"))
	silence(t, pool, "a")
	record(observe("https://h/"))
	require.Equal(t, []string{
		"1 changed a", "2 changed a silenced", "3 resolved a ends 2", "4 changed a silenced", "5 resolved a silenced ends 4", "6 changed a silenced",
		"7 changed a", "8 resolved a ends 7", "9 changed a", "10 resolved a ends 9",
	}, silenced(t, pool))
}

// testSilencedGap records a gap while everything is silenced.
func testSilencedGap(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, v)
	silence(t, pool, "*")
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := v.Gap(t.Context(), tx, "the test", pubsub.SourceWAL)
		return err
	}))
	require.Equal(t, []string{"1 gap"}, silenced(t, pool))
}

// testSilencedNeverAlerted ends a drift that was there before the first verification: no
// alert of it was for sinks, and the silences that last decide.
func testSilencedNeverAlerted(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	exec(t, pool, `UPDATE provwatch.drift_state SET kind = 'deleted'`)
	takeOver(t, pool, v)
	silence(t, pool, "b")
	require.NoError(t, v.Verify(t.Context(), resync))
	require.ElementsMatch(t, []string{"1 resolved a", "2 resolved b silenced"}, silenced(t, pool))
}

// testSilencedNoLongerNamed ends drifts by an environment that no longer names the providers.
func testSilencedNoLongerNamed(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	takeOver(t, pool, v)
	move := mover{t, pool, v}
	move.to("a", "https://2/")
	silence(t, pool, "*")
	move.to("b", "https://2/")
	v.SetDesired(nil)
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Equal(t, []string{"1 changed a", "2 changed b silenced", "3 resolved a ends 1", "4 resolved b silenced ends 2"}, silenced(t, pool))
}

// testSilencedEarlierVersion has a leader of an earlier version, which does not know of
// silences, alert a drift that was silenced before: its end goes to sinks.
func testSilencedEarlierVersion(t *testing.T) {
	t.Parallel()
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, v)
	move := mover{t, pool, v}
	silence(t, pool, "a")
	move.to("a", "https://2/")
	exec(t, pool, `
		WITH counted AS (UPDATE provwatch.alert_counter SET last_seq = last_seq + 1, generation = generation + 1, writer = pg_current_xact_id() RETURNING last_seq, epoch), stated AS (
			UPDATE provwatch.drift_state SET alert_seq = (SELECT last_seq FROM counted))
		INSERT INTO provwatch.drift_alerts (seq, id, kind, provider, fields, env_hash, db_hash, source, detected_at, epoch)
		SELECT last_seq, gen_random_uuid(), 'changed', 'a', '[]', '', '', 'notify', now(), epoch FROM counted`)
	move.to("a", "https://h/")
	require.Equal(t, []string{"1 changed a silenced", "2 changed a", "3 resolved a ends 2"}, silenced(t, pool))
}
