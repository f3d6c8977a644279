package seed_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/drift"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
)

// rotated returns the Bedrock provider with another secret.
func rotated(d provider.Desired) provider.Desired {
	b := *d.Bedrock
	b.AccessKeySecret = secret.New("aws-secret-rotated")
	d.Bedrock = &b
	return d
}

func actions(plan drift.Plan) (list []drift.Action) {
	for _, step := range plan.Steps {
		list = append(list, step.Action)
	}
	return list
}

func TestMatchCredentials(t *testing.T) {
	t.Parallel()
	t.Run("RotatedFails", testMatchCredentialsRotatedFails)
	t.Run("AcceptanceDoesNotCover", testMatchCredentialsAcceptanceDoesNotCover)
	t.Run("Encrypted", testMatchCredentialsEncrypted)
}

// testMatchCredentialsRotatedFails checks that a rotated credential fails the seed, which
// writes nothing.
func testMatchCredentialsRotatedFails(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	gpt := openAI("gpt", "https://h/", "sk-first-0123456789abcdef", "sk-second-0123456789abcdef")
	gpt.CredentialsOrigin = "CODER_AIBRIDGE_PROVIDER_0_KEYS"
	desired := []provider.Desired{bedrockIn("aws", "us-east-1"), gpt}
	strict := seed.RequireCredentials()
	for _, action := range []drift.Action{drift.ActionInsert, drift.ActionUnchanged} {
		plan, err := seed.Seed(t.Context(), pool, desired, false, quiet, strict)
		require.NoError(t, err)
		require.Equal(t, []drift.Action{action, action}, actions(plan))
	}
	before := contents(t, pool)
	gpt.Keys = []secret.Text{gpt.Keys[1], gpt.Keys[0]}
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{gpt}, false, quiet, strict)
	require.NoError(t, err, "the order of keys does not matter")

	gpt.Keys = []secret.Text{gpt.Keys[0], secret.New("sk-third-0123456789abcdef")}
	other := []provider.Desired{rotated(desired[0]), gpt, openAI("new", "https://h/")}
	_, err = seed.Seed(t.Context(), pool, other, false, quiet, strict)
	require.EqualError(t, err, `AI provider "aws" already exists in the database and differs from the current environment configuration: `+
		`bedrock_credentials (environment "2 of 2 set", database "2 of 2 set, 1 of 2 differ"); `+
		`with --compat=upstream-credentials credentials must agree as well: either set those of the database in the environment (none is set in the variables CODER_AIBRIDGE_PROVIDER_1_*), `+
		`or write the environment's to the database with "worker resolve aws --take env --with-keys", or drop --compat=upstream-credentials
AI provider "gpt" already exists in the database and differs from the current environment configuration: `+
		`api_keys (environment "2, of these 1 not in the database", database "2, of these 1 not in the environment"); `+
		`with --compat=upstream-credentials credentials must agree as well: either set those of the database in the environment (CODER_AIBRIDGE_PROVIDER_0_KEYS), `+
		`or write the environment's to the database with "worker resolve gpt --take env --with-keys", or drop --compat=upstream-credentials
or start all the same, seeding what is missing and alerting what differs: "worker run --on-boot-drift=alert"`)
	var drifted *seed.DriftError
	require.ErrorAs(t, err, &drifted)
	require.True(t, drifted.Comparable())
	require.Equal(t, before, contents(t, pool))
	// The published hash is the same with and without.
	require.Equal(t, gpt.Canonical().Hash(), drifted.Steps[1].Observation.EnvHash)
	require.Equal(t, gpt.Canonical().Hash(), drifted.Steps[1].Observation.DBHash)

	// It is asked for, or it does not matter.
	plan, err := seed.Seed(t.Context(), pool, other, false, quiet)
	require.NoError(t, err)
	require.Equal(t, []drift.Action{drift.ActionUnchanged, drift.ActionUnchanged, drift.ActionInsert}, actions(plan))
	// A disabled row is compared all the same, and a deleted one stays deleted.
	_, err = pool.Exec(t.Context(), `UPDATE public.ai_providers SET enabled = false, deleted = (name = 'aws')`)
	require.NoError(t, err)
	plan, err = seed.DryRun(t.Context(), pool, other, strict)
	require.NoError(t, err)
	require.Equal(t, []drift.Action{drift.ActionStickyDeleted, drift.ActionDrifted, drift.ActionUnchanged}, actions(plan))
}

// testMatchCredentialsAcceptanceDoesNotCover checks that an accepted drift never covers
// credentials that must agree.
func testMatchCredentialsAcceptanceDoesNotCover(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	_, err := seed.Seed(t.Context(), pool, []provider.Desired{openAI("gpt", "https://h/", "k")}, false, quiet)
	require.NoError(t, err)
	desired := openAI("gpt", "https://env/", "k")
	_, err = pool.Exec(t.Context(), `INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by)
		VALUES ('gpt', 'changed', $1, $2, 'test')`, desired.Canonical().Hash(), openAI("gpt", "https://h/").Canonical().Hash())
	require.NoError(t, err)
	step := func(d provider.Desired, options ...seed.Option) drift.Step {
		plan, err := seed.DryRun(t.Context(), pool, []provider.Desired{d}, options...)
		require.NoError(t, err)
		return plan.Steps[0]
	}
	agreeing := step(desired, seed.RequireCredentials())
	require.Equal(t, drift.ActionAccepted, agreeing.Action)
	require.True(t, agreeing.IsAccepted())
	desired.Keys = []secret.Text{secret.New("rotated")}
	require.Equal(t, drift.ActionAccepted, step(desired).Action)
	differing := step(desired, seed.RequireCredentials())
	require.Equal(t, drift.ActionDrifted, differing.Action)
	require.ErrorContains(t, differing.CredentialsProblem(), "its credentials differ: ")
	require.False(t, differing.IsAccepted())
}

// testMatchCredentialsEncrypted checks that encrypted credentials are compared in plain
// text, and never taken for equal without.
func testMatchCredentialsEncrypted(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	key, other := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	dbcrypttest.Register(t, pool, key, other)
	keys, others := dbcrypttest.NewRing(t, key), dbcrypttest.NewRing(t, other)
	desired := []provider.Desired{bedrockIn("aws", "us-east-1"), openAI("gpt", "https://h/", "k", "l"), openAI("plain", "https://h/")}
	_, err := seed.Seed(t.Context(), pool, desired, false, quiet, seed.WithKeys(keys))
	require.NoError(t, err)
	plan := func(d []provider.Desired, k *dbcrypt.Ring) drift.Plan {
		plan, err := seed.DryRun(t.Context(), pool, d, seed.RequireCredentials(), seed.WithKeys(k))
		require.NoError(t, err)
		return plan
	}
	require.Equal(t, []drift.Action{drift.ActionUnchanged, drift.ActionUnchanged, drift.ActionUnchanged}, actions(plan(desired, keys)))
	changed := []provider.Desired{rotated(desired[0]), openAI("gpt", "https://h/", "k", "m")}
	require.Equal(t, []drift.Action{drift.ActionDrifted, drift.ActionDrifted}, actions(plan(changed, keys)))

	missing := plan(desired, others)
	require.Equal(t, []drift.Action{drift.ActionNotComparable, drift.ActionNotComparable, drift.ActionUnchanged}, actions(missing))
	require.ErrorContains(t, missing.Steps[1].CredentialsProblem(), "its credentials cannot be compared: ")
	err = seed.DriftOf(missing)
	var drifted *seed.DriftError
	require.ErrorAs(t, err, &drifted)
	require.False(t, drifted.Comparable(), "exit code 1")
	require.ErrorContains(t, err, `AI provider "gpt" already exists in the database, and its credentials cannot be compared with the environment's: `+
		`encrypted with key `+key.Digest()+`, which is not in CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS`)
	// A drift beside it is not kept back.
	require.ErrorContains(t, seed.DriftOf(plan([]provider.Desired{openAI("gpt", "https://env/", "k", "l")}, others)),
		`it differs in base_url (environment "https://env/", database "https://h/")`)
	// Without the need to agree it is none of the seed's business.
	lenient, err := seed.DryRun(t.Context(), pool, desired[1:2], seed.WithKeys(others))
	require.NoError(t, err)
	require.Equal(t, drift.ActionUnchanged, lenient.Steps[0].Action)
}
