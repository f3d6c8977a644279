//go:build e2e

package verify_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

// TestRandomEncryption changes a provider at random: its row, what its secrets are
// encrypted with, the keys that workers have, who of them leads, and what is accepted.
// What is recorded must be what a comparison finds as far as there is one, and the alerts
// lead to what is recorded.
func TestRandomEncryption(t *testing.T) {
	t.Parallel()
	for n := range uint64(2) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := newRandomWorld(t, rand.New(rand.NewPCG(n, 1)))
			for step := range 250 {
				w.step(step)
			}
		})
	}
}

// randomWorld is a provider that changes at random, with two workers: one has the key
// that secrets are encrypted with, and the other has none.
type randomWorld struct {
	*testing.T
	random       *rand.Rand
	pool         *pgxpool.Pool
	key, foreign dbcrypttest.Key
	desired      provider.Desired
	rings        []*dbcrypt.Ring
	verifiers    []*verify.Verifier
	leader       int
}

func newRandomWorld(t *testing.T, random *rand.Rand) *randomWorld {
	pool, _ := pgtest.NewPool(t)
	w := &randomWorld{
		T: t, random: random, pool: pool, key: dbcrypttest.NewKey(), foreign: dbcrypttest.NewKey(),
		desired: provider.Desired{Name: "p", Type: provider.Anthropic, BaseURL: "https://h/", Keys: []secret.Text{secret.New("key-1")}, Variables: "X"},
	}
	dbcrypttest.Register(t, pool, w.key, w.foreign)
	w.rings = []*dbcrypt.Ring{dbcrypttest.NewRing(t, w.key), dbcrypttest.NewRing(t)}
	for _, ring := range w.rings {
		v := verify.New(pool, []provider.Desired{w.desired}, drift.AlertCredentials, quiet, &counter{})
		v.Decrypt(ring)
		w.verifiers = append(w.verifiers, v)
	}
	w.insert()
	return w
}

// step changes something, and requires that a verification records and alerts it.
func (w *randomWorld) step(step int) {
	if w.random.IntN(8) == 0 {
		w.leader = w.random.IntN(2)
		takeOver(w.T, w.pool, w.verifiers[w.leader])
	}
	did := w.change()
	if w.random.IntN(3) == 0 {
		w.commit()
	}
	if w.accept() {
		did += ", accepted"
	}
	before, alerted := w.recorded(), w.text(`SELECT count(*)::text FROM provwatch.drift_alerts`)
	accepted := w.acceptance()
	require.NoError(w, w.verifiers[w.leader].Verify(w.Context(), resync))
	now, o := w.recorded(), w.compare(w.leader)
	about := fmt.Sprintf("step %d, %s, leader %d: %s, unreadable %v %v, accepted %v; recorded before %v, now %v", step, did, w.leader, o.Kind, o.Unreadable, o.UnreadableCredentials, accepted, before, now)
	if o.Kind == drift.NotComparable {
		w.requireNotComparable(o, before, now, alerted, about)
	} else {
		w.requireRecorded(o, accepted, now, about)
	}
	if now == before {
		require.Equal(w, alerted, w.text(`SELECT count(*)::text FROM provwatch.drift_alerts`), about)
	}
	last := w.text(`SELECT coalesce((SELECT kind FROM provwatch.drift_alerts ORDER BY seq DESC LIMIT 1), 'resolved')`)
	if last == "resolved" {
		last = "in_sync"
	}
	require.Equal(w, now.Kind, last, about)
	require.Equal(w, "0", w.text(`SELECT count(*)::text FROM (SELECT kind, lag(kind) OVER (ORDER BY seq) AS former FROM provwatch.drift_alerts) a WHERE kind = 'resolved' AND coalesce(former, kind) = kind`), about)
}

// requireNotComparable requires that what is recorded of a row that cannot be compared
// stands, as far as it cannot.
func (w *randomWorld) requireNotComparable(o drift.Observation, before, now randomState, alerted, about string) {
	require.True(w, w.isListed(), about)
	if o.Unreadable != nil {
		require.Equal(w, before, now, about)
		require.Equal(w, alerted, w.text(`SELECT count(*)::text FROM provwatch.drift_alerts`), about)
		return
	}
	// All but the keys agrees.
	require.True(w, now.Kind == "in_sync" || now.Kind == "changed" && now.Credentials != "" && now.Credentials == before.Credentials, about)
}

// requireRecorded requires the record to equal what a comparison finds.
func (w *randomWorld) requireRecorded(o drift.Observation, accepted randomAcceptance, now randomState, about string) {
	want := string(o.Kind)
	if accepted.kind == want && (accepted.db == o.DBHash || o.Unreadable != nil) {
		want = "in_sync"
	}
	require.Equal(w, want, now.Kind, about)
	require.False(w, w.isListed(), about)
	require.Equal(w, o.EnvHash, now.EnvHash, about)
	if o.Unreadable == nil {
		require.Equal(w, o.DBHash, now.DBHash, about)
	}
	if o.UnreadableCredentials == nil && o.Unreadable == nil {
		require.Equal(w, o.Credentials, now.Credentials, about)
	}
}

// one draws one of some values.
func one[V any](w *randomWorld, of ...V) V { return of[w.random.IntN(len(of))] }

// encrypted encrypts a text with one of the keys, or leaves it unchanged.
func (w *randomWorld) encrypted(plain string) (stored, keyID any) {
	switch w.random.IntN(4) {
	case 0:
		return w.foreign.Encrypt(plain), w.foreign.Digest()
	case 1, 2:
		return w.key.Encrypt(plain), w.key.Digest()
	default:
		return plain, nil
	}
}

func (w *randomWorld) insert() {
	exec(w.T, w.pool, `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'anthropic', 'p', 'https://h/')`, uuid.New())
	exec(w.T, w.pool, `INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'key-1' FROM public.ai_providers`)
}

// change changes the provider in the database, and returns how.
func (w *randomWorld) change() (did string) {
	switch did = one(w, "base", "base", "settings", "settings", "settings", "enabled", "enabled", "deleted", "keys", "keys", "keys", "gone", "restore", "restore", "restore"); did {
	case "base":
		exec(w.T, w.pool, `UPDATE public.ai_providers SET base_url = $1`, one(w, "https://h/", "https://h/", "https://o/", "https://u:p@h/"))
	case "settings":
		stored, keyID := w.encrypted(one(w, `{"_type":"bedrock","_version":1,"region":"us-east-1"}`, `{}`, `null`, `no json`))
		exec(w.T, w.pool, `UPDATE public.ai_providers SET settings = $1, settings_key_id = $2`, stored, keyID)
	case "enabled":
		exec(w.T, w.pool, `UPDATE public.ai_providers SET enabled = NOT enabled`)
	case "deleted":
		exec(w.T, w.pool, `UPDATE public.ai_providers SET deleted = NOT deleted`)
	case "keys":
		stored, keyID := w.encrypted(one(w, "key-1", "key-1", "key-2"))
		exec(w.T, w.pool, `UPDATE public.ai_provider_keys SET api_key = $1, api_key_key_id = $2`, stored, keyID)
	case "gone":
		exec(w.T, w.pool, `DELETE FROM public.ai_providers`)
	case "restore":
		exec(w.T, w.pool, `DELETE FROM public.ai_providers`)
		w.insert()
	}
	return did
}

// commit records the provider as the WAL shows it to the leader, without API keys.
func (w *randomWorld) commit() {
	o := w.compare(w.leader).WithoutCredentials()
	require.NoError(w, pgx.BeginFunc(w.Context(), w.pool, func(tx pgx.Tx) error {
		_, err := w.verifiers[w.leader].Record(w.Context(), tx, []verify.Observed{{Observation: o, Commit: &pubsub.Commit{LSN: "0/10", XID: 7, CommittedAt: time.Now()}}}, pubsub.SourceWAL)
		return err
	}))
}

// accept accepts now and then how the provider drifts, where the worker with the key can
// compare it.
func (w *randomWorld) accept() bool {
	now := w.compare(0)
	if w.random.IntN(10) != 0 || now.Unreadable != nil || now.Kind == drift.InSync || now.Kind == drift.Missing || now.Kind == drift.NotComparable {
		return false
	}
	exec(w.T, w.pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by) VALUES ('p', $1, $2, $3, 'test')
		ON CONFLICT (provider) DO UPDATE SET kind = excluded.kind, env_hash = excluded.env_hash, db_hash = excluded.db_hash`, string(now.Kind), now.EnvHash, now.DBHash)
	return true
}

// compare compares the provider again, with the keys of a worker.
func (w *randomWorld) compare(worker int) drift.Observation {
	stored, err := store.On(w.pool).LoadStored(w.Context(), []string{w.desired.Name}, w.rings[worker], true)
	require.NoError(w, err)
	return drift.MakePlan([]provider.Desired{w.desired}, stored, drift.AlertCredentials).Steps[0].Observation
}

// randomState is what is recorded of the provider.
type randomState struct{ Kind, EnvHash, DBHash, Credentials string }

func (w *randomWorld) recorded() randomState {
	var s randomState
	err := w.pool.QueryRow(w.Context(), `SELECT kind, env_hash, db_hash, credentials FROM provwatch.drift_state`).Scan(&s.Kind, &s.EnvHash, &s.DBHash, &s.Credentials)
	if errors.Is(err, pgx.ErrNoRows) {
		return randomState{Kind: "in_sync"}
	}
	require.NoError(w, err)
	return s
}

// randomAcceptance is what is accepted of the provider, empty for nothing.
type randomAcceptance struct{ kind, db string }

func (w *randomWorld) acceptance() (accepted randomAcceptance) {
	err := w.pool.QueryRow(w.Context(), `SELECT kind, db_hash FROM provwatch.accepted_drift`).Scan(&accepted.kind, &accepted.db)
	if !errors.Is(err, pgx.ErrNoRows) {
		require.NoError(w, err)
	}
	return accepted
}

// isListed reports whether the provider is recorded as not comparable.
func (w *randomWorld) isListed() bool {
	return w.text(`SELECT count(*)::text FROM provwatch.not_comparable`) == "1"
}

func (w *randomWorld) text(query string) string { return value(w.T, w.pool, query) }
