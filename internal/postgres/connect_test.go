package postgres_test

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/waittest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func testParseURLTextWithheld(t *testing.T) {
	for _, bad := range []string{
		"postgres://user:hunter2@host:port/db", "postgres://user:hunter2%zz@host/db", "user=u password='hunter2 host=h",
		"postgres://user:hunter2@host/db?sslmode=hunter2", "hunter2",
		"postgres://user:5/hunter2@host/db", "postgres://user:hunter2/x@host:5432/db",
		"postgres://user:pass@word,hunter2@host/db", "postgres://user:pass@word,x@hunter2,h@host/db",
	} {
		_, err := postgres.ParseURL(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "hunter2")
		require.Contains(t, err.Error(), "DATABASE_URL")
	}
}

func TestConnect(t *testing.T) {
	t.Run("UnreachableServer", testConnectUnreachableServer)
	t.Run("PermanentFailure", testConnectPermanentFailure)
}

// testConnectUnreachableServer runs on a clock of its own, with a
// dialer in the place of the network.
func testConnectUnreachableServer(t *testing.T) {
	const timeout = 30 * time.Second
	for _, test := range []struct {
		name    string
		dial    pgconn.DialFunc
		tries   int // at least
		message string
	}{
		{"refusing", func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }, 5, "connection refused"},
		{"silent", func(ctx context.Context, _, _ string) (net.Conn, error) {
			select { // the pool also connects by itself, with a context that does not end
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Hour):
				return nil, syscall.ETIMEDOUT
			}
		}, 0, "no answer within 30s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config, err := postgres.ParseURL("postgres://u:hunter2@127.0.0.1:5432/db?sslmode=disable")
				require.NoError(t, err)
				config.ConnConfig.DialFunc = test.dial
				tries, start := 0, time.Now()
				_, err = postgres.Connector{Config: config, Timeout: timeout, Logger: quiet, Waiting: waiting(func(err error) {
					tries++
					require.ErrorContains(t, err, test.message)
				})}.Connect(t.Context())
				var unreachable *postgres.UnreachableError
				require.ErrorAs(t, err, &unreachable)
				require.ErrorContains(t, err, test.message)
				require.NotContains(t, err.Error(), "hunter2")
				require.GreaterOrEqual(t, tries, test.tries)
				require.InDelta(t, timeout, time.Since(start), float64(time.Second))
				time.Sleep(2 * time.Hour) // until the pool's own attempt has ended
			})
		})
	}
}

// waiting gets why a connection has not been made yet.
type waiting func(error)

func (w waiting) ConnectionFailed(err error) { w(err) }

func testConnectPermanentFailure(t *testing.T) {
	good := pgtest.NewDatabase(t)
	u, err := url.Parse(good)
	require.NoError(t, err)
	u.Path = "/no-such-database"
	config, err := postgres.ParseURL(u.String())
	require.NoError(t, err)
	_, err = postgres.Connector{Config: config, Timeout: time.Hour, Logger: quiet}.Connect(waittest.Context(t))
	var unreachable *postgres.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.Contains(t, err.Error(), "no-such-database")
}
