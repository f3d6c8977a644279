package audit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/audit"
	"provwatch/internal/pgtest"
)

func TestOutbox(t *testing.T) {
	t.Parallel()
	t.Run("RolledBack", testOutboxRolledBack)
	t.Run("DeliveredAfterCommit", testOutboxDeliveredAfterCommit)
	t.Run("LongTexts", testOutboxLongTexts)
}

func testOutboxRolledBack(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	refused := errors.New("rolled back")
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return errors.Join(audit.Stage(t.Context(), tx, []audit.Entry{entry("p", 1)}), refused)
	})
	require.ErrorIs(t, err, refused)
	require.NoError(t, audit.NewDeliverer(pool, quiet, nil).Deliver(t.Context()))
	require.Zero(t, count(t, pool, `SELECT (SELECT count(*) FROM provwatch.audit_outbox) + (SELECT count(*) FROM provwatch.audit_log)`))
}

func testOutboxDeliveredAfterCommit(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, audit.Stage(t.Context(), tx, []audit.Entry{entry("p", 1)}))
	deliverer := audit.NewDeliverer(pool, quiet, nil)
	require.NoError(t, deliverer.Deliver(t.Context()))
	require.Zero(t, count(t, pool, `SELECT count(*) FROM provwatch.audit_log`))
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, deliverer.Deliver(t.Context()))
	require.Equal(t, 1, count(t, pool, `SELECT count(*) FROM provwatch.audit_log`))
}

func testOutboxLongTexts(t *testing.T) {
	t.Parallel()
	pool, _ := pgtest.NewPool(t)
	long := strings.Repeat("ü", 200_000)
	whole := audit.Details{BaseURL: long[:100_000]}
	for i, test := range []struct {
		details audit.Details
		want    string // of the longest text, in characters
	}{
		{whole, "50000"},
		{audit.Details{BaseURL: long, Kind: "changed", Changes: []audit.Change{{Field: "base_url", Old: long, New: long}}}, "1024"},
		// What takes most bytes as JSON.
		{audit.Details{Changes: []audit.Change{
			{Field: "type", Old: strings.Repeat("\x01", 100_000), New: long}, {Field: "base_url", Old: long, New: strings.Repeat("<", 300_000)},
		}}, "2048"},
	} {
		e := entry(fmt.Sprint(i)+long, 1)
		e.Actor, e.Details = long, test.details
		stage(t, pool, e)
		require.NoError(t, audit.NewDeliverer(pool, quiet, nil).Deliver(t.Context()))
		var longest string
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT max(length(v #>> '{}'))::text FROM provwatch.audit_log, jsonb_path_query(details, '$.**') v
			WHERE id = $1 AND jsonb_typeof(v) = 'string'`, e.ID).Scan(&longest))
		require.Equal(t, test.want, longest)
	}
	require.Equal(t, 1000, count(t, pool, `SELECT max(octet_length(actor)) FROM provwatch.audit_log`))
	require.Equal(t, 999, count(t, pool, `SELECT max(octet_length(provider)) FROM provwatch.audit_log`))
}

// TestDecodeDetails decodes details, of which another version can have written others.
func TestDecodeDetails(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]audit.Details{
		`{"type": "openai", "keys": 2}`:          {Type: "openai", Keys: new(2)},
		`{"type": "openai", "added_later": [1]}`: {Type: "openai"},
		`{"kind": 2, "base_url": "https://a"}`:   {BaseURL: "https://a"},
		`["openai"]`:                             {},
		`null`:                                   {},
	} {
		require.Equal(t, want, audit.DecodeDetails([]byte(stored)), stored)
	}
}
