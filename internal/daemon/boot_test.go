package daemon

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/schema"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// losing is a pool that loses a connection as it hands it out.
type losing struct {
	*pgxpool.Pool
	handed, loses int // of the test's goroutine, which alone acquires
}

// newLosing returns a pool that loses its connection number n.
func newLosing(t *testing.T, config *pgxpool.Config, n int) *losing {
	t.Helper()
	l := &losing{loses: n}
	config = config.Copy()
	before := config.PrepareConn
	config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		if before != nil {
			if ok, err := before(ctx, conn); !ok || err != nil {
				return ok, err
			}
		}
		if l.handed++; l.handed == l.loses {
			ending, err := pgx.ConnectConfig(ctx, config.ConnConfig)
			require.NoError(t, err)
			_, err = ending.Exec(ctx, `SELECT pg_terminate_backend($1, 10000)`, int32(conn.PgConn().PID()))
			require.NoError(t, err)
			require.NoError(t, ending.Close(ctx))
		}
		return true, nil
	}
	var err error
	l.Pool, err = pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

// TestLostConnection loses each connection that the decision for a source takes, which is
// no reason to fall back: notifications would be used, and the slot given up, for what
// passes by itself.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	pool, config := pgtest.NewPool(t)
	triggers := func() (n int) {
		t.Helper()
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'provwatch%'`).Scan(&n))
		return n
	}
	options := Options{Database: config, Source: AutoSource, Migrate: schema.Auto, Logger: slog.New(slog.DiscardHandler)}
	t.Run("AtTheBoot", func(t *testing.T) {
		lost := 0
		for n := 1; n == 1 || lost == n-1; n++ {
			require.NoError(t, schema.RemoveTriggers(t.Context(), pool))
			require.NoError(t, schema.DropPublication(t.Context(), config.ConnConfig))
			losing := newLosing(t, config, n)
			published, err := (&boot{options: &options}).prepare(t.Context(), losing.Pool)
			if err != nil {
				require.True(t, postgres.IsConnectionLoss(err), "%d: %v", n, err)
			} else {
				require.True(t, published, n)
			}
			require.Zero(t, triggers(), "%d: %v", n, err)
			if losing.handed >= n {
				lost++
			}
		}
		require.Greater(t, lost, 3)
	})
	t.Run("WhenLeading", func(t *testing.T) {
		lost := 0
		for n := 1; n == 1 || lost == n-1; n++ {
			losing := newLosing(t, config, n)
			require.NoError(t, lacksForWAL(t.Context(), losing.Pool, uses{}), n)
			if losing.handed >= n {
				lost++
			}
		}
		require.NotZero(t, lost)
	})
}
