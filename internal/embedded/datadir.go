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

// makeDataDir makes the data dir, or checks that the server's account can
// reach the one there is. An existing folder with something in it changes
// neither owner nor permissions: it may be used for more than this server.
func (s *Server) makeDataDir(ctx context.Context) error {
	if err := s.account.checkReach(ctx, filepath.Dir(s.dir)); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(s.dir), 0o755); err == nil {
			err = os.Mkdir(s.dir, 0o700)
		}
		// Another worker may be making the same folder.
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err == nil && len(entries) == 0 {
		err = s.account.own(s.dir)
	}
	if err != nil {
		return fmt.Errorf("making the data dir: %w: choose another --data-dir, or give the worker's user access to this one", err)
	}
	return s.account.checkReach(ctx, s.dir)
}

// acquireLock takes the data dir's lock, which the kernel drops when this
// process ends, however it ends.
func (s *Server) acquireLock() (_ *os.File, err error) {
	name := filepath.Join(s.dir, "lock")
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
		return nil, fmt.Errorf("%s is using %s: set DATABASE_URL to share its database, or choose another --data-dir", holder, s.dir)
	case err != nil:
		return nil, fmt.Errorf("locking %s: %w: choose a --data-dir on a file system that has locks", name, err)
	}
	// So that a worker run by root leaves a folder that a worker run by the
	// server's own user can use.
	if err := s.account.own(name); err != nil {
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
func (s *Server) initialise(ctx context.Context, noSync bool) error {
	major, err := dataVersion(s.pgdata)
	if err != nil {
		return err
	}
	leftovers, err := filepath.Glob(filepath.Join(escapeGlob(s.dir), tempInitPrefix+"*"))
	if err != nil {
		return fmt.Errorf("looking for the remains of an interrupted initdb: %w", err)
	}
	for _, name := range leftovers {
		s.log.Warn("removing the remains of an interrupted initdb", "path", name)
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("removing the remains of an interrupted initdb: %w: remove that folder", err)
		}
	}
	if major != 0 {
		return nil
	}

	s.log.Info("initialising private PostgreSQL", "data_dir", s.dir, "bin_dir", s.binDir)
	if err := s.makePassword(); err != nil {
		return fmt.Errorf("making the superuser's password: %w: check the permissions of the folder and the free space", err)
	}
	// An initdb that does not get to its end must not leave a pgdata that
	// looks whole.
	temp, err := os.MkdirTemp(s.dir, tempInitPrefix)
	if err != nil {
		return fmt.Errorf("making the data directory: %w: check the permissions of the folder and the free space", err)
	}
	defer os.RemoveAll(temp)
	if err := s.account.own(temp); err != nil {
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
	if out, err := output(ctx, s.command(ctx, "initdb", args...)); err != nil {
		return fmt.Errorf("initdb: %w%s\ncorrect what it names and start again", err, quoteLines(out))
	}
	if err := os.Rename(temp, s.pgdata); err != nil {
		return fmt.Errorf("putting the new data directory in place: %w: mount a volume at the data dir, not at pgdata", err)
	}
	return nil
}

// makePassword writes the password file, whole or not at all, unless it
// exists.
func (s *Server) makePassword() error {
	name := filepath.Join(s.dir, "password")
	if info, err := os.Lstat(name); err == nil && info.Size() > 0 {
		return s.account.own(name)
	}
	f, err := os.CreateTemp(s.dir, "password.tmp-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, rand.Text())
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.account.own(f.Name()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// escapeGlob returns a pattern that matches path itself.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
