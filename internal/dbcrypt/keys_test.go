package dbcrypt_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
)

// The vector of docs/specification.md, section 3.
const (
	vectorKey    = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	vectorDigest = "6d28cf8"
	vectorPlain  = "made-up-key-0123456789"
	vectorStored = "yMnKy8zNzs/Q0dLTfBkFvqu5iw0fWWaTLjfZJ9Sy2p88UiFQWUCclOkOEumqPujqX40="
	vectorTest   = "yMnKy8zNzs/Q0dLTchcFvvQuIwVAg5PBNJjksBnDuCJT" // the word coder
)

func parse(t *testing.T, keys ...dbcrypttest.Key) dbcrypt.Keys {
	t.Helper()
	texts := make([]string, len(keys))
	for i, key := range keys {
		texts[i] = key.Text()
	}
	parsed, err := dbcrypt.ParseKeys(strings.Join(texts, ","))
	require.NoError(t, err)
	return parsed
}

func TestParseKeys(t *testing.T) {
	other := dbcrypttest.NewKey()
	short := base64.StdEncoding.EncodeToString(make([]byte, 31))
	for name, c := range map[string]struct {
		text, problem string
		digests       []string
	}{
		"one":                        {text: vectorKey, digests: []string{vectorDigest}},
		"two, in their order":        {text: other.Text() + "," + vectorKey, digests: []string{other.Digest(), vectorDigest}},
		"spaces and a line break":    {text: " " + vectorKey + " ,\t" + other.Text() + "\r\n", digests: []string{vectorDigest, other.Digest()}},
		"no key":                     {text: " ", problem: "key 1 of the list has 0 bytes instead of 32"},
		"an empty one":               {text: vectorKey + ",", problem: "key 2 of the list has 0 bytes instead of 32"},
		"a short one":                {text: short, problem: "key 1 of the list has 31 bytes instead of 32"},
		"no base64":                  {text: vectorKey + ",made-up?", problem: "key 2 of the list is not base64"},
		"base64 of the URL alphabet": {text: "__________________________________________8=", problem: "key 1 of the list is not base64"},
		"base64 without padding":     {text: strings.TrimRight(vectorKey, "="), problem: "key 1 of the list is not base64"},
		"one key twice":              {text: vectorKey + "," + vectorKey, problem: "keys 1 and 2 of the list have one digest, 6d28cf8"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := dbcrypt.ParseKeys(c.text)
			if c.problem != "" {
				require.ErrorContains(t, err, c.problem)
				require.Empty(t, keys.Digests())
				for _, element := range strings.Split(c.text, ",") {
					if element = strings.TrimSpace(element); element != "" {
						require.NotContains(t, err.Error(), element)
					}
				}
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.digests, keys.Digests())
		})
	}
}

func TestFromVariables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, []byte(vectorKey+"\n"), 0o600))
	damaged := filepath.Join(t.TempDir(), "damaged")
	require.NoError(t, os.WriteFile(damaged, []byte("q7zleak"), 0o600))
	for name, c := range map[string]struct {
		text, path        string
		variable, problem string
		digests           []string
	}{
		"neither":                  {digests: []string{}},
		"the list":                 {text: vectorKey, variable: dbcrypt.KeysVariable, digests: []string{vectorDigest}},
		"the file":                 {path: path, variable: dbcrypt.KeysFileVariable, digests: []string{vectorDigest}},
		"both":                     {text: vectorKey, path: path, variable: dbcrypt.KeysFileVariable, problem: "cannot be set together with CODER_EXTERNAL_TOKEN_ENCRYPTION_KEYS"},
		"a file that is not there": {path: path + "x", variable: dbcrypt.KeysFileVariable, problem: "cannot be read: no such file"},
		"a file of something else": {path: damaged, variable: dbcrypt.KeysFileVariable, problem: "key 1 of the list is not base64"},
		"a folder":                 {path: t.TempDir(), variable: dbcrypt.KeysFileVariable, problem: "a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, variable, err := dbcrypt.FromVariables(map[string]string{dbcrypt.KeysVariable: c.text, dbcrypt.KeysFileVariable: c.path})
			require.Equal(t, c.variable, variable)
			if c.problem != "" {
				require.ErrorContains(t, err, c.problem)
				require.NotContains(t, err.Error(), "q7zleak")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.digests, keys.Digests())
		})
	}
}
