package reconcile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/reconcile"
	"provwatch/internal/secret"
)

// TestTakeEnv resolves arbitrary rows with arbitrary environments.
func TestTakeEnv(t *testing.T) {
	t.Parallel()
	t.Run("WritesWhatDiffersAndNothingElse", func(t *testing.T) {
		t.Parallel()
		pool := newGateway(t)
		n := 0
		rapid.Check(t, func(t *rapid.T) {
			n++
			resolveArbitrary(t, pool, nil, dbcrypt.NewRing(dbcrypt.Keys{}), fmt.Sprintf("p%d", n))
		})
	})
	t.Run("EncryptsWhatItWrites", func(t *testing.T) {
		t.Parallel()
		pool := newGateway(t)
		key := dbcrypttest.NewKey()
		dbcrypttest.Register(t, pool, key)
		keys := dbcrypttest.NewRing(t, key)
		n := 0
		rapid.Check(t, func(t *rapid.T) {
			n++
			resolveArbitrary(t, pool, &key, keys, fmt.Sprintf("p%d", n))
		})
	})
}

// subject is a row with arbitrary content, and the environment that it is resolved with.
type subject struct {
	*rapid.T
	pool *pgxpool.Pool
	key  *dbcrypttest.Key // encrypts the secrets of the row, nil for none
	keys *dbcrypt.Ring

	id       uuid.UUID
	rowType  provider.Type
	settings string // in plain text
	foreign  bool   // settings of another kind

	desired  provider.Desired
	withKeys bool
}

func (s *subject) seal(plain string) (stored string, keyID *string) {
	if s.key == nil || plain == "" {
		return plain, nil
	}
	digest := s.key.Digest()
	return s.key.Encrypt(plain), &digest
}

// drawSubject draws the row, with its keys, and inserts it.
func drawSubject(t *rapid.T, pool *pgxpool.Pool, key *dbcrypttest.Key, keys *dbcrypt.Ring, name string) *subject {
	s := &subject{T: t, pool: pool, key: key, keys: keys, id: uuid.New()}
	s.rowType = rapid.SampledFrom([]provider.Type{provider.Anthropic, provider.Anthropic, provider.AmazonBedrock, provider.OpenAI, provider.OpenAICompat}).Draw(t, "row type")
	s.settings = drawSettings(t)
	s.foreign = !s.rowType.HashNeedsSettings() && rapid.Bool().Draw(t, "settings of another kind")
	if s.foreign {
		s.settings = rapid.SampledFrom([]string{`{"_type":"upstream-headers","headers":{"x": "stored"}}`, `{"_version":7}`, "no JSON"}).Draw(t, "foreign settings")
	}
	stored, keyID := s.seal(s.settings)
	var settings *string
	if stored != "" {
		settings = &stored
	}
	s.exec(`INSERT INTO public.ai_providers (id, type, name, base_url, enabled, deleted, settings, settings_key_id, display_name, icon, extra, created_at, updated_at)
		VALUES ($1, $2::text::public.ai_provider_type, $3, $4, $5, $6, $7, $8, 'Shown', '/icon.svg', '{"a": 1.0}', '2020-01-01', '2020-01-02')`,
		s.id, string(s.rowType), name,
		rapid.SampledFrom([]string{"", "https://h/"}).Draw(t, "row base URL"), rapid.Bool().Draw(t, "enabled"),
		rapid.Bool().Draw(t, "deleted"), settings, keyID)
	for _, plain := range rapid.SliceOfN(rapid.SampledFrom([]string{"k1", "k2", "k4"}), 0, 3).Draw(t, "stored keys") {
		stored, keyID := s.seal(plain)
		s.exec(`INSERT INTO public.ai_provider_keys (id, provider_id, api_key, api_key_key_id, note, created_at, updated_at)
			VALUES ($1, $2, $3, $4, 'theirs', '2020-01-01', '2020-01-02')`, uuid.New(), s.id, stored, keyID)
	}
	s.desired = drawDesired(t, name)
	s.withKeys = rapid.Bool().Draw(t, "with keys")
	return s
}

func (s *subject) exec(query string, args ...any) {
	_, err := s.pool.Exec(context.Background(), query, args...)
	require.NoError(s, err)
}

func (s *subject) resolve(dryRun bool) (reconcile.Outcome, error) {
	return resolveOne(context.Background(), s.pool, s.keys, s.desired,
		reconcile.Request{Side: reconcile.Environment, WithKeys: s.withKeys, Credentials: drift.IgnoreCredentials, DryRun: dryRun})
}

// row returns the columns of the provider's row.
func (s *subject) row() (columns map[string]any) {
	var text string
	require.NoError(s, s.pool.QueryRow(context.Background(), `SELECT to_jsonb(p)::text FROM public.ai_providers p WHERE id = $1`, s.id).Scan(&text))
	require.NoError(s, json.Unmarshal([]byte(text), &columns))
	return columns
}

func (s *subject) plainSettings() string {
	var stored, keyID *string
	require.NoError(s, s.pool.QueryRow(context.Background(), `SELECT settings, settings_key_id FROM public.ai_providers WHERE id = $1`, s.id).Scan(&stored, &keyID))
	if stored == nil {
		return ""
	}
	if keyID == nil {
		return *stored
	}
	text, err := s.key.Decrypt(*stored)
	require.NoError(s, err)
	return text
}

func (s *subject) keyRows() []string {
	return list(s, s.pool, `SELECT to_jsonb(k)::text FROM public.ai_provider_keys k WHERE provider_id = $1 ORDER BY id`, s.id)
}

// everything returns the provider's row, its key rows and its audit entries.
func (s *subject) everything() []string {
	return append(append(list(s, s.pool, `SELECT to_jsonb(p)::text FROM public.ai_providers p WHERE id = $1`, s.id), s.keyRows()...),
		list(s, s.pool, `SELECT to_jsonb(o)::text FROM provwatch.audit_outbox o WHERE provider = $1 ORDER BY seq`, s.desired.Name)...)
}

// written returns what was written since the last call.
func (s *subject) written() []string {
	what := list(s, s.pool, `WITH gone AS (DELETE FROM public.written RETURNING what) SELECT what FROM gone ORDER BY what`)
	return slices.Compact(what)
}

// resolveArbitrary resolves a row whose secrets are encrypted with the key, nil for none.
func resolveArbitrary(t *rapid.T, pool *pgxpool.Pool, key *dbcrypttest.Key, keys *dbcrypt.Ring, name string) {
	s := drawSubject(t, pool, key, keys, name)
	s.written()
	all, before, keysBefore := s.everything(), s.row(), s.keyRows()

	foretold, refusal := s.resolve(true)
	require.Equal(t, all, s.everything(), "a dry run writes nothing")
	outcome, err := s.resolve(false)
	require.Equal(t, refusal, err)
	require.Equal(t, foretold, outcome)
	if err != nil {
		s.checkRefusal(err)
		require.Equal(t, all, s.everything(), "all or nothing")
		s.written()
		return
	}

	names := s.written()
	s.checkColumns(before, names)
	s.checkKeyRows(keysBefore)
	s.checkSettings(before)

	// Both sides agree now, and there is nothing left to write.
	var now provider.Row
	var kind string
	require.NoError(t, pool.QueryRow(context.Background(), `SELECT type::text, base_url, enabled, deleted FROM public.ai_providers WHERE id = $1`, s.id).
		Scan(&kind, &now.BaseURL, &now.Enabled, &now.Deleted))
	now.Type, now.Settings = provider.Type(kind), secret.New(s.plainSettings())
	require.True(t, drift.IsInSync(s.desired, &now), "%s", s.plainSettings())
	all = s.everything()
	again, err := s.resolve(false)
	require.NoError(t, err)
	require.Equal(t, drift.InSync, again.Kind)
	require.Equal(t, all, s.everything())
	require.Empty(t, s.written())
	require.Equal(t, outcome.Kind == drift.InSync, len(outcome.Fields) == 0)
	require.Equal(t, outcome.Kind == drift.InSync, len(names) == 0)
}

// checkRefusal checks the error of a resolution that would lose something.
func (s *subject) checkRefusal(err error) {
	require.Regexp(s, `would be removed|would remove|would be lost|would stay`, err.Error())
	if strings.Contains(err.Error(), "would be lost") {
		require.True(s, s.foreign && s.desired.Type.HashNeedsSettings(), "%v", err)
		return
	}
	require.NotRegexp(s, `k[124]|arn:aws|us-east-1|eu-west-1|AKIA|secret-env`, strings.ReplaceAll(err.Error(), s.desired.Name, ""))
	require.True(s, s.withKeys || s.desired.Bedrock == nil || strings.Contains(err.Error(), "would stay"), "credentials are written only with keys")
}

// checkColumns checks that each column that was written has changed.
func (s *subject) checkColumns(before map[string]any, names []string) {
	var changed []string
	for column, value := range s.row() {
		if !jsonEqual(s, value, before[column]) {
			changed = append(changed, "ai_providers."+column)
		}
	}
	require.ElementsMatch(s, changed, slices.DeleteFunc(slices.Clone(names), func(what string) bool { return what == "key" }), "each column that is named changes")
	for _, column := range []string{"name", "display_name", "icon", "extra", "created_at"} {
		require.NotContains(s, names, "ai_providers."+column)
	}
}

// checkKeyRows checks that a key row that holds a key of the environment stays.
func (s *subject) checkKeyRows(before []string) {
	if !s.withKeys {
		require.Equal(s, before, s.keyRows())
	}
	inEnv := map[string]bool{}
	for _, key := range s.desired.Keys {
		inEnv[key.Reveal()] = true
	}
	for _, keyRow := range before {
		var k struct {
			ID     uuid.UUID `json:"id"`
			APIKey string    `json:"api_key"`
			KeyID  *string   `json:"api_key_key_id"`
		}
		require.NoError(s, json.Unmarshal([]byte(keyRow), &k))
		opened := provider.Row{Keys: []provider.StoredKey{{ID: k.ID, Key: secret.New(k.APIKey)}}}
		if k.KeyID != nil {
			opened.Keys[0].KeyID = *k.KeyID
		}
		s.keys.OpenRow(&opened, true)
		require.Equal(s, !s.withKeys || inEnv[opened.Keys[0].Key.Reveal()], slices.Contains(s.keyRows(), keyRow), "a key row that is equal stays")
	}
}

// checkSettings checks that members of the settings that provwatch does not write stay.
func (s *subject) checkSettings(before map[string]any) {
	after := s.row()
	if !s.rowType.HashNeedsSettings() && !s.desired.Type.HashNeedsSettings() {
		require.Equal(s, before["settings"], after["settings"], "no resolution needs them")
	}
	if s.foreign {
		require.Equal(s, s.settings, s.plainSettings())
		return
	}
	_, othersBefore := membersOf(s, s.pool, s.settings)
	_, othersAfter := membersOf(s, s.pool, s.plainSettings())
	switch {
	case after["settings"] == nil: // removed, or never there
		for _, m := range othersBefore {
			require.Contains(s, []string{"_type", "_version", "model", "small_fast_model"}, strings.ToLower(m.name))
		}
	case len(othersBefore) == 0 && len(othersAfter) > 0: // made
		require.Equal(s, []member{{"_type", `"bedrock"`}, {"_version", "1"}, {"model", `"m"`}, {"small_fast_model", `"s"`}}, othersAfter)
	default:
		require.Equal(s, othersBefore, othersAfter, "in their order, byte for byte, models too")
	}
}
