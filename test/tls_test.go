//go:build e2e

package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// authority is a CA.
type authority struct {
	t    *testing.T
	dir  string // of certificates and keys that a worker is given
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // the CA's certificate
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.file = a.write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func (a *authority) write(name string, content []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	require.NoError(a.t, os.WriteFile(path, content, 0o600))
	return path
}

// issue issues a certificate for a host or for a role, and returns the files of it
// and of its key.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	return a.issueUntil(name, time.Now().Add(time.Hour))
}

func (a *authority) issueUntil(name string, end time.Time) (cert, key string) {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	require.NoError(a.t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(a.t, err)
	name += serial.Text(36)
	return a.write(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		a.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// offerTLS makes the server offer TLS and take no connection by TCP without it:
// with a client certificate for the role test_certified, with a password for others.
func (w *world) offerTLS(a *authority) {
	w.t.Helper()
	dir := w.strings(`SELECT current_setting('data_directory')`)[0]
	info, err := os.Stat(dir)
	require.NoError(w.t, err)
	owner := info.Sys().(*syscall.Stat_t)
	cert, key := a.issue("localhost")
	for name, source := range map[string]string{"server.crt": cert, "server.key": key, "root.crt": a.file} {
		content, err := os.ReadFile(source)
		require.NoError(w.t, err)
		require.NoError(w.t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
		require.NoError(w.t, os.Chown(filepath.Join(dir, name), int(owner.Uid), int(owner.Gid)))
	}
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, "pg_hba.conf"), []byte(`
		local   all all            trust
		hostssl all test_certified 127.0.0.1/32 cert clientcert=verify-full
		hostssl all all            127.0.0.1/32 scram-sha-256
		`), 0o600))
	for _, statement := range []string{
		`ALTER SYSTEM SET ssl_ca_file = 'root.crt'`, `ALTER SYSTEM SET ssl = on`, `SELECT pg_reload_conf()`,
		`CREATE ROLE test_certified LOGIN REPLICATION IN ROLE provwatch_wal`,
	} {
		w.exec(statement)
	}
	eventually(w.t, func() bool { return w.strings(`SHOW ssl`)[0] == "on" }, "the server offers TLS")
}

// secretFile registers what a file of a key holds as a secret.
func (w *world) secretFile(path string) {
	w.t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(w.t, err)
	w.secret(string(bytes.Split(content, []byte("\n"))[1]))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	t.Run("VerifiedOnEveryConnection", testTLSVerifiedOnEveryConnection)
	t.Run("NoPasswordToAnotherServer", testTLSNoPasswordToAnotherServer)
}

func testTLSVerifiedOnEveryConnection(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	w := newWorldOn(t, cluster.NewDatabase(t), "")
	require.Equal(t, 0, w.run(environ{"PROVWATCH_SOURCE": "notify"}, "migrate").Code)
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	oldCert, oldKey := ours.issueUntil("test_certified", time.Now().Add(-time.Minute))
	cert, key := ours.issue("test_certified")
	ownCert, ownKey := others.issue("test_certified")
	otherCert, otherKey := ours.issue("test_wal")
	for _, file := range []string{oldKey, key, ownKey, otherKey} {
		w.secretFile(file)
	}
	_, port, err := net.SplitHostPort(cluster.TCPAddr())
	require.NoError(t, err)
	database := w.strings(`SELECT current_database()::text`)[0]
	// target returns a DATABASE_URL; more is of pairs of parameters.
	target := func(user *url.Userinfo, host string, more ...string) string {
		parameters := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {ours.file}}
		for i := 0; i < len(more); i += 2 {
			parameters.Set(more[i], more[i+1])
		}
		u := url.URL{Scheme: "postgres", User: user, Host: net.JoinHostPort(host, port), Path: "/" + database, RawQuery: parameters.Encode()}
		return u.String()
	}
	password := url.UserPassword("test_wal", w.secret(passwordOf("test_wal")))
	certified := url.User("test_certified")
	env := w.twoProviders()
	refused := func(name, url string, texts ...string) {
		t.Helper()
		for _, command := range []string{"run", "verify"} {
			r := w.run(env.With("DATABASE_URL", url), command)
			require.Equal(t, 4, r.Code, "%s: %s", name, r.Stderr)
			require.Contains(t, r.Stderr, "worker: cannot connect to PostgreSQL at ", name)
			require.NotContains(t, r.Stderr, "retrying", "%s: waiting does not mend it", name)
			for _, text := range texts {
				require.Contains(t, r.Stderr, text, name)
			}
		}
	}

	refused("a server without TLS", target(password, "localhost"), "server refused TLS connection", "the server has no TLS: set ssl=on there")
	w.offerTLS(ours)
	refused("another CA", target(password, "localhost", "sslrootcert", others.file),
		"certificate signed by unknown authority", "signed by a CA of the file sslrootcert (PGSSLROOTCERT)")
	refused("another host name", target(password, "127.0.0.1"), "127.0.0.1", "connect by a host name that is in the server's certificate")
	refused("an address in place of the host name's", target(password, "db.invalid", "hostaddr", "127.0.0.1"),
		"not db.invalid", "connect by a host name that is in the server's certificate")
	refused("no TLS where it is asked for", target(password, "localhost", "sslmode", "disable"), "no encryption", "sslmode (PGSSLMODE) for TLS")
	refused("no client certificate", target(certified, "localhost"),
		"connection requires a valid client certificate", "sslcert and sslkey (PGSSLCERT, PGSSLKEY)")
	refused("another role's client certificate", target(certified, "localhost", "sslcert", otherCert, "sslkey", otherKey),
		"certificate authentication failed", "which must name it")
	refused("a client certificate of another CA", target(certified, "localhost", "sslcert", ownCert, "sslkey", ownKey),
		"connection requires a valid client certificate", "signed by a CA of the server's ssl_ca_file")
	// What the server says can be lost with the connection, which is then made again.
	r := w.run(env.With("DATABASE_URL", target(certified, "localhost", "sslcert", oldCert, "sslkey", oldKey)), "run")
	require.Equal(t, 4, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "remote error: tls: expired certificate; the server refused the certificate of sslcert (PGSSLCERT): renew it")
	require.Zero(t, w.count(`SELECT count(*) FROM ai_providers`))

	var want []string
	before := ""
	for i, works := range []struct{ url, source string }{
		{target(password, "localhost"), "wal"},
		{target(certified, "localhost", "sslcert", cert, "sslkey", key), "wal"},
		{target(certified, "localhost", "sslcert", cert, "sslkey", key), "notify"},
		{target(password, "localhost", "hostaddr", "127.0.0.1", "ssl_min_protocol_version", "TLSv1.3", "gssencmode", "disable", "keepalives_idle", "30"), "notify"},
	} {
		p := w.start(env.With("DATABASE_URL", works.url), "run", "--source", works.source).ready()
		kind := []string{"disabled", "resolved"}[i%2]
		if before == "wal" && works.source == "notify" {
			want = append(want, "gap") // the slot is dropped
		}
		before = works.source
		w.exec(`UPDATE ai_providers SET enabled = $1 WHERE name = 'openai'`, i%2 == 1)
		want = append(want, kind+" openai")
		w.expectAlerts(want...)
		sessions := []string{"provwatch true", "provwatch-listener true"}
		if works.source == "wal" {
			sessions = append(sessions, "provwatch-wal true")
		}
		require.Equal(t, sessions, w.strings(`SELECT DISTINCT application_name || ' ' || ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
			WHERE application_name LIKE 'provwatch%' ORDER BY 1`))
		p.stop()
	}
}

// testTLSNoPasswordToAnotherServer puts a server of the
// test's own in PostgreSQL's place, which keeps what it is sent.
func testTLSNoPasswordToAnotherServer(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	cert, key := others.issue("localhost")
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	for name, config := range map[string]*tls.Config{"without TLS": nil, "of another CA": {Certificates: []tls.Certificate{pair}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			var connections int
			var sent bytes.Buffer // after the request for TLS, and in it
			var group sync.WaitGroup
			group.Go(func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					connections++
					_, _ = io.ReadFull(conn, make([]byte, 8))
					if config == nil {
						_, _ = conn.Write([]byte("N"))
						_, _ = io.Copy(&sent, conn)
					} else {
						_, _ = conn.Write([]byte("S"))
						_, _ = io.Copy(&sent, tls.Server(conn, config))
					}
					_ = conn.Close()
				}
			})
			_, port, err := net.SplitHostPort(listener.Addr().String())
			require.NoError(t, err)
			u := "postgres://worker:" + w.secret("password-for-nobody-else") + "@localhost:" + port + "/d?sslmode=verify-full&sslrootcert=" + url.QueryEscape(ours.file)
			r := w.run(w.twoProviders().With("DATABASE_URL", u), "run")
			require.NoError(t, listener.Close())
			group.Wait()
			require.Equal(t, 4, r.Code, r.Stderr)
			require.Positive(t, connections)
			require.Empty(t, sent.String())
			require.NotContains(t, w.emitted.String(), "password-for-nobody-else")
		})
	}
}
