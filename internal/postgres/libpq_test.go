package postgres_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
)

// passedOver are keywords of libpq that have no meaning for the worker.
const passedOver = `gssencmode=disable gsslib=gssapi gssdelegation=0 krbsrvname=postgres load_balance_hosts=random sslcompression=0 sslcrl='' sslcrldir=''
	requirepeer='' replication=database client_encoding=auto keepalives=1 keepalives_idle=30 keepalives_interval=7 keepalives_count=4 tcp_user_timeout=9000
	ssl_min_protocol_version=TLSv1.2 ssl_max_protocol_version='' fallback_application_name=x hostaddr='' connect_timeout=-1 `

// TestLibpqKeywords connects to a real server with each keyword of libpq that means
// nothing to it.
func TestLibpqKeywords(t *testing.T) {
	withoutVariables(t)
	good, err := pgx.ParseConfig(pgtest.NewDatabase(t))
	require.NoError(t, err)
	place := "host=" + good.Host + " port=" + strconv.Itoa(int(good.Port)) + " user=" + good.User + " dbname=" + good.Database + " "
	connect := func(t *testing.T, text string) (applicationName string) {
		t.Helper()
		config, err := postgres.ParseURL(text)
		require.NoError(t, err)
		conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('application_name')").Scan(&applicationName))
		return applicationName
	}
	t.Run("InTheConnectionString", func(t *testing.T) {
		require.Equal(t, "x", connect(t, place+passedOver))
		require.Equal(t, "y", connect(t, place+passedOver+"application_name=y"))
		require.Equal(t, "provwatch", connect(t, place))
	})
	t.Run("InTheServiceFile", func(t *testing.T) {
		t.Setenv("PGSERVICE", "gateway")
		t.Setenv("PGSERVICEFILE", filepath.Join(t.TempDir(), "services"))
		require.NoError(t, os.WriteFile(os.Getenv("PGSERVICEFILE"), []byte("[gateway]\nfallback_application_name=z\nkeepalives_idle=30\ngssencmode=prefer\ntcp_user_timeout=9000\n"), 0o600))
		require.Equal(t, "z", connect(t, place))
		require.NoError(t, os.WriteFile(os.Getenv("PGSERVICEFILE"), []byte("[gateway]\nsslcrl=/a\n"), 0o600))
		_, err := postgres.ParseURL(place)
		require.ErrorContains(t, err, "the service file (PGSERVICEFILE) has sslcrl, which cannot be honoured")
	})
	t.Run("InVariables", func(t *testing.T) {
		t.Setenv("PGGSSENCMODE", "disable")
		t.Setenv("PGLOADBALANCEHOSTS", "random")
		require.Equal(t, "provwatch", connect(t, place))
		t.Setenv("PGSSLMODE", "bogus")
		_, err := postgres.ParseURL(place)
		require.EqualError(t, err, "PGSSLMODE has a value of sslmode that is not one of disable, allow, prefer, require, verify-ca, verify-full")
		t.Setenv("PGSSLMODE", "")
		t.Setenv("PGSSLCRL", "/a")
		_, err = postgres.ParseURL(place)
		require.ErrorContains(t, err, "PGSSLCRL has sslcrl, which cannot be honoured")
	})
}

// TestHostaddr requires that hostaddr is connected to, and that host stays what TLS
// verifies.
func TestHostaddr(t *testing.T) {
	withoutVariables(t)
	type place struct {
		host string
		port uint16
		name string // that TLS verifies
	}
	places := func(t *testing.T, text string) (places []place) {
		t.Helper()
		config, err := postgres.ParseURL(text)
		require.NoError(t, err)
		name := func(c *tls.Config) string {
			if c == nil {
				return ""
			}
			return c.ServerName
		}
		c := config.ConnConfig
		require.NotContains(t, c.RuntimeParams, "hostaddr")
		places = append(places, place{c.Host, c.Port, name(c.TLSConfig)})
		for _, f := range c.Fallbacks {
			places = append(places, place{f.Host, f.Port, name(f.TLSConfig)})
		}
		return places
	}
	verified := "sslmode=verify-full "
	require.Equal(t, []place{{"127.0.0.1", 5432, "db.invalid"}}, places(t, verified+"host=db.invalid hostaddr=127.0.0.1"))
	require.Equal(t, []place{{"::1", 5432, "db.invalid"}}, places(t, "postgres://db.invalid/d?sslmode=verify-full&hostaddr=::1"))
	require.Equal(t, []place{{"127.0.0.1", 1, "127.0.0.1"}}, places(t, verified+"hostaddr=127.0.0.1 port=1"))
	require.Equal(t, []place{{"127.0.0.1", 1, "a"}, {"b", 2, "b"}, {"127.0.0.3", 3, "a"}}, places(t, verified+"host=a,b,a hostaddr=127.0.0.1,,127.0.0.3 port=1,2,3"))
	// With TLS and without, except for a unix socket.
	require.Equal(t, []place{{"127.0.0.1", 1, "a"}, {"127.0.0.1", 1, ""}, {"/tmp", 1, ""}, {"127.0.0.3", 1, "c"}, {"127.0.0.3", 1, ""}},
		places(t, "host=a,/tmp,c hostaddr=127.0.0.1,,127.0.0.3 port=1 sslmode=prefer"))
	require.Equal(t, []place{{"127.0.0.1", 5432, ""}}, places(t, "host=/tmp hostaddr=127.0.0.1 sslmode=disable"))

	t.Setenv("PGHOSTADDR", "127.0.0.9")
	require.Equal(t, []place{{"127.0.0.9", 5432, "db.invalid"}}, places(t, verified+"host=db.invalid"))
	t.Setenv("PGHOST", "other.invalid")
	require.Equal(t, []place{{"127.0.0.9", 5432, "other.invalid"}}, places(t, verified))
}

func TestTLSVersions(t *testing.T) {
	withoutVariables(t)
	config, err := postgres.ParseURL("host=a,b sslmode=prefer ssl_min_protocol_version=tlsv1.3 ssl_max_protocol_version=TLSv1.3")
	require.NoError(t, err)
	all := []*tls.Config{config.ConnConfig.TLSConfig}
	for _, f := range config.ConnConfig.Fallbacks {
		if f.TLSConfig != nil {
			all = append(all, f.TLSConfig)
		}
	}
	require.Len(t, all, 2)
	for _, c := range all {
		require.Equal(t, []uint16{tls.VersionTLS13, tls.VersionTLS13}, []uint16{c.MinVersion, c.MaxVersion})
	}
	t.Setenv("PGSSLMINPROTOCOLVERSION", "TLSv1.3")
	config, err = postgres.ParseURL("host=a")
	require.NoError(t, err)
	require.EqualValues(t, tls.VersionTLS13, config.ConnConfig.TLSConfig.MinVersion)
}

// TestKeepAlives asks the operating system for the keep-alives that the keywords set.
func TestKeepAlives(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the options of Linux")
	}
	withoutVariables(t)
	server, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	const userTimeout = 0x12
	options := func(text string) map[string]int {
		config, err := postgres.ParseURL("host=h " + text)
		require.NoError(t, err)
		conn, err := config.ConnConfig.DialFunc(context.WithoutCancel(t.Context()), "tcp", server.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		raw, err := conn.(syscall.Conn).SyscallConn()
		require.NoError(t, err)
		found := map[string]int{}
		require.NoError(t, raw.Control(func(fd uintptr) {
			for name, option := range map[string][2]int{
				"on": {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE}, "idle": {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE},
				"interval": {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL}, "count": {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT}, "limit": {syscall.IPPROTO_TCP, userTimeout},
			} {
				found[name], err = syscall.GetsockoptInt(int(fd), option[0], option[1])
				require.NoError(t, err)
			}
		}))
		return found
	}
	system := options("keepalives=0")
	require.Zero(t, system["on"])
	require.Equal(t, map[string]int{"on": 1, "idle": 15, "interval": 5, "count": 3, "limit": 0}, options(""))
	require.Equal(t, map[string]int{"on": 1, "idle": 30, "interval": 7, "count": 4, "limit": 9000},
		options("keepalives_idle=30 keepalives_interval=7 keepalives_count=4 tcp_user_timeout=9000"))
	system["on"] = 1
	require.Equal(t, system, options("keepalives_idle=0 keepalives_interval=0 keepalives_count=0 tcp_user_timeout=0"))
}
