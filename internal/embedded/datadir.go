package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// tempInitPrefix begins the name of a data directory that initdb is making.
const tempInitPrefix = "pgdata.tmp-"

// makeDataDir makes the data dir, or checks that the server's account can
// reach the one there is. An existing folder with something in it changes
// neither owner nor permissions: it may be used for more than this server.
func (c *cluster) makeDataDir(ctx context.Context) error {
	if err := c.account.checkReach(ctx, filepath.Dir(c.dir)); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(c.dir), 0o755); err == nil {
			err = os.Mkdir(c.dir, 0o700)
		}
		// Another worker may be making the same folder.
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err == nil && len(entries) == 0 {
		err = c.account.own(c.dir)
	}
	if err != nil {
		return fmt.Errorf("making the data dir: %w: choose another --data-dir, or give the worker's user access to this one", err)
	}
	return c.account.checkReach(ctx, c.dir)
}

// acquireLock takes the data dir's lock, which the kernel drops when this
// process ends, however it ends.
func (c *cluster) acquireLock() (_ *os.File, err error) {
	name := filepath.Join(c.dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data dir: %w: run the worker as the owner of the folder, or choose another --data-dir", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		holder := "another worker"
		if text, err := io.ReadAll(io.LimitReader(f, 32)); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
				holder = fmt.Sprintf("another worker (pid %d)", pid)
			}
		}
		return nil, fmt.Errorf("%s is using %s: set DATABASE_URL to share its database, or choose another --data-dir", holder, c.dir)
	case err != nil:
		return nil, fmt.Errorf("locking %s: %w: choose a --data-dir on a file system that has locks", name, err)
	}
	// So that a worker run by root leaves a folder that a worker run by the
	// server's own user can use.
	if err := c.account.own(name); err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("recording the owner of the data dir: %w", err)
	}
	if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
		return nil, fmt.Errorf("recording the owner of the data dir: %w", err)
	}
	return f, nil
}

// initialise makes the PostgreSQL data directory unless there is one.
func (c *cluster) initialise(ctx context.Context, noSync bool) error {
	major, err := dataVersion(c.pgdata)
	if err != nil {
		return err
	}
	leftovers, err := filepath.Glob(filepath.Join(escapeGlob(c.dir), tempInitPrefix+"*"))
	if err != nil {
		return fmt.Errorf("looking for the remains of an interrupted initdb: %w", err)
	}
	for _, name := range leftovers {
		c.log.Warn("removing the remains of an interrupted initdb", "path", name)
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("removing the remains of an interrupted initdb: %w: remove that folder", err)
		}
	}
	if major != 0 {
		return nil
	}

	c.log.Info("initialising private PostgreSQL", "data_dir", c.dir, "bin_dir", c.binDir)
	if err := c.makePassword(); err != nil {
		return fmt.Errorf("making the superuser's password: %w: check the permissions of the folder and the free space", err)
	}
	// An initdb that does not get to its end must not leave a pgdata that
	// looks whole.
	temp, err := os.MkdirTemp(c.dir, tempInitPrefix)
	if err != nil {
		return fmt.Errorf("making the data directory: %w: check the permissions of the folder and the free space", err)
	}
	defer os.RemoveAll(temp)
	if err := c.account.own(temp); err != nil {
		return err
	}
	args := []string{
		"-D", filepath.Base(temp), "-U", superuser, "--pwfile=password",
		"--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8", "--locale=C",
	}
	if noSync {
		args = append(args, "--no-sync")
	}
	if out, err := output(ctx, c.command(ctx, "initdb", args...)); err != nil {
		return fmt.Errorf("initdb: %w%s\ncorrect what it names and start again", err, quoteLines(out))
	}
	if err := os.Rename(temp, c.pgdata); err != nil {
		return fmt.Errorf("putting the new data directory in place: %w: mount a volume at the data dir, not at pgdata", err)
	}
	return nil
}

// makePassword writes the password file, whole or not at all, unless it
// exists.
func (c *cluster) makePassword() error {
	name := filepath.Join(c.dir, "password")
	if info, err := os.Lstat(name); err == nil && info.Size() > 0 {
		return c.account.own(name)
	}
	f, err := os.CreateTemp(c.dir, "password.tmp-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, rand.Text())
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := c.account.own(f.Name()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// escapeGlob returns a pattern that matches path itself.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
