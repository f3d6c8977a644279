//go:build e2e

package postgres_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/remedy"
	"provwatch/internal/waittest"
)

func TestConnectFaults(t *testing.T) {
	t.Parallel()
	t.Run("ServerWithoutTLS", testConnectFaultsServerWithoutTLS)
	t.Run("LateServer", testConnectFaultsLateServer)
}

func testConnectFaultsServerWithoutTLS(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	conn, err := pgx.Connect(t.Context(), cluster.URL())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE ROLE full_up LOGIN PASSWORD 'hunter2' CONNECTION LIMIT 0; CREATE ROLE no_login PASSWORD 'hunter2'")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	configOf := func(user, password, database string) *pgxpool.Config {
		u, err := url.Parse(cluster.TCPURL(t, cluster.URL(), cluster.TCPAddr()))
		require.NoError(t, err)
		if user != "" {
			u.User = url.UserPassword(user, password)
		}
		u.Path, u.RawQuery = "/"+database, "sslmode=prefer"
		config, err := postgres.ParseURL(u.String())
		require.NoError(t, err)
		return config
	}
	for _, test := range []struct {
		user, password, database string
		remedy                   remedy.Remedy
	}{
		{"full_up", "wrong", "provwatch", remedy.CheckPassword()},
		{"no_login", "hunter2", "provwatch", remedy.CheckUser()},
		{"", "", "no-such-database", remedy.CheckDatabase()},
	} {
		_, err := postgres.Connector{Config: configOf(test.user, test.password, test.database), Timeout: time.Hour, Logger: quiet}.Connect(waittest.Context(t))
		var unreachable *postgres.UnreachableError
		require.ErrorAs(t, err, &unreachable)
		require.Equal(t, []remedy.Remedy{test.remedy}, remedy.Of(err))
		require.ErrorContains(t, err, "; "+test.remedy.String())
		require.NotContains(t, err.Error(), "ssl=on")
	}

	// Waiting can mend too many connections.
	limited, cancel := context.WithCancel(waittest.Context(t))
	defer cancel()
	tries := 0
	_, err = postgres.Connector{Config: configOf("full_up", "hunter2", "provwatch"), Timeout: time.Hour, Logger: quiet, Waiting: waiting(func(err error) {
		var unreachable *postgres.UnreachableError
		require.ErrorAs(t, err, &unreachable)
		require.Regexp(t, "failed to connect to `user=full_up database=provwatch`: \\S+ \\(\\S+\\): server error: FATAL: too many connections for role \"full_up\" \\(SQLSTATE 53300\\); let others", err.Error())
		require.NotContains(t, err.Error(), "refused TLS", "the server has answered")
		require.NotContains(t, err.Error(), "ssl=on")
		if tries++; tries == 2 {
			cancel()
		}
	})}.Connect(limited)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 2, tries)
}

func testConnectFaultsLateServer(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	config, err := postgres.ParseURL(cluster.URL())
	require.NoError(t, err)
	cluster.Stop(t, "fast")
	connected, failed := make(chan error, 1), make(chan struct{}, 1000)
	go func() {
		pool, err := postgres.Connector{Config: config, Timeout: waittest.Patience, Logger: quiet, Waiting: waiting(func(error) { failed <- struct{}{} })}.Connect(context.WithoutCancel(t.Context()))
		if err == nil {
			pool.Close()
		}
		connected <- err
	}()
	for range 2 {
		waittest.Receive(t, failed, "a try fails")
	}
	require.Empty(t, connected)
	cluster.StartAgain(t)
	require.NoError(t, <-connected)
}
