package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/embedded"
	"provwatch/internal/porttest"
)

// Cluster is a PostgreSQL server for tests. Its methods other than NewDatabase
// and URL must not be called concurrently.
type Cluster struct {
	dir       string           // of the data dir and nothing else
	server    *embedded.Server // nil while stopped
	socketDir string
	port      *porttest.Port // also while it is stopped
	listens   string         // the address that it listens at beside 127.0.0.1, empty for none
	databases atomic.Int64
	// admin has sessions in the database "postgres" of the cluster of [NewDatabase], which
	// creates and drops a database for each test. Nil of another cluster.
	admin   *pgxpool.Pool
	primary *Cluster // of a hot standby, nil for another
	// settings are added to those of all clusters. binDir is the folder of the programs,
	// empty for that of [BinDir].
	settings map[string]string
	binDir   string
	// diskSize is that of the disk that dir is, empty for a folder of a larger one.
	// synchronises says that the server has failover slots, and is a standby's primary or
	// was a standby.
	diskSize     string
	synchronises bool

	// templates create the database of a name, once, that others are copies of.
	templatesMu sync.Mutex
	templates   map[string]func() error

	// The undertaker is a process that stops the server and removes dir once
	// its standard input is closed: by remove, or by the end of this process
	// whichever way it ends, the test timeout's panic and SIGKILL included.
	undertaker *exec.Cmd
	bell       io.Closer
}

const undertakerScript = `
cat >/dev/null
pid=$(head -n 1 "$1/data/pgdata/postmaster.pid" 2>/dev/null) &&
	while kill -QUIT "$pid" 2>/dev/null; do sleep 0.1; done
# A session can outlive the server for a moment, and keeps the disk busy.
for try in $(seq 600); do
	rm -rf "$1"/* 2>/dev/null
	umount "$1" 2>/dev/null
	rm -rf "$1" 2>/dev/null && exit
	sleep 0.1
done
exec rm -rf "$1"`

// NewCluster starts a server for this test alone, which is stopped and removed
// at its end.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	return NewClusterWith(t, Options{})
}

// Options say how a cluster differs from others.
type Options struct {
	BinDir   string            // the folder of the programs, empty for that of [BinDir]
	Settings map[string]string // beside those of all clusters
	// DiskSize is the size of a disk for the data, such as 1g, where this process may mount
	// one. [Cluster.FillDisk] fills it.
	DiskSize string
}

// NewClusterWith is [NewCluster] of a server that differs from others.
func NewClusterWith(t testing.TB, o Options) *Cluster {
	t.Helper()
	return newCluster(t, func(c *Cluster) error {
		c.binDir, c.settings = o.BinDir, maps.Clone(o.Settings)
		c.mountDisk(o.DiskSize)
		return nil
	})
}

// newCluster starts a server as [start] does, until the end of the test.
func newCluster(t testing.TB, prepare func(*Cluster) error) *Cluster {
	t.Helper()
	c, err := start(prepare)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.remove(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// mountDisk makes a disk of a size for the server's folder, where that is permitted.
func (c *Cluster) mountDisk(size string) {
	if size == "" || exec.Command("mount", "-t", "tmpfs", "-o", "mode=0755,size="+size, "tmpfs", c.dir).Run() != nil {
		return
	}
	c.diskSize = size
}

// set sets a parameter of the server, from its next start on.
func (c *Cluster) set(name, value string) {
	if c.settings == nil {
		c.settings = map[string]string{}
	}
	c.settings[name] = value
}

// start starts a server, in the data dir that prepare has filled unless it is nil.
func start(prepare func(*Cluster) error) (_ *Cluster, err error) {
	dir, err := os.MkdirTemp(scratch(), "provwatch-pgtest-")
	if err != nil {
		return nil, fmt.Errorf("starting a test cluster: %w", err)
	}
	c := &Cluster{dir: dir, undertaker: exec.Command("/bin/sh", "-c", undertakerScript, "sh", dir)}
	// A Ctrl-C in the terminal is not meant for it.
	c.undertaker.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.bell, err = c.undertaker.StdinPipe(); err == nil {
		err = c.undertaker.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting a test cluster: %w", err), os.RemoveAll(dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove())
		}
	}()
	if c.port, err = porttest.Reserve(); err != nil {
		return nil, fmt.Errorf("starting a test cluster: %w", err)
	}

	// The server's user, who is not root, has to get at the data dir.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, fmt.Errorf("starting a test cluster: %w", err)
	}
	if prepare != nil {
		if err := prepare(c); err != nil {
			return nil, fmt.Errorf("preparing a test cluster: %w", err)
		}
	}
	if err := c.startServer(); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(c.server.ConnString())
	if err != nil {
		return nil, fmt.Errorf("starting a test cluster: %w", err)
	}
	c.socketDir = config.Host
	return c, nil
}

// startServer starts the server.
func (c *Cluster) startServer() (err error) {
	s := maps.Clone(settings)
	s["port"] = strconv.Itoa(c.port.Number)
	if c.listens != "" {
		s["listen_addresses"] = "127.0.0.1," + c.listens
	}
	if c.primary != nil {
		// Of the database, which it is not asked for otherwise, slots are synchronised.
		s["primary_conninfo"] = fmt.Sprintf("host='%s' port=%d user=provwatch dbname=postgres", c.primary.socketDir, c.primary.port.Number)
	}
	maps.Copy(s, c.settings)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c.server, err = embedded.Start(ctx, embedded.Options{DataDir: filepath.Join(c.dir, "data"), BinDir: cmp.Or(c.binDir, BinDir()), Settings: s})
	return err
}

// stop stops the server by "fast" or "immediate" shutdown.
func (c *Cluster) stop(mode string) error {
	if c.server == nil {
		return nil
	}
	if mode == "immediate" {
		if err := c.kill(); err != nil {
			return fmt.Errorf("stopping a test cluster: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := c.server.Stop(ctx)
	c.server = nil
	return err
}

// kill shuts the server down without a checkpoint and waits for its end.
func (c *Cluster) kill() error {
	pid, err := c.postmaster()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return err
	}
	name := filepath.Join(c.dir, "data", "pgdata", "postmaster.pid")
	for deadline := time.Now().Add(timeout); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server (pid %d) has not ended after %v", pid, timeout)
		}
	}
}

// postmaster returns the process id of the server.
func (c *Cluster) postmaster() (int, error) {
	name := filepath.Join(c.dir, "data", "pgdata", "postmaster.pid")
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", name, err)
	}
	return pid, nil
}

// remove stops the server and removes its folder.
func (c *Cluster) remove() error {
	err := errors.Join(c.stop("immediate"), c.bell.Close(), c.undertaker.Wait())
	if c.port != nil {
		err = errors.Join(err, c.port.Close())
	}
	return err
}

// URL returns the URL of the cluster's database "provwatch", by unix socket as
// a superuser. It stays the same over a restart.
func (c *Cluster) URL() string { return c.databaseURL("provwatch") }

func (c *Cluster) databaseURL(name string) string {
	// net/url, which pgx uses, has no percent-encoded slash in a host, so the
	// folder goes where libpq takes it too.
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User("provwatch"),
		Path:     "/" + name,
		RawQuery: url.Values{"host": {c.socketDir}, "port": {strconv.Itoa(c.port.Number)}, "sslmode": {"disable"}}.Encode(),
	}
	return u.String()
}

func (c *Cluster) nextName() string { return "test_" + strconv.FormatInt(c.databases.Add(1), 10) }

// exec runs statements, each on its own, in the database "postgres".
func (c *Cluster) exec(statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if c.admin != nil {
		return c.admin.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return execOn(ctx, conn.Conn(), statements) })
	}
	conn, err := pgx.Connect(ctx, c.databaseURL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return execOn(ctx, conn, statements)
}

func execOn(ctx context.Context, conn *pgx.Conn, statements []string) error {
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// Stop stops the server. mode is "fast", for a proper shutdown, or
// "immediate", for an end as in a crash, after which the server has to
// recover.
func (c *Cluster) Stop(t testing.TB, mode string) {
	t.Helper()
	if mode != "fast" && mode != "immediate" {
		t.Fatalf("stopping a test cluster: there is no mode %q", mode)
	}
	if err := c.stop(mode); err != nil {
		t.Fatal(err)
	}
}

// StartAgain starts the server after [Cluster.Stop], at the same port and
// socket.
func (c *Cluster) StartAgain(t testing.TB) {
	t.Helper()
	if err := c.startServer(); err != nil {
		t.Fatal(err)
	}
}

// Restart is [Cluster.Stop] and [Cluster.StartAgain].
func (c *Cluster) Restart(t testing.TB, mode string) {
	t.Helper()
	c.Stop(t, mode)
	c.StartAgain(t)
}

// RestartWith is [Cluster.Restart] with another value of a setting.
func (c *Cluster) RestartWith(t testing.TB, name, value string) {
	t.Helper()
	c.settings = maps.Clone(c.settings)
	if c.settings == nil {
		c.settings = map[string]string{}
	}
	c.settings[name] = value
	c.Restart(t, "fast")
}

// TCPAddr returns the host:port at which the server listens for TCP, for
// proxies that cut connections.
func (c *Cluster) TCPAddr() string {
	return c.port.Address()
}

// Listen makes the server listen for TCP at another address of this machine as well, for
// clients of its network by password. The server restarts for it.
func (c *Cluster) Listen(t testing.TB, network netip.Prefix) {
	t.Helper()
	name := filepath.Join(c.dir, "data", "pgdata", "pg_hba.conf")
	rules, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatalf("opening the rules of a test cluster: %v", err)
	}
	_, err = fmt.Fprintf(rules, "host all,replication all %s scram-sha-256\n", network.Masked())
	if err := errors.Join(err, rules.Close()); err != nil {
		t.Fatalf("writing the rules of a test cluster: %v", err)
	}
	c.listens = network.Addr().String()
	c.Restart(t, "fast")
}

// TCPURL returns the URL of the same database as databaseURL, one of this
// cluster's, by way of TCP at addr: [Cluster.TCPAddr] or a proxy before it. The
// URL holds the password, which TCP needs.
func (c *Cluster) TCPURL(t testing.TB, databaseURL, addr string) string {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(c.dir, "data", "password"))
	if err != nil {
		t.Fatalf("reading the password of a test cluster: %v", err)
	}
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatalf("parsing the URL of a test database: %v", err)
	}
	u.User = url.UserPassword("provwatch", strings.TrimSpace(string(password)))
	u.Host = addr
	u.RawQuery = "sslmode=disable"
	return u.String()
}
