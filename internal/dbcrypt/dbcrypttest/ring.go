package dbcrypttest

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
)

// NewRing returns a ring of the keys in their order.
func NewRing(t testing.TB, keys ...Key) *dbcrypt.Ring {
	t.Helper()
	if len(keys) == 0 {
		return dbcrypt.NewRing(dbcrypt.Keys{})
	}
	texts := make([]string, len(keys))
	for i, key := range keys {
		texts[i] = key.Text()
	}
	parsed, err := dbcrypt.ParseKeys(strings.Join(texts, ","))
	require.NoError(t, err)
	return dbcrypt.NewRing(parsed)
}

// Database is a pool, a connection or a transaction.
type Database interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Register registers keys as active ones in public.dbcrypt_keys, as the gateway does.
func Register(t testing.TB, db Database, keys ...Key) {
	t.Helper()
	for _, key := range keys {
		_, err := db.Exec(t.Context(), `INSERT INTO public.dbcrypt_keys (number, active_key_digest, test)
			SELECT coalesce(max(number), 0) + 1, $1, $2 FROM public.dbcrypt_keys`, key.Digest(), key.Encrypt("coder"))
		require.NoError(t, err)
	}
}
