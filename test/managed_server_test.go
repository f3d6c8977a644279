//go:build e2e

package test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/store"
)

func TestManagedServer(t *testing.T) {
	t.Parallel()
	t.Run("TimeoutsOfTheRole", testManagedServerTimeoutsOfTheRole)
	t.Run("DecidesWhoReplicates", testManagedServerDecidesWhoReplicates)
}

// testManagedServerTimeoutsOfTheRole holds the seed's lock until the
// worker has waited for it for longer than its role may.
func testManagedServerTimeoutsOfTheRole(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		database, role := pgx.Identifier{w.db.Config().Database}.Sanitize(), w.login["run"]
		for _, set := range []string{"lock_timeout = '50ms'", "statement_timeout = '300ms'"} {
			w.exec("ALTER ROLE " + role + " IN DATABASE " + database + " SET " + set)
		}
		if w.count("SELECT current_setting('server_version_num')::int") >= 170000 {
			w.exec("ALTER ROLE " + role + " IN DATABASE " + database + " SET transaction_timeout = '300ms'")
		}
		holder := w.connect()
		_, err := holder.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, store.SeedLock)
		require.NoError(t, err)
		p := w.start(w.twoProviders(), "run")
		eventually(t, func() bool {
			select {
			case <-p.ended:
				t.Fatalf("the start failed:\n%s", strings.Join(p.lines(), "\n"))
			default:
			}
			return w.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND clock_timestamp() - waitstart > '1s'
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) > 0
		}, "the worker waits for the lock for a second")
		require.NoError(t, holder.Close(t.Context()))
		p.ready().stop()
	})
}

// testManagedServerDecidesWhoReplicates puts a proxy before the server that does
// what Amazon's does: it lets a role replicate that has no attribute REPLICATION.
func testManagedServerDecidesWhoReplicates(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	w := newWorldOn(t, cluster.NewDatabase(t), "wal")
	w.createRole("test_member", "IN ROLE provwatch_wal")
	config, err := pgx.ParseConfig(w.url)
	require.NoError(t, err)
	env := w.twoProviders()
	target := func(host, port string) string {
		u := url.URL{Scheme: "postgres", User: url.User("test_member"), Path: "/" + config.Database, RawQuery: url.Values{
			"host": {host}, "port": {port}, "sslmode": {"disable"}}.Encode()}
		return u.String()
	}
	port := strconv.Itoa(int(config.Port))

	r := w.run(env.With("DATABASE_URL", target(config.Host, port)), "run")
	require.Equal(t, 4, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, `the role cannot replicate; ALTER ROLE "test_member" REPLICATION;`)
	w.exec("CREATE ROLE rds_replication; GRANT rds_replication TO test_member")
	r = w.run(env.With("DATABASE_URL", target(config.Host, port)), "run")
	require.Equal(t, 4, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, `the role cannot replicate; GRANT rds_replication TO "test_member";`)

	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	go func() {
		for {
			client, err := proxy.Accept()
			if err != nil {
				return
			}
			go replicateAs(client, config.Host+"/.s.PGSQL."+port, "test_member", "test_wal")
		}
	}()
	proxyHost, proxyPort, err := net.SplitHostPort(proxy.Addr().String())
	require.NoError(t, err)
	for _, source := range []string{"wal", "auto"} {
		p := w.start(env.With("DATABASE_URL", target(proxyHost, proxyPort)).With("PROVWATCH_SOURCE", source), "run").ready()
		p.waitFor("alerts come from this source now", "source=wal")
		p.stop()
	}
}

// replicateAs hands a connection on to the server's socket. A replication
// connection is another role's there.
func replicateAs(client net.Conn, socket, role, as string) {
	defer client.Close()
	server, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(client, head); err != nil {
		return
	}
	startup := make([]byte, binary.BigEndian.Uint32(head)-4)
	if _, err := io.ReadFull(client, startup); err != nil {
		return
	}
	text := string(startup)
	if strings.Contains(text, "\x00replication\x00") || strings.Contains(text, "replication\x00database\x00") {
		text = strings.Replace(text, "user\x00"+role+"\x00", "user\x00"+as+"\x00", 1)
	}
	message := append(binary.BigEndian.AppendUint32(nil, uint32(len(text)+4)), text...)
	if _, err := server.Write(message); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_, _ = io.Copy(server, client)
}
