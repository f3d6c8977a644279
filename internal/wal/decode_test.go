package wal

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/schema"
	"provwatch/internal/waittest"
)

// published creates a database whose provider tables are published.
func published(t *testing.T) (*pgxpool.Pool, *pgxpool.Config) {
	t.Helper()
	pool, config := pgtest.NewPool(t)
	_, _, err := schema.Migrate(t.Context(), config.ConnConfig, schema.Needs{Publication: true})
	require.NoError(t, err)
	return pool, config
}

// messages runs statements, each in a transaction of its own unless it says
// otherwise, and returns the messages that the server sends for them.
func messages(t *testing.T, pool *pgxpool.Pool, config *pgxpool.Config, statements ...string) (list [][]byte) {
	t.Helper()
	conn, err := pgconn.ConnectConfig(t.Context(), &postgres.ReplicationConfig(config).Config)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	slot := "decode_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err = pglogrepl.CreateReplicationSlot(t.Context(), conn, slot, outputPlugin,
		pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, Temporary: true})
	require.NoError(t, err)
	for _, statement := range statements {
		_, err := pool.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	_, err = pool.Exec(t.Context(), `SELECT pg_logical_emit_message(true, 'end', '')`)
	require.NoError(t, err)
	require.NoError(t, pglogrepl.StartReplication(t.Context(), conn, slot, 0, pglogrepl.StartReplicationOptions{PluginArgs: []string{
		"proto_version '1'", "publication_names '" + publication + "'", "messages 'true'",
	}}))
	waiting := waittest.Context(t)
	for end := false; ; {
		raw, err := conn.ReceiveMessage(waiting)
		require.NoError(t, err)
		data, ok := raw.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		log, err := pglogrepl.ParseXLogData(data.Data[1:])
		require.NoError(t, err)
		list = append(list, bytes.Clone(log.WALData))
		message, err := pglogrepl.Parse(log.WALData)
		require.NoError(t, err)
		switch m := message.(type) {
		case *pglogrepl.LogicalDecodingMessage:
			end = end || m.Prefix == "end"
		case *pglogrepl.CommitMessage:
			if end {
				return list
			}
		}
	}
}

// decoded runs statements as [messages] does, and returns what a decoder makes of
// the stream that the server sends for them.
func decoded(t *testing.T, prepare string, statements ...string) []*transaction {
	t.Helper()
	return decodedWith(t, nil, prepare, statements...)
}

// decodedWith is [decoded] with a decoder that has keys.
func decodedWith(t *testing.T, keys *dbcrypt.Ring, prepare string, statements ...string) (list []*transaction) {
	t.Helper()
	pool, config := published(t)
	_, err := pool.Exec(t.Context(), prepare)
	require.NoError(t, err)
	d := decoder{keys: keys}
	for _, message := range messages(t, pool, config, statements...) {
		done, err := d.decode(message)
		require.NoError(t, err)
		// PostgreSQL 14 sends transactions that changed nothing published.
		if done != nil && (len(done.changes) > 0 || done.keysTouched || len(done.markers) > 0) {
			list = append(list, done)
		}
	}
	return list
}

func TestDecode(t *testing.T) {
	t.Parallel()
	t.Run("EachMessage", testDecodeEachMessage)
	t.Run("UnreadableStream", testDecodeUnreadableStream)
	t.Run("ForeignMessages", testDecodeForeignMessages)
	t.Run("LongName", testDecodeLongName)
	t.Run("LargeTransaction", testDecodeLargeTransaction)
}

func testDecodeEachMessage(t *testing.T) {
	t.Parallel()
	id, other := uuid.New(), uuid.New()
	list := decoded(t, `ALTER TABLE public.ai_providers ALTER COLUMN settings SET STORAGE EXTERNAL;
			INSERT INTO public.dbcrypt_keys (number, active_key_digest, test) VALUES (1, 'k', '')`,
		fmt.Sprintf(`INSERT INTO public.ai_providers (id, type, name, base_url, settings) VALUES ('%s', 'anthropic', 'aws', 'https://h/',
			'{"_type":"bedrock","_version":1,"region":"us-east-1","access_key_secret":"%s"}')`, id, strings.Repeat("s", 10000)),
		`UPDATE public.ai_providers SET enabled = false`,
		fmt.Sprintf(`UPDATE public.ai_providers SET id = '%s', settings = NULL`, other),
		`UPDATE public.ai_providers SET settings = 'broken'`,
		`UPDATE public.ai_providers SET settings_key_id = 'k'`,
		`INSERT INTO public.ai_provider_keys (id, provider_id, api_key) SELECT gen_random_uuid(), id, 'secret' FROM public.ai_providers`,
		`DELETE FROM public.ai_providers`,
		`TRUNCATE public.ai_providers CASCADE`,
	)
	require.Len(t, list, 8)
	for i, tx := range list {
		require.NotZero(t, tx.end)
		require.NotZero(t, tx.xid)
		require.WithinDuration(t, time.Now(), tx.committedAt, time.Minute)
		for _, c := range tx.changes {
			if c.put != nil {
				require.WithinDuration(t, time.Now(), c.put.updatedAt, time.Minute)
				c.put.updatedAt = time.Time{}
			}
		}
		if i > 0 {
			require.Greater(t, tx.end, list[i-1].end)
		}
	}
	row := version{id: id, name: "aws", kind: provider.Anthropic, enabled: true, baseURL: "https://h/", settings: provider.DecodedSettings{IsBedrock: true, BedrockRegion: "us-east-1"}}
	require.Equal(t, []change{{put: &row}}, list[0].changes)
	disabled := row
	disabled.enabled, disabled.settings, disabled.settingsUnchanged = false, provider.DecodedSettings{}, true
	require.Equal(t, []change{{put: &disabled}}, list[1].changes)
	moved := disabled
	moved.id, moved.settingsUnchanged = other, false
	require.Equal(t, []change{{removed: id, put: &moved}}, list[2].changes)
	broken := moved
	broken.settings.Err = provider.ErrSettingsNotJSON
	require.Equal(t, []change{{put: &broken}}, list[3].changes)
	encrypted := moved
	encrypted.settings.Err = &dbcrypt.DecryptError{KeyID: "k", Err: dbcrypt.ErrUnknownKey}
	require.Equal(t, []change{{put: &encrypted}}, list[4].changes)
	require.True(t, list[5].keysTouched)
	require.Empty(t, list[5].changes)
	require.Equal(t, []change{{removed: other}}, list[6].changes)
	require.True(t, list[6].keysTouched, "by the cascade")
	require.Equal(t, []change{{truncate: true}}, list[7].changes)
}

// testDecodeUnreadableStream checks that nothing of a stream that cannot be read is shown.
func testDecodeUnreadableStream(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"an unknown message":               "?secret",
		"a change outside a transaction":   "I\x00\x00\x00\x01N\x00\x01t\x00\x00\x00\x06secret",
		"a relation that ends too early":   "R\x00\x00",
		"an insert that ends too early":    "I\x00\x00\x00\x01N\x00\x01t\x00\x00\x00\x06sec",
		"an empty message":                 "",
		"a commit that ends too early":     "C\x00",
		"a truncate of an unknown table":   "T\x00\x00\x00\x01\x00\x00\x00\x00\x09",
		"a message that ends too early":    "M\x01secret",
		"a delete without an old version":  "D\x00\x00\x00\x01",
		"an update of an unknown relation": "U\x00\x00\x00\x01N\x00\x01t\x00\x00\x00\x06secret",
	} {
		t.Run(name, func(t *testing.T) {
			for _, begun := range []bool{false, true} {
				d := decoder{}
				if begun {
					d.current = &transaction{}
				}
				_, err := d.decode([]byte(data))
				if err != nil {
					require.NotContains(t, err.Error(), "sec")
				}
			}
		})
	}
}

// testDecodeForeignMessages checks that messages of other programs are no markers.
func testDecodeForeignMessages(t *testing.T) {
	t.Parallel()
	list := decoded(t, `SELECT 1`,
		`SELECT pg_logical_emit_message(true, 'another', 'x')`,
		`SELECT pg_logical_emit_message(false, 'provwatch', 'x')`,
		`SELECT pg_logical_emit_message(true, 'provwatch', repeat('x', 37))`,
		`SELECT pg_logical_emit_message(true, 'provwatch', 'first') FROM generate_series(1, 100)`)
	require.Len(t, list, 1)
	require.Equal(t, []string{"first"}, list[0].markers, "what others write does not pile up")
}

// testDecodeLongName checks that a long name that does not travel is known all the same.
func testDecodeLongName(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	name := make([]byte, 2500) // which an index just holds, and compresses to nothing shorter
	for i := range name {
		name[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[random.IntN(36)]
	}
	list := decoded(t, `SELECT 1`,
		fmt.Sprintf(`INSERT INTO public.ai_providers (id, type, name, base_url) VALUES (gen_random_uuid(), 'openai', '%s', 'https://h/')`, name),
		`UPDATE public.ai_providers SET enabled = false`,
		`UPDATE public.ai_providers SET id = gen_random_uuid()`)
	m := newMirror(hasher)
	for _, tx := range list {
		require.Len(t, tx.changes, 1)
		touched, reread := m.apply(tx.changes[0])
		require.Zero(t, reread)
		require.Subset(t, []string{string(name)}, touched)
		require.Len(t, m.byName[string(name)], 1)
	}
	require.True(t, list[1].changes[0].put.nameUnchanged, "else this test shows nothing")
	require.True(t, list[2].changes[0].put.nameUnchanged)
}

func testDecodeLargeTransaction(t *testing.T) {
	t.Parallel()
	const rows = 3 * maxPart / changeSize
	insert := `INSERT INTO public.ai_providers (id, type, name, base_url)
		SELECT gen_random_uuid(), 'openai', 'bulk-' || n, 'https://h/' FROM generate_series(1, %d) n`
	list := decoded(t, `SELECT 1`,
		fmt.Sprintf(insert, rows)+`; SELECT pg_logical_emit_message(true, 'provwatch', 'token')`,
		`DELETE FROM public.ai_providers WHERE name = 'bulk-1'`)
	require.Greater(t, len(list), 4)
	parts, small := list[:len(list)-1], list[len(list)-1]
	require.False(t, small.more)
	require.Len(t, small.changes, 1)

	last := parts[len(parts)-1]
	require.False(t, last.more)
	require.Greater(t, last.end, last.commit)
	require.Equal(t, []string{"token"}, last.markers)
	changes := 0
	for i, part := range parts {
		require.Equal(t, i < len(parts)-1, part.more)
		require.Equal(t, part.more, part.end == 0)
		require.Equal(t, last.commit, part.commit)
		require.Equal(t, last.xid, part.xid)
		require.Equal(t, last.committedAt, part.committedAt)
		require.Less(t, part.size(), maxPart+2*changeSize)
		changes += len(part.changes)
	}
	require.Equal(t, rows, changes)
}
