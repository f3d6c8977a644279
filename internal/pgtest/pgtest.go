// Package pgtest gives tests databases on real PostgreSQL servers: an empty
// database per test on a server that a package's tests share, or a server of
// its own for a test that stops or kills it.
//
// It needs the programs of PostgreSQL, see [BinDir], and uses no server that is
// already running.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"
)

// shared is the cluster of [NewDatabase].
var shared struct {
	mu      sync.Mutex
	cluster *Cluster
	err     error // of the one attempt to start it
}

// Main is [Run] and os.Exit; call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// proxies are goroutines that a TCP proxy of toxiproxy 2.5.0 can leave behind for
// good when it is stopped while one of its toxics resets a stream, or when a toxic waits for
// a stream that has ended.
var proxies = []string{
	"github.com/Shopify/toxiproxy/v2.(*ToxicLink).read",
	"github.com/Shopify/toxiproxy/v2.(*ToxicLink).write",
	"github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run",
	"github.com/Shopify/toxiproxy/v2.(*ToxicCollection).AddToxicJson",
	"github.com/Shopify/toxiproxy/v2.(*ToxicCollection).RemoveToxic",
	"github.com/Shopify/toxiproxy/v2.(*ToxicLink).AddToxic",
}

// Run runs a package's tests, removes the cluster that they shared and then
// fails if the tests left goroutines behind. It returns the exit code.
func Run(m *testing.M) int {
	ignored := []goleak.Option{goleak.IgnoreCurrent()}
	for _, function := range proxies {
		ignored = append(ignored, goleak.IgnoreAnyFunction(function))
	}
	code := m.Run()
	shared.mu.Lock()
	if shared.cluster != nil {
		shared.cluster.admin.Close()
		if err := shared.cluster.remove(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	shared.mu.Unlock()
	// A test that failed may well have left something running.
	if code == 0 {
		if err := goleak.Find(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// NewDatabase creates an empty database on the cluster that the tests of a
// package share, and returns its URL, for pgx and libpq alike. The database is
// dropped at the end of the test, with its replication slots and whoever is
// still connected. The package's TestMain must call [Main].
func NewDatabase(t testing.TB) string {
	t.Helper()
	return sharedCluster(t).NewDatabase(t)
}

// NewDatabaseFrom is [NewDatabase] with what fill has put into a database that it is
// given the URL of. Each database of the template's name is a copy of that one, which is
// filled once: it takes less than to fill each.
func NewDatabaseFrom(t testing.TB, template string, fill func(databaseURL string) error) string {
	t.Helper()
	c := sharedCluster(t)
	template = "template_" + template
	if err := c.template(template, fill); err != nil {
		t.Fatalf("filling a test database: %v", err)
	}
	return c.newDatabase(t, c.nextName(), template)
}

// NamedDatabase is [NewDatabase] with a name that no other test uses, for one that
// shows it to people.
func NamedDatabase(t testing.TB, name string) string {
	t.Helper()
	return sharedCluster(t).newDatabase(t, name, "")
}

func sharedCluster(t testing.TB) *Cluster {
	t.Helper()
	shared.mu.Lock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = start((*Cluster).copyInitialised)
		if shared.err == nil {
			shared.cluster.admin, shared.err = pgxpool.New(context.Background(), shared.cluster.databaseURL("postgres"))
		}
	}
	c, err := shared.cluster, shared.err
	shared.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// NewDatabase creates an empty database and returns its URL. It is dropped at
// the end of the test, if the server is running then.
func (c *Cluster) NewDatabase(t testing.TB) string {
	t.Helper()
	return c.newDatabase(t, c.nextName(), "")
}

// template creates a database that others are copies of, unless it was created before. It
// must have no session once fill has returned.
func (c *Cluster) template(name string, fill func(databaseURL string) error) error {
	c.templatesMu.Lock()
	if c.templates == nil {
		c.templates = map[string]func() error{}
	}
	made := c.templates[name]
	if made == nil {
		made = sync.OnceValue(func() error {
			if err := c.exec("CREATE DATABASE " + name); err != nil {
				return err
			}
			return fill(c.databaseURL(name))
		})
		c.templates[name] = made
	}
	c.templatesMu.Unlock()
	return made()
}

// newDatabase creates a database, as a copy of the template unless that is empty.
func (c *Cluster) newDatabase(t testing.TB, name, template string) string {
	t.Helper()
	create := "CREATE DATABASE " + name
	if template != "" {
		create += " TEMPLATE " + template
	}
	if err := c.exec(create); err != nil {
		t.Fatalf("creating a test database: %v", err)
	}
	t.Cleanup(func() {
		if c.server == nil {
			return
		}
		if err := c.dropDatabase(name); err != nil {
			t.Errorf("dropping a test database: %v", err)
		}
	})
	return c.databaseURL(name)
}

const (
	// dropPause is the time between two attempts to drop a database.
	dropPause = 50 * time.Millisecond
	// dropTimeout is how long attempts go on. What does not pass, such as a prepared
	// transaction, is the test's fault.
	dropTimeout = time.Minute
)

// dropDatabase drops a database and ends its sessions. What a test has ended can still be about
// to connect, to take a slot or to drop it: the database is dropped once that is over.
func (c *Cluster) dropDatabase(name string) (err error) {
	for deadline := time.Now().Add(dropTimeout); ; time.Sleep(dropPause) {
		// A slot keeps its database from being dropped, and its walsender
		// keeps the slot.
		err = c.exec(
			"SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE database = '"+name+"' AND active",
			"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '"+name+"'",
			"DROP DATABASE IF EXISTS "+name+" WITH (FORCE)",
		)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || !slices.Contains(passing, refused.Code) || time.Now().After(deadline) {
			return err
		}
	}
}

// passing are the errors of dropping a database that pass: somebody is connected or has a
// slot, or another has dropped that meanwhile.
var passing = []string{pgerrcode.ObjectInUse, pgerrcode.UndefinedObject}
