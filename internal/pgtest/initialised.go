package pgtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"provwatch/internal/embedded"
)

// copyInitialised fills the data dir of the cluster with a copy of an initialised one,
// which takes less time than initdb. All such clusters have the same system identifier.
// Without a cache for the user, initdb runs.
func (c *Cluster) copyInitialised() error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil
	}
	initialised, err := initialisedDir(filepath.Join(cache, "provwatch-pgtest"))
	if err != nil || initialised == "" {
		return err
	}
	return copyStopped(initialised, filepath.Join(c.dir, "data"))
}

// initialisedDir returns a data dir in the cache that a server has run in, and makes it
// unless there is one of these programs and of this way to initialise.
func initialisedDir(cache string) (string, error) {
	key, err := initialisedKey()
	if err != nil || key == "" {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	// Tests of other packages, each a process, need the same dir at the same time.
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	dir := filepath.Join(cache, key)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	c, err := start(nil)
	if err != nil {
		return "", err
	}
	// What is not whole has another name.
	made := dir + ".tmp"
	err = errors.Join(c.stop("fast"), os.RemoveAll(made), copyStopped(filepath.Join(c.dir, "data"), made), os.Remove(filepath.Join(made, "postgres.log")))
	if err := errors.Join(err, c.remove()); err != nil {
		return "", err
	}
	return dir, os.Rename(made, dir)
}

// initialisedKey returns a name for what the programs of [BinDir] and the package embedded
// make a data dir of, or "" where the source of that package is not there.
func initialisedKey() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(file), "..", "embedded", "*.go"))
	if err != nil {
		panic(err) // the pattern is well-formed
	}
	var source []byte
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		source = append(source, content...)
	}
	if len(source) == 0 {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	binDir := BinDir()
	if binDir == "" {
		if binDir, err = embedded.FindBinDir(ctx, 0); err != nil {
			return "", err
		}
	}
	version, err := exec.CommandContext(ctx, filepath.Join(binDir, "postgres"), "--version").Output()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(slices.Concat(source, []byte(binDir), version))
	return fmt.Sprintf("%x", sum[:8]), nil
}
