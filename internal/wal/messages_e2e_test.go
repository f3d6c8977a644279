//go:build e2e

package wal

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"
)

// TestServerMessages makes the server send every kind of message that it has, and compares
// what was parsed, written again, with it.
func TestServerMessages(t *testing.T) {
	t.Parallel()
	const (
		id     = "00000000-0000-4000-8000-000000000001"
		insert = `INSERT INTO public.ai_providers (id, type, name, base_url, settings) VALUES ('` + id + `', 'anthropic', 'aws', 'https://u:q7zleak@h/',
			'{"_type":"bedrock","_version":1,"region":"us-east-1","access_key":"AK","access_key_secret":"q7zleak` + "%s" + `"}')`
	)
	plain := fmt.Sprintf(insert, "")
	elsewhere := uuid.NewString() // origins are those of the whole server
	seen := map[pglogrepl.MessageType]bool{}
	pool, config := published(t)
	for _, c := range []struct {
		name, prepare string
		statements    []string
	}{
		{"rows", `SELECT 1`, []string{
			plain, `UPDATE public.ai_providers SET enabled = false`, `UPDATE public.ai_providers SET id = gen_random_uuid()`, `DELETE FROM public.ai_providers`,
		}},
		{"truncate", plain, []string{`TRUNCATE public.ai_providers CASCADE`, `TRUNCATE public.ai_provider_keys RESTART IDENTITY`}},
		{"logical_messages", `SELECT 1`, []string{
			`SELECT pg_logical_emit_message(true, 'provwatch', 'token')`, `SELECT pg_logical_emit_message(false, 'provwatch', 'token')`,
			`SELECT pg_logical_emit_message(true, 'another', 'q7zleak')`, `BEGIN;` + plain + `; SELECT pg_logical_emit_message(false, 'x', ''); COMMIT`,
		}},
		{"keys", plain, []string{
			`INSERT INTO public.ai_provider_keys (id, provider_id, api_key) VALUES ('` + id + `', '` + id + `', 'q7zleak')`,
			`UPDATE public.ai_provider_keys SET api_key = 'q7zleak2'`, `DELETE FROM public.ai_providers`,
		}},
		{"origin", `SELECT pg_replication_origin_create('` + elsewhere + `')`, []string{
			`BEGIN; SELECT pg_replication_origin_session_setup('` + elsewhere + `'); SELECT pg_replication_origin_xact_setup('0/AB', '2026-01-02 03:04:05Z');` +
				plain + `; COMMIT; SELECT pg_replication_origin_session_reset()`,
		}},
		{"rolled_back", plain, []string{
			`BEGIN; SAVEPOINT a; DELETE FROM public.ai_providers; ROLLBACK TO a; UPDATE public.ai_providers SET deleted = true; COMMIT`, `BEGIN; DELETE FROM public.ai_providers; ROLLBACK`,
		}},
		{"altered", plain, []string{
			`UPDATE public.ai_providers SET enabled = false`, `ALTER TABLE public.ai_providers ADD COLUMN more text DEFAULT 'x'`, `UPDATE public.ai_providers SET enabled = true`,
		}},
		{"out_of_line", `ALTER TABLE public.ai_providers ALTER COLUMN settings SET STORAGE EXTERNAL`, []string{
			fmt.Sprintf(insert, strings.Repeat("s", 2500)), `UPDATE public.ai_providers SET deleted = true`,
		}},
		// Whole old rows, of tables that are published in another way.
		{"identity_full", plain + `; ALTER TABLE public.ai_providers REPLICA IDENTITY FULL; DROP PUBLICATION provwatch;
			CREATE PUBLICATION provwatch FOR TABLE public.ai_providers, public.ai_provider_keys`, []string{
			`UPDATE public.ai_providers SET base_url = 'https://h/'`, `DELETE FROM public.ai_providers`,
		}},
	} {
		_, err := pool.Exec(t.Context(), `TRUNCATE public.ai_providers CASCADE;`+c.prepare)
		require.NoError(t, err, c.name)
		list := messages(t, pool, config, c.statements...)
		var d decoder
		for _, data := range list {
			message, err := parse(data)
			require.NoError(t, err, c.name)
			require.Equal(t, data, again(message, data), c.name)
			seen[message.Type()] = true
			_, err = d.decode(data)
			require.NoError(t, err, c.name)
		}
		require.Equal(t, list, frames(framed(list)))
		if *recordTo != "" {
			text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", framed(list))
			require.NoError(t, os.WriteFile(filepath.Join("testdata", "fuzz", "FuzzDecodeStream", *recordTo+c.name), []byte(text), 0o644))
		}
	}
	for _, kind := range "BCORYIUDTM" {
		require.True(t, seen[pglogrepl.MessageType(kind)], "there was no message of type %c", kind)
	}
}

// framed writes messages one after the other, each after its length.
func framed(messages [][]byte) (stream []byte) {
	for _, m := range messages {
		stream = append(binary.AppendUvarint(stream, uint64(len(m))), m...)
	}
	return stream
}

var recordTo = flag.String("record", "", "write the server's messages to the corpus of FuzzDecodeStream, as files of this prefix")
