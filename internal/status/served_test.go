package status_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/dbcrypt/dbcrypttest"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/status"
)

// insert inserts a row; keyID names the key of its settings, empty for plain text.
func insert(t *testing.T, pool *pgxpool.Pool, kind, name, settings, keyID, more string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `INSERT INTO public.ai_providers (id, type, name, base_url, settings, settings_key_id, enabled, deleted)
		VALUES (gen_random_uuid(), $1::text::public.ai_provider_type, $2, 'https://' || $2 || '.invalid/', nullif($3, ''), nullif($4, ''), $5, $6)`,
		kind, name, settings, keyID, more != "disabled", more == "deleted")
	require.NoError(t, err)
}

func names(notices []provider.Notice) (list []string) {
	for _, n := range notices {
		list = append(list, n.Provider)
	}
	return list
}

func TestNoticeUnserved(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewGatewayPool(t)
	key, other := dbcrypttest.NewKey(), dbcrypttest.NewKey()
	_, err := pool.Exec(t.Context(), `INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES (1, $1, $2)`, key.Digest(), key.Encrypt("coder"))
	require.NoError(t, err)
	inspect := func(text string) []string {
		t.Helper()
		var keys dbcrypt.Keys
		if text != "" {
			var err error
			keys, err = dbcrypt.ParseKeys(text)
			require.NoError(t, err)
		}
		notices, err := status.NoticeUnserved(t.Context(), pool, dbcrypt.NewRing(keys))
		require.NoError(t, err)
		require.NotNil(t, notices)
		return names(notices)
	}
	require.Empty(t, inspect(""))

	const complete, incomplete = `{"_type":"bedrock","_version":1,"region":"r","model":"m"}`, `{"_type":"bedrock","_version":1,"region":"r"}`
	insert(t, pool, "bedrock", "complete", complete, "", "")
	insert(t, pool, "bedrock", "incomplete", incomplete, "", "")
	insert(t, pool, "bedrock", "sealed-complete", key.Encrypt(complete), key.Digest(), "")
	insert(t, pool, "bedrock", "sealed-incomplete", key.Encrypt(incomplete), key.Digest(), "")
	insert(t, pool, "openai", "with-key", "", "", "")
	insert(t, pool, "openai", "without-key", key.Encrypt("of another kind"), key.Digest(), "")
	insert(t, pool, "openai", "disabled", "", "", "disabled")
	insert(t, pool, "openai", "deleted", "", "", "deleted")
	_, err = pool.Exec(t.Context(), `INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'k' FROM public.ai_providers WHERE name = 'with-key'`)
	require.NoError(t, err)

	require.Equal(t, []string{"incomplete", "sealed-incomplete", "without-key"}, inspect(key.Text()))
	for _, none := range []string{"", other.Text()} {
		require.Equal(t, []string{"incomplete", "without-key"}, inspect(none), "what cannot be read is passed over")
	}

	// A role without the privileges sees nothing, and one with them the same.
	role := pool.Config().ConnConfig.Database + "_served"
	_, err = pool.Exec(t.Context(), `CREATE ROLE `+role)
	require.NoError(t, err)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), `GRANT USAGE ON SCHEMA public TO `+role+`; GRANT SELECT ON public.ai_providers TO `+role+`; SET LOCAL ROLE `+role)
	require.NoError(t, err)
	notices, err := status.NoticeUnserved(t.Context(), tx, (*dbcrypt.Ring)(nil))
	require.NoError(t, err)
	require.Nil(t, notices)
	_, err = tx.Exec(t.Context(), `RESET ROLE; GRANT SELECT (provider_id) ON public.ai_provider_keys TO `+role+`; SET LOCAL ROLE `+role)
	require.NoError(t, err)
	notices, err = status.NoticeUnserved(t.Context(), tx, (*dbcrypt.Ring)(nil))
	require.NoError(t, err)
	require.Equal(t, []string{"incomplete", "without-key"}, names(notices))
}

func TestLogNotices(t *testing.T) {
	t.Parallel()
	var notices []provider.Notice
	for i := range 25 {
		notices = append(notices, provider.Notice{Provider: fmt.Sprintf("p%d", i), Problem: "a problem", Remedy: "a remedy"})
	}
	var log bytes.Buffer
	status.LogNotices(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), notices)
	require.Equal(t, 20, strings.Count(log.String(), "provider=p"))
	require.Equal(t, 21, strings.Count(log.String(), "level=WARN"))
	require.Contains(t, log.String(), "providers=5")
}
