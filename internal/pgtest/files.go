package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// In memory, the thousands of files of databases that tests create and drop cost a file
// system much less. Below memoryNeeded, their folder is one of the temporary files.
const (
	memory       = "/dev/shm"
	memoryNeeded = 8 << 30 // bytes
	tmpfs        = 0x01021994
)

// scratch returns the folder to make data dirs in, empty for that of temporary files, which
// TMPDIR names.
func scratch() string {
	var system syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(memory, &system) != nil || system.Type != tmpfs || system.Bavail*uint64(system.Bsize) < memoryNeeded {
		return ""
	}
	return memory
}

// notCopied are the folders of a data directory whose content a standby makes itself.
var notCopied = []string{"pg_wal", "pg_replslot", "pg_stat_tmp", "pg_notify", "pg_dynshmem", "pg_serial", "pg_snapshots", "pg_subtrans"}

// copyStopped copies the folder of a stopped server, with owners and permissions.
func copyStopped(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// copyFolder copies a data directory. Files that are removed meanwhile are passed over, as
// they may be.
func copyFolder(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if slices.Contains(notCopied, filepath.Dir(name)) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasPrefix(name, "postmaster.") {
			return nil
		}
		if err := copyFile(path, filepath.Join(to, name)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// copyFile copies a file, or makes a folder as the other is, with its owner.
func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.Mkdir(to, info.Mode().Perm())
	} else {
		var content []byte
		if content, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, content, info.Mode().Perm())
		}
	}
	return errors.Join(err, ownAs(info, to))
}

func ownAs(info fs.FileInfo, name string) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Lchown(name, int(stat.Uid), int(stat.Gid))
}

// writeFile writes a file of a data directory, whose owner owns it.
func writeFile(pgdata, name, content string) error {
	info, err := os.Stat(pgdata)
	if err != nil {
		return err
	}
	name = filepath.Join(pgdata, name)
	return errors.Join(os.WriteFile(name, []byte(content), 0o600), ownAs(info, name))
}
