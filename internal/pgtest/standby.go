package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	versionFunctionNames = 150000 // from which on a backup is not begun by pg_start_backup
	versionSlotSync      = 170000 // from which on a standby can synchronise slots
)

// StandbySlot is the replication slot of the primary that a standby streams from.
const StandbySlot = "standby"

// NewStandby starts a hot standby of the server, for this test alone. The server
// is stopped and started again for it.
func (c *Cluster) NewStandby(t testing.TB) *Cluster {
	t.Helper()
	c.Stop(t, "fast")
	return newCluster(t, func(s *Cluster) error {
		s.primary = c
		// Of a server that is shut down, so that no more than its files is needed.
		data := filepath.Join(s.dir, "data")
		if err := copyStopped(filepath.Join(c.dir, "data"), data); err != nil {
			return err
		}
		signal := exec.Command("cp", "-a", "PG_VERSION", "standby.signal") // whoever owns one owns the other
		signal.Dir = filepath.Join(data, "pgdata")
		return errors.Join(signal.Run(), c.startServer())
	})
}

// NewStreamingStandby starts a hot standby of the server while that runs, for this test
// alone: of a base backup, streaming from the slot [StandbySlot]. Where the server has
// failover slots, the standby synchronises them, and the server shows a logical
// subscriber nothing that the standby does not have.
func (c *Cluster) NewStreamingStandby(t testing.TB) *Cluster {
	t.Helper()
	standby, err := c.startStandby()
	if err != nil {
		t.Fatalf("making a standby of a test cluster: %v", err)
	}
	t.Cleanup(func() {
		if err := standby.remove(); err != nil {
			t.Error(err)
		}
	})
	return standby
}

func (c *Cluster) startStandby() (*Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.databaseURL("postgres"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var version int
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int FROM pg_create_physical_replication_slot($1, true)`, StandbySlot).Scan(&version); err != nil {
		return nil, fmt.Errorf("creating its slot: %w", err)
	}
	standby, err := start(func(s *Cluster) error {
		s.primary, s.binDir, s.settings = c, c.binDir, maps.Clone(c.settings)
		s.mountDisk(c.diskSize)
		s.set("primary_slot_name", StandbySlot)
		s.set("hot_standby_feedback", "on")
		if version >= versionSlotSync {
			s.set("sync_replication_slots", "on")
		}
		return c.backUp(ctx, conn, version, s)
	})
	if err != nil || version < versionSlotSync {
		return standby, err
	}
	c.synchronises, standby.synchronises = true, true
	return standby, c.exec("ALTER SYSTEM SET synchronized_standby_slots = '"+StandbySlot+"'", "SELECT pg_reload_conf()")
}

// backUp copies the files of the running server to a standby.
func (c *Cluster) backUp(ctx context.Context, conn *pgx.Conn, version int, standby *Cluster) error {
	begin, end := "SELECT pg_backup_start('standby', fast => true)", "SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)"
	if version < versionFunctionNames {
		begin, end = "SELECT pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	if _, err := conn.Exec(ctx, begin); err != nil {
		return fmt.Errorf("beginning a backup: %w", err)
	}
	from, to := filepath.Join(c.dir, "data"), filepath.Join(standby.dir, "data")
	for _, name := range []string{"", "password"} {
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	pgdata := filepath.Join(to, "pgdata")
	if err := copyFolder(filepath.Join(from, "pgdata"), pgdata); err != nil {
		return fmt.Errorf("copying the files: %w", err)
	}
	var label string
	if err := conn.QueryRow(ctx, end).Scan(&label); err != nil {
		return fmt.Errorf("ending the backup: %w", err)
	}
	return errors.Join(writeFile(pgdata, "backup_label", label), writeFile(pgdata, "standby.signal", ""))
}

// Promote makes a standby a primary.
func (c *Cluster) Promote(t testing.TB) {
	t.Helper()
	c.primary = nil
	delete(c.settings, "primary_slot_name")
	statements := []string{"SELECT pg_promote()"}
	if c.synchronises {
		// It may be set in a copy of the files of a server that had a standby.
		statements = append(statements, "ALTER SYSTEM RESET synchronized_standby_slots", "SELECT pg_reload_conf()")
	}
	if err := c.exec(statements...); err != nil {
		t.Fatalf("promoting a test cluster: %v", err)
	}
}

// Synchronises reports whether a standby synchronises failover slots.
func (c *Cluster) Synchronises() bool { return c.synchronises }

// DatabaseURL returns the URL of the same database as databaseURL, of another cluster, on
// this one.
func (c *Cluster) DatabaseURL(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err) // it is a cluster's
	}
	return c.databaseURL(strings.TrimPrefix(u.Path, "/"))
}

// Follow starts a stopped server as a standby of another one.
func (c *Cluster) Follow(t testing.TB, primary *Cluster) {
	t.Helper()
	c.primary = primary
	if err := errors.Join(writeFile(filepath.Join(c.dir, "data", "pgdata"), "standby.signal", ""), c.startServer()); err != nil {
		t.Fatalf("starting a test cluster as a standby: %v", err)
	}
}

// Kill ends all processes of the server by SIGKILL.
func (c *Cluster) Kill(t testing.TB) {
	t.Helper()
	processes := c.Freeze(t)
	for _, pid := range processes {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for deadline := time.Now().Add(timeout); slices.ContainsFunc(processes, c.runs); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("killing a test cluster: its processes %v have not ended after %v", processes, timeout)
		}
	}
	if err := c.stop("fast"); err != nil {
		t.Fatal(err)
	}
}

// Freeze stops all processes of the server by SIGSTOP, and returns them, the postmaster
// first.
func (c *Cluster) Freeze(t testing.TB) []int {
	t.Helper()
	postmaster, err := c.postmaster()
	if err != nil {
		t.Fatalf("freezing a test cluster: %v", err)
	}
	// It starts no other process from here on.
	_ = syscall.Kill(postmaster, syscall.SIGSTOP)
	processes := []int{postmaster}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		panic(err) // the pattern is well-formed
	}
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		// PID (NAME) STATE PARENT …, where NAME may hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if err != nil || len(fields) < 2 || string(fields[1]) != strconv.Itoa(postmaster) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		processes = append(processes, pid)
	}
	return processes
}

// Thaw lets processes that [Cluster.Freeze] has stopped go on, or those of single sessions.
func (c *Cluster) Thaw(processes ...int) {
	for _, pid := range slices.Backward(processes) {
		if c.runs(pid) {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// FreezeSession stops the process of one session, or of a worker of the server, by SIGSTOP. It reports
// whether there was one.
func (c *Cluster) FreezeSession(pid int) bool {
	return c.runs(pid) && syscall.Kill(pid, syscall.SIGSTOP) == nil
}

// runs reports whether a process is one of the server: each has the data directory as its
// working directory.
func (c *Cluster) runs(pid int) bool {
	at, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	return err == nil && at == filepath.Join(c.dir, "data", "pgdata")
}

// Save copies the files of a stopped server. What it returns puts them back, into the
// place of those that a stopped server has then.
func (c *Cluster) Save(t testing.TB) (putBack func()) {
	t.Helper()
	pgdata, saved := filepath.Join(c.dir, "data", "pgdata"), filepath.Join(c.dir, "saved")
	run := func(program string, args ...string) {
		t.Helper()
		if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
			t.Fatalf("copying the files of a test cluster: %v: %s", err, out)
		}
	}
	run("cp", "-a", pgdata, saved)
	return func() {
		t.Helper()
		run("rm", "-rf", pgdata)
		run("cp", "-a", saved, pgdata)
	}
}

// FillDisk leaves no room on the disk of the server, until what it returns is called. It
// reports false where the server has no disk of its own.
func (c *Cluster) FillDisk(t testing.TB) (empty func(), filled bool) {
	t.Helper()
	if c.diskSize == "" {
		return nil, false
	}
	filler, err := os.Create(filepath.Join(c.dir, "filler"))
	if err != nil {
		t.Fatalf("filling the disk of a test cluster: %v", err)
	}
	chunk := make([]byte, 1<<20)
	for len(chunk) > 0 {
		if _, err := filler.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	return func() {
		_ = filler.Close()
		if err := os.Remove(filler.Name()); err != nil {
			t.Fatalf("emptying the disk of a test cluster: %v", err)
		}
	}, true
}

// Revive waits until the server answers, and starts it where it has ended by itself.
func (c *Cluster) Revive(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(timeout); ; time.Sleep(50 * time.Millisecond) {
		if pid, err := c.postmaster(); err != nil || !c.runs(pid) {
			if err := c.stop("fast"); err != nil {
				t.Fatal(err)
			}
			c.StartAgain(t)
			return
		}
		if err := c.exec("SELECT 1"); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a test cluster does not answer after %v", timeout)
		}
	}
}
