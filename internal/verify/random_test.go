package verify_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/verify"
)

// TestWhateverIsEncryptedAlertsFollowWhatCanBeCompared changes a provider at random:
// its row, what its secrets are encrypted with, the keys that workers have, who of them
// leads, and what is accepted. What is recorded must be what a comparison finds as far as
// there is one, and the alerts lead to what is recorded.
func TestWhateverIsEncryptedAlertsFollowWhatCanBeCompared(t *testing.T) {
	t.Parallel()
	for n := range uint64(2) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			changeAtRandom(t, rand.New(rand.NewPCG(n, 1)))
		})
	}
}

func changeAtRandom(t *testing.T, r *rand.Rand) {
	pool, _ := pgtest.NewPool(t)
	key, foreign := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key, foreign)
	desired := provider.Desired{Name: "p", Type: provider.Anthropic, BaseURL: "https://h/", Keys: []secret.Text{secret.New("key-1")}, Variables: "X"}
	rings := []*dbcrypt.Ring{dbcrypttest.NewRing(t, key), dbcrypttest.NewRing(t)}
	var verifiers []*verify.Verifier
	for _, ring := range rings {
		v := verify.New(pool, []provider.Desired{desired}, drift.AlertCredentials, quiet, &counter{})
		v.Decrypt(ring)
		verifiers = append(verifiers, v)
	}
	leader := 0
	one := func(of ...any) any { return of[r.IntN(len(of))] }
	with := func(plain string) (stored, keyID any) {
		switch r.IntN(4) {
		case 0:
			return foreign.Encrypt(plain), foreign.Digest()
		case 1, 2:
			return key.Encrypt(plain), key.Digest()
		default:
			return plain, nil
		}
	}
	insert := func() {
		exec(t, pool, `INSERT INTO public.ai_providers (id, type, name, base_url) VALUES ($1, 'anthropic', 'p', 'https://h/')`, uuid.New())
		exec(t, pool, `INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'key-1' FROM public.ai_providers`)
	}
	insert()
	var did string
	change := func() {
		switch did = one("base", "base", "settings", "settings", "settings", "enabled", "enabled", "deleted", "keys", "keys", "keys", "gone", "restore", "restore", "restore").(string); did {
		case "base":
			exec(t, pool, `UPDATE public.ai_providers SET base_url = $1`, one("https://h/", "https://h/", "https://o/", "https://u:p@h/"))
		case "settings":
			stored, keyID := with(one(`{"_type":"bedrock","_version":1,"region":"us-east-1"}`, `{}`, `null`, `no json`).(string))
			exec(t, pool, `UPDATE public.ai_providers SET settings = $1, settings_key_id = $2`, stored, keyID)
		case "enabled":
			exec(t, pool, `UPDATE public.ai_providers SET enabled = NOT enabled`)
		case "deleted":
			exec(t, pool, `UPDATE public.ai_providers SET deleted = NOT deleted`)
		case "keys":
			stored, keyID := with(one("key-1", "key-1", "key-2").(string))
			exec(t, pool, `UPDATE public.ai_provider_keys SET api_key = $1, api_key_key_id = $2`, stored, keyID)
		case "gone":
			exec(t, pool, `DELETE FROM public.ai_providers`)
		case "restore":
			exec(t, pool, `DELETE FROM public.ai_providers`)
			insert()
		}
	}
	fresh := func(ring *dbcrypt.Ring) drift.Observation {
		plan, err := seed.MakePlan(t.Context(), pool, []provider.Desired{desired}, true, seed.WithKeys(ring))
		require.NoError(t, err)
		return plan.Steps[0].Observation
	}
	type state struct{ Kind, EnvHash, DBHash, Credentials string }
	recorded := func() state {
		var s state
		err := pool.QueryRow(t.Context(), `SELECT kind, env_hash, db_hash, credentials FROM provwatch.drift_state`).Scan(&s.Kind, &s.EnvHash, &s.DBHash, &s.Credentials)
		if errors.Is(err, pgx.ErrNoRows) {
			return state{Kind: "in_sync"}
		}
		require.NoError(t, err)
		return s
	}
	text := func(query string) (text string) {
		require.NoError(t, pool.QueryRow(t.Context(), query).Scan(&text))
		return text
	}
	// As the WAL shows it, without API keys.
	commit := func(v *verify.Verifier, ring *dbcrypt.Ring) {
		o := fresh(ring).WithoutCredentials()
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := v.Record(t.Context(), tx, []verify.Observed{{Observation: o, Commit: &pubsub.Commit{LSN: "0/10", XID: 7, CommittedAt: time.Unix(1, 0)}}}, pubsub.SourceWAL)
			return err
		}))
	}
	for step := range 250 {
		if r.IntN(8) == 0 {
			leader = r.IntN(2)
			takeOver(t, pool, verifiers[leader])
		}
		v, ring := verifiers[leader], rings[leader]
		change()
		if r.IntN(3) == 0 {
			commit(v, ring)
		}
		if now := fresh(rings[0]); r.IntN(10) == 0 && now.Unreadable == nil && now.Kind != drift.InSync && now.Kind != drift.Missing && now.Kind != drift.NotComparable {
			did += ", accepted"
			exec(t, pool, `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by) VALUES ('p', $1, $2, $3, 'test')
				ON CONFLICT (provider) DO UPDATE SET kind = excluded.kind, env_hash = excluded.env_hash, db_hash = excluded.db_hash`, string(now.Kind), now.EnvHash, now.DBHash)
		}
		before, alerted := recorded(), text(`SELECT count(*)::text FROM provwatch.drift_alerts`)
		var accepted struct{ kind, db string }
		if err := pool.QueryRow(t.Context(), `SELECT kind, db_hash FROM provwatch.accepted_drift`).Scan(&accepted.kind, &accepted.db); !errors.Is(err, pgx.ErrNoRows) {
			require.NoError(t, err)
		}
		require.NoError(t, v.Verify(t.Context(), resync))
		now, o := recorded(), fresh(ring)
		about := fmt.Sprintf("step %d, %s, leader %d: %s, unreadable %v %v, accepted %v; recorded before %v, now %v", step, did, leader, o.Kind, o.Unreadable, o.UnreadableCredentials, accepted, before, now)
		want := string(o.Kind)
		if accepted.kind == want && (accepted.db == o.DBHash || o.Unreadable != nil) {
			want = "in_sync"
		}
		listed := text(`SELECT count(*)::text FROM provwatch.not_comparable`) == "1"
		switch {
		case o.Kind == drift.NotComparable && o.Unreadable != nil:
			require.Equal(t, before, now, about)
			require.Equal(t, alerted, text(`SELECT count(*)::text FROM provwatch.drift_alerts`), about)
			require.True(t, listed, about)
		case o.Kind == drift.NotComparable:
			// All but the keys agrees.
			require.True(t, now.Kind == "in_sync" || now.Kind == "changed" && now.Credentials != "" && now.Credentials == before.Credentials, about)
			require.True(t, listed, about)
		default:
			require.Equal(t, want, now.Kind, about)
			require.False(t, listed, about)
			require.Equal(t, o.EnvHash, now.EnvHash, about)
			if o.Unreadable == nil {
				require.Equal(t, o.DBHash, now.DBHash, about)
			}
			if o.UnreadableCredentials == nil && o.Unreadable == nil {
				require.Equal(t, o.Credentials, now.Credentials, about)
			}
		}
		if now == before {
			require.Equal(t, alerted, text(`SELECT count(*)::text FROM provwatch.drift_alerts`), about)
		}
		last := text(`SELECT coalesce((SELECT kind FROM provwatch.drift_alerts ORDER BY seq DESC LIMIT 1), 'resolved')`)
		if last == "resolved" {
			last = "in_sync"
		}
		require.Equal(t, now.Kind, last, about)
		require.Equal(t, "0", text(`SELECT count(*)::text FROM (SELECT kind, lag(kind) OVER (ORDER BY seq) AS former FROM provwatch.drift_alerts) a WHERE kind = 'resolved' AND coalesce(former, kind) = kind`), about)
	}
}
