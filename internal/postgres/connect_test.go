package postgres_test

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestAnUnusableURLIsReportedWithoutAnyPartOfIt(t *testing.T) {
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

func TestAnUnreachableServerIsTriedUntilTheTimeout(t *testing.T) {
	// A port that nothing listens on.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	config, err := postgres.ParseURL("postgres://u:hunter2@" + address + "/db?sslmode=disable")
	require.NoError(t, err)
	start := time.Now()
	_, err = postgres.Connect(t.Context(), config, 700*time.Millisecond, quiet)
	var unreachable *postgres.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.Contains(t, err.Error(), "connection refused")
	require.NotContains(t, err.Error(), "hunter2")
	require.GreaterOrEqual(t, time.Since(start), 300*time.Millisecond, "one try is not all")
}

func TestWhatWaitingDoesNotMendEndsConnectingAtOnce(t *testing.T) {
	good := pgtest.NewDatabase(t)
	u, err := url.Parse(good)
	require.NoError(t, err)
	u.Path = "/no-such-database"
	config, err := postgres.ParseURL(u.String())
	require.NoError(t, err)
	limited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = postgres.Connect(limited, config, time.Hour, quiet)
	var unreachable *postgres.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.Contains(t, err.Error(), "no-such-database")
}

func TestAServerWithoutTLSIsJudgedByWhatItSaysWithout(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	conn, err := pgx.Connect(t.Context(), cluster.URL())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE ROLE full_up LOGIN PASSWORD 'hunter2' CONNECTION LIMIT 0; CREATE ROLE no_login PASSWORD 'hunter2'")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	connect := func(user, password, database string, timeout time.Duration) (string, time.Duration) {
		u, err := url.Parse(cluster.TCPURL(t, cluster.URL(), cluster.TCPAddr()))
		require.NoError(t, err)
		if user != "" {
			u.User = url.UserPassword(user, password)
		}
		u.Path, u.RawQuery = "/"+database, "sslmode=prefer"
		config, err := postgres.ParseURL(u.String())
		require.NoError(t, err)
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err = postgres.Connect(limited, config, timeout, quiet)
		var unreachable *postgres.UnreachableError
		require.ErrorAs(t, err, &unreachable)
		require.NotContains(t, err.Error(), "ssl=on")
		return err.Error(), time.Since(start)
	}

	message, _ := connect("full_up", "wrong", "provwatch", time.Hour)
	require.Contains(t, message, "check the user and the password")
	message, _ = connect("no_login", "hunter2", "provwatch", time.Hour)
	require.Contains(t, message, "has LOGIN")
	message, _ = connect("", "", "no-such-database", time.Hour)
	require.Contains(t, message, "check the database's name")
	message, took := connect("full_up", "hunter2", "provwatch", 700*time.Millisecond)
	require.Contains(t, message, "too many connections")
	require.GreaterOrEqual(t, took, 300*time.Millisecond, "one try is not all")
}

func TestAServerThatComesUpInTimeIsReached(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	config, err := postgres.ParseURL(cluster.URL())
	require.NoError(t, err)
	cluster.Stop(t, "fast")
	connected := make(chan error, 1)
	go func() {
		pool, err := postgres.Connect(context.WithoutCancel(t.Context()), config, time.Minute, quiet)
		if err == nil {
			pool.Close()
		}
		connected <- err
	}()
	select {
	case err := <-connected:
		t.Fatalf("connected to a stopped server: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	cluster.StartAgain(t)
	require.NoError(t, <-connected)
}
