package dbcrypt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/remedy"
	"provwatch/internal/secret"
)

func TestSealer(t *testing.T) {
	first, second, other := dbcrypttest.NewKey(), dbcrypttest.VectorKey(), dbcrypttest.NewKey()
	active := func(number int32, key dbcrypttest.Key) dbcrypt.Registered {
		return dbcrypt.Registered{Number: number, Active: key.Digest(), Test: key.Encrypt("coder")}
	}
	revoked := func(number int32, key dbcrypttest.Key) dbcrypt.Registered {
		return dbcrypt.Registered{Number: number, Revoked: key.Digest(), Test: key.Encrypt("coder")}
	}
	both := []dbcrypttest.Key{first, second}
	for name, c := range map[string]struct {
		keys    []dbcrypttest.Key
		table   dbcrypt.Table
		encrypt *dbcrypttest.Key
		plain   bool
		needs   string // the active digest of a [dbcrypt.NeedsKeyError]
		problem []string
		remedy  []remedy.Remedy // the commands in the problem
	}{
		"no key and no table":                  {plain: true},
		"no key and an empty table":            {table: dbcrypt.Table{Exists: true}, plain: true},
		"no key and a revoked one":             {table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{revoked(1, other)}}, plain: true},
		"no key and an active one":             {table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{revoked(1, other), active(2, second)}}, needs: second.Digest()},
		"the first is active":                  {keys: both, table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{active(1, second), active(2, first)}}, encrypt: &first},
		"the second alone is active":           {keys: both, table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{active(1, second)}}, encrypt: &second},
		"the first is revoked":                 {keys: both, table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{revoked(1, first), active(2, second)}}, encrypt: &second},
		"active and revoked at once":           {keys: both, table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{{Number: 1, Active: first.Digest(), Revoked: first.Digest(), Test: first.Encrypt("coder")}, active(2, second)}}, encrypt: &second},
		"none is active":                       {keys: both, table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{active(1, other)}}, problem: []string{"none of the configured keys", other.Digest() + " (active)", "start the gateway"}},
		"all are revoked":                      {keys: both, table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{revoked(1, first), revoked(2, second)}}, problem: []string{first.Digest() + " (revoked)", "or remove it where the gateway no longer encrypts"}},
		"an empty table of the gateway":        {keys: both, table: dbcrypt.Table{Exists: true}, problem: []string{"which has no key"}},
		"no table":                             {keys: both, problem: []string{"have no table dbcrypt_keys"}},
		"a test that is of another key":        {keys: both, table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{{Number: 1, Active: first.Digest(), Test: other.Encrypt("coder")}}}, problem: []string{"its column test does not decrypt"}},
		"a test of another word":               {keys: both, table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{{Number: 1, Active: first.Digest(), Test: first.Encrypt("codex")}}}, problem: []string{"its column test does not decrypt"}},
		"the vector's word, with the test":     {keys: []dbcrypttest.Key{second}, table: dbcrypt.Table{Exists: true, Rows: []dbcrypt.Registered{{Number: 1, Active: vectorDigest, Test: vectorTest}}}, encrypt: &second},
		"none is active in a table of our own": {keys: both, table: dbcrypt.Table{Exists: true, Own: true}, problem: []string{`register the first one with "worker migrate" as the owner`}, remedy: []remedy.Remedy{remedy.Run("migrate")}},
	} {
		t.Run(name, func(t *testing.T) {
			var keys dbcrypt.Keys
			if len(c.keys) > 0 {
				keys = parse(t, c.keys...)
			}
			sealer, err := dbcrypt.NewRing(keys).Sealer(c.table)
			if c.problem != nil {
				var unusable *dbcrypt.UnusableError
				require.ErrorAs(t, err, &unusable)
				for _, part := range c.problem {
					require.ErrorContains(t, err, part)
				}
				require.Equal(t, c.remedy, remedy.Of(err))
				return
			}
			require.NoError(t, err)
			stored, keyID, err := sealer.Seal(secret.New("made-up"))
			settings, settingsKeyID, settingsErr := sealer.SealSettings(secret.New(`{"region":"r"}`), false)
			require.NoError(t, settingsErr)
			switch {
			case c.needs != "":
				var needs *dbcrypt.NeedsKeyError
				require.ErrorAs(t, err, &needs)
				require.Equal(t, c.needs, needs.Active)
				require.ErrorContains(t, err, "set CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS")
				_, _, err = sealer.SealSettings(secret.New("made-up"), true)
				require.ErrorAs(t, err, &needs)
				require.Equal(t, []string{`{"region":"r"}`, ""}, []string{settings, settingsKeyID}, "settings without credentials are no secret")
			case c.plain:
				require.NoError(t, err)
				require.Equal(t, []string{"made-up", "", ""}, []string{stored, keyID, settingsKeyID})
			default:
				require.NoError(t, err)
				require.Equal(t, []string{c.encrypt.Digest(), c.encrypt.Digest()}, []string{keyID, settingsKeyID})
				plain, err := c.encrypt.Decrypt(stored)
				require.NoError(t, err)
				require.Equal(t, "made-up", plain)
				plain, err = c.encrypt.Decrypt(settings)
				require.NoError(t, err)
				require.Equal(t, `{"region":"r"}`, plain)
				again, _, err := sealer.Seal(secret.New("made-up"))
				require.NoError(t, err)
				require.NotEqual(t, stored, again, "each has a nonce of its own")
			}
			none, keyID, err := sealer.Seal(secret.Text{})
			require.NoError(t, err)
			require.Empty(t, none+keyID, "an absent secret stays absent")
		})
	}
}

func TestRegistration(t *testing.T) {
	key, other := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	ring := dbcrypt.NewRing(parse(t, key, other))
	for name, c := range map[string]struct {
		table  dbcrypt.Table
		number int32 // 0 for no registration
	}{
		"an empty table":       {dbcrypt.Table{Exists: true, Own: true}, 1},
		"after others":         {dbcrypt.Table{Exists: true, Own: true, Rows: []dbcrypt.Registered{{Number: 7, Active: other.Digest()}, {Number: 3, Revoked: "a1b2c3d"}}}, 8},
		"registered":           {dbcrypt.Table{Exists: true, Own: true, Rows: []dbcrypt.Registered{{Number: 7, Active: key.Digest()}}}, 0},
		"revoked":              {dbcrypt.Table{Exists: true, Own: true, Rows: []dbcrypt.Registered{{Number: 7, Revoked: key.Digest()}}}, 0},
		"the gateway's tables": {dbcrypt.Table{Exists: true}, 0},
		"no table":             {dbcrypt.Table{Own: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			row, err := ring.Registration(c.table)
			require.NoError(t, err)
			if c.number == 0 {
				require.Nil(t, row)
				return
			}
			require.Equal(t, []any{c.number, key.Digest(), ""}, []any{row.Number, row.Active, row.Revoked})
			word, err := key.Decrypt(row.Test)
			require.NoError(t, err)
			require.Equal(t, "coder", word)
		})
	}
	row, err := dbcrypt.NewRing(dbcrypt.Keys{}).Registration(dbcrypt.Table{Exists: true, Own: true})
	require.NoError(t, err)
	require.Nil(t, row, "no key is configured")
}

// FuzzOpen opens whatever the columns can hold. What opens is what the independent
// writer decrypts, and whatever else is there is an error of this package.
func FuzzOpen(f *testing.F) {
	key := dbcrypttest.VectorKey()
	keys, err := dbcrypt.ParseKeys(vectorKey)
	require.NoError(f, err)
	f.Add(vectorStored, vectorDigest)
	f.Add(vectorTest, vectorDigest)
	f.Add(vectorStored[:20], vectorDigest)
	f.Add("AQAS1ocAAAAA", "1234567")
	f.Add("plain", "")
	f.Add("yMnKy8zN\nzs/Q0dLT", vectorDigest)
	f.Fuzz(func(t *testing.T, stored, keyID string) {
		plain, err := keys.Open(secret.New(stored), keyID)
		switch {
		case keyID == "":
			require.NoError(t, err)
			require.Equal(t, stored, string(plain))
		case err == nil:
			require.Equal(t, vectorDigest, keyID)
			want, err := key.Decrypt(stored)
			require.NoError(t, err)
			require.Equal(t, want, string(plain))
		default:
			var failed *dbcrypt.DecryptError
			require.ErrorAs(t, err, &failed)
			require.Nil(t, plain)
		}
	})
}
