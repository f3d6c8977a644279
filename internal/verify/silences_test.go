package verify_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

func TestOutlived(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"Repeated": testOutlivedRepeated, "LastSilence": testOutlivedLastSilence, "SentBefore": testOutlivedSentBefore, "EndedMeanwhile": testOutlivedEndedMeanwhile,
		"NextLeader": testOutlivedNextLeader, "OtherWorkerRecords": testOutlivedOtherWorkerRecords, "Many": testOutlivedMany, "WAL": testOutlivedWAL,
		"LostAnswer": testOutlivedLostAnswer,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// testOutlivedRepeated ends a silence: the drift that lasts is alerted once more, as it was.
func testOutlivedRepeated(t *testing.T) {
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	takeOver(t, pool, v)
	move := mover{t, pool, v}
	silence(t, pool, "a")
	move.to("a", "https://2/")
	const state = `SELECT (to_jsonb(s) - 'alert_seq' - 'silenced_seq')::text FROM provwatch.drift_state s WHERE provider = 'a'`
	before := value(t, pool, state)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a silenced"}, silenced(t, pool), "the silence lasts")
	endSilences(t, pool)
	for range 2 {
		require.NoError(t, v.Verify(t.Context(), resync))
		require.Equal(t, []string{"1 changed a silenced", "2 changed a repeats 1"}, silenced(t, pool))
	}
	require.Equal(t, before, value(t, pool, state), "since when it drifts stays as it was")
	require.Equal(t, "1", value(t, pool, `SELECT count(*)::text FROM provwatch.drift_alerts WHERE source = 'silence'`))
	same := `SELECT (provider_id, fields, env_hash, db_hash, moved, kind)::text FROM provwatch.drift_alerts WHERE seq = `
	require.Equal(t, value(t, pool, same+"1"), value(t, pool, same+"2"))
	// Silenced again, and changed again.
	silence(t, pool, "a")
	move.to("a", "https://3/")
	endSilences(t, pool)
	require.NoError(t, v.Verify(t.Context(), resync))
	move.to("a", "https://h/")
	require.Equal(t, []string{"3 changed a silenced", "4 changed a repeats 3", "5 resolved a ends 4"}, silenced(t, pool)[2:])
}

// testOutlivedLastSilence has several silences match a drift, of which one ends after the other.
func testOutlivedLastSilence(t *testing.T) {
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	takeOver(t, pool, v)
	move := mover{t, pool, v}
	silence(t, pool, "a")
	silence(t, pool, "*")
	move.to("a", "https://2/")
	move.to("b", "https://2/")
	exec(t, pool, `UPDATE provwatch.silences SET ends_at = now() WHERE provider = '*'`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a silenced", "2 changed b silenced", "3 changed b repeats 2"}, silenced(t, pool))
	silence(t, pool, "a")
	exec(t, pool, `UPDATE provwatch.silences SET ends_at = now() WHERE id = 1`)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Len(t, silenced(t, pool), 3)
	endSilences(t, pool)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, "4 changed a repeats 1", silenced(t, pool)[3])
}

// testOutlivedSentBefore has drifts that were alerted before the silence: only the
// drift that has changed meanwhile is alerted again.
func testOutlivedSentBefore(t *testing.T) {
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	takeOver(t, pool, v)
	move := mover{t, pool, v}
	move.to("a", "https://2/")
	move.to("b", "https://2/")
	silence(t, pool, "*")
	move.to("b", "https://3/")
	endSilences(t, pool)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed a", "2 changed b", "3 changed b silenced", "4 changed b repeats 3"}, silenced(t, pool))
}

// testOutlivedEndedMeanwhile ends drifts before the verification that follows their silence.
func testOutlivedEndedMeanwhile(t *testing.T) {
	desired := []provider.Desired{openAI("a"), openAI("b"), openAI("c"), openAI("d")}
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired...)
	takeOver(t, pool, v)
	move := mover{t, pool, v}
	silence(t, pool, "*")
	for _, d := range desired {
		move.to(d.Name, "https://2/")
	}
	endSilences(t, pool)
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://h/' WHERE name = 'a'`)
	exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		SELECT provider, kind, env_hash, db_hash, 'test' FROM provwatch.drift_state WHERE provider = 'b'`)
	v.SetDesired([]provider.Desired{openAI("a"), openAI("b"), openAI("d")})
	require.NoError(t, v.Verify(t.Context(), reload))
	require.Equal(t, []string{"5 resolved a silenced ends 1", "6 resolved b silenced ends 2", "7 resolved c silenced ends 3", "8 changed d repeats 4"}, silenced(t, pool)[4:])
}

// testOutlivedNextLeader has another worker take over while a silence lasts, and a third one
// after it has ended.
func testOutlivedNextLeader(t *testing.T) {
	desired := []provider.Desired{openAI("a"), openAI("b")}
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired...)
	takeOver(t, pool, v)
	silence(t, pool, "a")
	move := mover{t, pool, v}
	move.to("a", "https://2/")
	next := func() *verify.Verifier {
		t.Helper()
		v := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
		takeOver(t, pool, v)
		require.NoError(t, v.Verify(t.Context(), boot))
		return v
	}
	second := next()
	require.Len(t, silenced(t, pool), 1)
	silence(t, pool, "b")
	mover{t, pool, second}.to("b", "https://2/")
	endSilences(t, pool)
	third := next()
	require.Equal(t, []string{"1 changed a silenced", "2 changed b silenced", "3 changed a repeats 1", "4 changed b repeats 2"}, silenced(t, pool))
	for _, former := range []*verify.Verifier{v, second} {
		// It does not know yet that it no longer leads.
		require.NoError(t, former.Verify(t.Context(), resync))
	}
	require.NoError(t, third.Verify(t.Context(), resync))
	require.Len(t, silenced(t, pool), 4)
}

// testOutlivedOtherWorkerRecords has two verifiers of one term repeat at once: each drift is
// alerted once.
func testOutlivedOtherWorkerRecords(t *testing.T) {
	desired := []provider.Desired{openAI("a"), openAI("b"), openAI("c")}
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired...)
	takeOver(t, pool, v)
	silence(t, pool, "*")
	move := mover{t, pool, v}
	for _, d := range desired {
		move.to(d.Name, "https://2/")
	}
	endSilences(t, pool)
	other := verify.New(pool, desired, drift.IgnoreCredentials, quiet, &counter{})
	require.NoError(t, other.TakeOver(t.Context(), currentTerm(t, pool), pubsub.SourceBoot))
	var verifications sync.WaitGroup
	for _, verifier := range []*verify.Verifier{v, other} {
		verifications.Go(func() {
			if err := verifier.Verify(t.Context(), resync); err != nil {
				t.Error(err)
			}
		})
	}
	verifications.Wait()
	require.Equal(t, []string{"4 changed a repeats 1", "5 changed b repeats 2", "6 changed c repeats 3"}, silenced(t, pool)[3:])
}

// testOutlivedMany has more drifts outlive a silence than are recorded at a time.
func testOutlivedMany(t *testing.T) {
	desired := make([]provider.Desired, verify.MaxObserved+10)
	for i := range desired {
		desired[i] = openAI(fmt.Sprintf("p-%d", i))
	}
	pool, v, _ := seeded(t, drift.IgnoreCredentials, desired...)
	takeOver(t, pool, v)
	silence(t, pool, "*")
	exec(t, pool, `UPDATE public.ai_providers SET enabled = false`)
	require.NoError(t, v.Verify(t.Context(), resync))
	endSilences(t, pool)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, fmt.Sprint(len(desired)), value(t, pool, `SELECT count(DISTINCT repeats)::text FROM provwatch.drift_alerts WHERE repeats IS NOT NULL AND NOT silenced`))
	require.Equal(t, fmt.Sprint(2*len(desired)), value(t, pool, `SELECT count(*)::text FROM provwatch.drift_alerts`))
}

// testOutlivedWAL ends a full verification as the WAL source does.
func testOutlivedWAL(t *testing.T) {
	pool, v, _ := seeded(t, drift.IgnoreCredentials, openAI("a"))
	takeOver(t, pool, v)
	silence(t, pool, "a")
	mover{t, pool, v}.to("a", "https://2/")
	endSilences(t, pool)
	require.NoError(t, v.End(t.Context(), pubsub.SourceResync, verify.Begun{}))
	require.Equal(t, []string{"1 changed a silenced", "2 changed a repeats 1"}, silenced(t, pool))
}

// TestFollowSilences runs a verifier without a resync: what makes it repeat an alert is the end
// of the silence, by itself or by an operator.
func TestFollowSilences(t *testing.T) {
	t.Parallel()
	pool, v, metrics := seeded(t, drift.IgnoreCredentials, openAI("a"), openAI("b"))
	takeOver(t, pool, v)
	silence(t, pool, "a")
	silence(t, pool, "b")
	mover{t, pool, v}.to("a", "https://2/")
	mover{t, pool, v}.to("b", "https://2/")
	want := []string{"1 changed a silenced", "2 changed b silenced"}
	require.Equal(t, want, silenced(t, pool))
	exec(t, pool, `UPDATE provwatch.silences SET ends_at = now() + interval '1 second' WHERE provider = 'b'`)

	queue := verify.NewQueue()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { v.Run(ctx, queue, time.Second, host{}) })
	running.Go(func() { v.FollowSilences(ctx, queue) })
	defer running.Wait()
	defer cancel()
	expect := func(next string) {
		t.Helper()
		want = append(want, next)
		waittest.Until(t, func() bool { return len(silenced(t, pool)) == len(want) }, "%s", next)
		require.Equal(t, want, silenced(t, pool))
	}
	measured := func(names ...string) {
		t.Helper()
		waittest.Until(t, func() bool { return slices.Equal(slices.Sorted(maps.Keys(metrics.seenSilenced())), names) }, "%q are silenced", names)
	}
	expect("3 changed b repeats 2")
	measured("a")
	endSilences(t, pool)
	v.SilencesChanged()
	expect("4 changed a repeats 1")
	measured()
	// Alerts that went out before a silence begins are measured as silenced as well.
	silence(t, pool, "*")
	v.SilencesChanged()
	measured("a", "b")
}
