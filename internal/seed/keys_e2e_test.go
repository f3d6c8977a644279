//go:build e2e

package seed_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/seed"
)

// TestInactiveKeys seeds into databases in which no configured key is active, and into one
// that encrypts without a key being configured.
func TestInactiveKeys(t *testing.T) {
	t.Parallel()
	key, other := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	plainSettings := bedrockIn("aws", "us-east-1").WithoutCredentials()
	for name, c := range map[string]struct {
		configured []dbcrypttest.Key
		prepare    string
		active     []dbcrypttest.Key
		desired    provider.Desired
		problem    string // empty: it is seeded in plain text
	}{
		"no key, and none active":               {desired: openAI("gpt", "https://h/", "sk-1")},
		"a key, and none active":                {configured: []dbcrypttest.Key{key}, desired: openAI("gpt", "https://h/"), problem: "none of the configured keys (" + key.Digest()},
		"a key, and another active":             {configured: []dbcrypttest.Key{key}, active: []dbcrypttest.Key{other}, desired: openAI("gpt", "https://h/"), problem: other.Digest() + " (active)"},
		"a key, and no table":                   {configured: []dbcrypttest.Key{key}, prepare: `DROP TABLE public.dbcrypt_keys CASCADE`, desired: openAI("gpt", "https://h/"), problem: "have no table dbcrypt_keys"},
		"no key, and no table":                  {prepare: `DROP TABLE public.dbcrypt_keys CASCADE`, desired: openAI("gpt", "https://h/", "sk-1")},
		"a view in place of the table":          {prepare: `DROP TABLE public.dbcrypt_keys CASCADE; CREATE VIEW public.dbcrypt_keys AS SELECT 1`, desired: openAI("gpt", "https://h/"), problem: "dbcrypt_keys is not an ordinary table"},
		"a table of a stranger":                 {prepare: `CREATE ROLE seed_stranger; ALTER TABLE public.dbcrypt_keys OWNER TO seed_stranger`, desired: openAI("gpt", "https://h/"), problem: `belongs to the role "seed_stranger"`},
		"no key, one active, an API key":        {active: []dbcrypttest.Key{other}, desired: openAI("gpt", "https://h/", "sk-1"), problem: `an API key of provider "gpt" cannot be stored: it is a secret, and the gateway encrypts secrets (key ` + other.Digest()},
		"no key, one active, credentials":       {active: []dbcrypttest.Key{other}, desired: bedrockIn("aws", "us-east-1"), problem: `the settings of provider "aws" cannot be stored: it is a secret`},
		"no key, one active, no secret":         {active: []dbcrypttest.Key{other}, desired: openAI("gpt", "https://h/")},
		"no key, one active, a region":          {active: []dbcrypttest.Key{other}, desired: plainSettings},
		"secrets of a former keyset":            {prepare: `INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES (1, '1234567', ''); INSERT INTO public.ai_providers (id, type, name, base_url, settings, settings_key_id) VALUES (gen_random_uuid(), 'anthropic', 'old', '', 'AQAS1ocAAAAA', '1234567')`, desired: openAI("gpt", "https://h/"), problem: `stored secrets of provider "old" are encrypted with key 1234567 of the --keyset of a former version: decrypt`},
		"a digest of digits is not of a former": {prepare: `INSERT INTO public.dbcrypt_keys (number, revoked_key_digest, test) VALUES (1, '7654321', ''); UPDATE public.dbcrypt_keys SET active_key_digest = '1234567'; INSERT INTO public.ai_providers (id, type, name, base_url, settings, settings_key_id) VALUES (gen_random_uuid(), 'openai', 'new', '', 'yMnKy8zN', '1234567')`, desired: openAI("gpt", "https://h/")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, _ := pgtest.NewPool(t)
			if c.prepare != "" {
				_, err := pool.Exec(t.Context(), c.prepare)
				require.NoError(t, err)
			}
			dbcrypttest.Register(t, pool, c.active...)
			before := contents(t, pool)
			_, err := seed.Seed(t.Context(), pool, []provider.Desired{c.desired}, false, quiet, seed.WithKeys(dbcrypttest.NewRing(t, c.configured...)))
			if c.problem != "" {
				require.ErrorContains(t, err, c.problem)
				require.Equal(t, before, contents(t, pool))
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{c.desired.Name}, lines(t, pool, `SELECT name FROM public.ai_providers WHERE name IN ('gpt', 'aws') AND settings_key_id IS NULL`))
			require.Empty(t, lines(t, pool, `SELECT api_key FROM public.ai_provider_keys WHERE api_key_key_id IS NOT NULL`))
		})
	}
}
