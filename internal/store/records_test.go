package store_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"provwatch/internal/pgtest"
	"provwatch/internal/store"
)

// record has a member of each type that rows have.
type record struct {
	Text     store.Text       `json:"text"`
	Nullable *store.Text      `json:"nullable"`
	Number   int64            `json:"number"`
	Flag     bool             `json:"flag"`
	ID       uuid.UUID        `json:"id"`
	At       store.Timestamp  `json:"at"`
	Never    *store.Timestamp `json:"never"`
	Fields   json.RawMessage  `json:"fields"`
}

const readRecord = `
	SELECT text, nullable, number, flag, id, at, never, fields
	FROM jsonb_to_recordset($1::jsonb) AS r (text text, nullable text, number bigint, flag boolean, id uuid, at timestamptz, never timestamptz, fields jsonb)`

// read is a row as the server has it.
type read struct {
	Text     string
	Nullable *string
	Number   int64
	Flag     bool
	ID       uuid.UUID
	At       time.Time
	Never    *time.Time
	Fields   json.RawMessage
}

// TestRecords sends values as a record and as parameters: the server must get the same, or
// refuse both.
func TestRecords(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	ctx := t.Context()
	check := func(t require.TestingT, s string, number int64, at time.Time) {
		encoded, err := store.Encode([]record{{
			Text: store.Text(s), Nullable: store.Nullable(s), Number: number, Flag: number > 0, ID: uuid.UUID{1}, At: store.Timestamp(at), Fields: json.RawMessage(`[{"a":"<\u0001>"}]`),
		}})
		var rows []read
		if err == nil {
			found, queryErr := pool.Query(ctx, readRecord, encoded)
			require.NoError(t, queryErr)
			rows, err = pgx.CollectRows(found, pgx.RowToStructByPos[read])
		}
		var want read
		wantErr := pool.QueryRow(ctx, `SELECT $1::text, nullif($1::text, ''), $2::bigint, $2::bigint > 0, $3::uuid, $4::timestamptz, NULL::timestamptz, $5::jsonb`,
			s, number, uuid.UUID{1}, at, `[{"a":"<\u0001>"}]`).
			Scan(&want.Text, &want.Nullable, &want.Number, &want.Flag, &want.ID, &want.At, &want.Never, &want.Fields)
		if wantErr != nil {
			require.Error(t, err)
			var pg *pgconn.PgError
			if !errors.Is(err, store.ErrNUL) {
				require.ErrorAs(t, err, &pg)
				require.Equal(t, pgerrcode.CharacterNotInRepertoire, pg.Code)
				require.NotContains(t, pg.Where, "JSON", "the server logs no part of the rows")
			}
			return
		}
		require.NoError(t, err)
		require.Equal(t, []read{want}, rows)
	}
	for _, s := range []string{"", "a", `"\`, "\x00", "a\x00b", "\xff", "\xed\xa0\x80", "\x01\n\t\x1f\x7f", "\u2028\u2029\ufffd", `\u0000`, `\ufffd`, "<&>", "\U0010ffff", "ä"} {
		check(t, s, 1, time.Unix(0, 0))
	}
	for _, number := range []int64{math.MinInt64, math.MaxInt64, 1<<53 + 1, 0} {
		check(t, "", number, time.Unix(0, 0))
	}
	for _, at := range []time.Time{
		time.Unix(0, 1999), time.Unix(0, -1), time.Unix(1_700_000_000, 999_999_999), time.Date(0, 2, 29, 0, 0, 0, 1, time.UTC), time.Date(-44, 3, 15, 12, 0, 0, 0, time.UTC),
		time.Date(12345, 6, 7, 8, 9, 10, 0, time.UTC), time.Unix(9_224_318_015_999, 999_999_000), time.Date(2026, 3, 29, 2, 30, 0, 0, time.FixedZone("", 5400)), {},
	} {
		check(t, "", 0, at)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		check(t, s, rapid.Int64().Draw(t, "number"), time.Unix(rapid.Int64Range(-200_000_000_000, 9_224_318_015_999).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanosecond")))
	})
}

// TestNoRecords encodes no rows as an empty list, which jsonb_to_recordset needs.
func TestNoRecords(t *testing.T) {
	t.Parallel()
	encoded, err := store.Encode[record](nil)
	require.NoError(t, err)
	require.JSONEq(t, `[]`, string(encoded))
}
