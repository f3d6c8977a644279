package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is the system user that a worker run by root runs the server as. The
// nil account is the user of this process.
type account struct {
	name       string
	credential *syscall.Credential
}

// serverAccount returns the account for the server of pgdata: the owner of the
// folder if it exists, so that data are never handed to another user.
func serverAccount(pgdata string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(pgdata); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
			if u, err := user.LookupId(strconv.FormatUint(uint64(stat.Uid), 10)); err == nil {
				return newAccount(u)
			}
			return &account{
				name:       fmt.Sprintf("uid %d", stat.Uid),
				credential: &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid},
			}, nil
		}
	}
	names := []string{"postgres", "nobody"}
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			return newAccount(u)
		}
	}
	return nil, fmt.Errorf("PostgreSQL does not run as root, and no system user is called %s: "+
		"run the worker as another user, or set DATABASE_URL", strings.Join(names, " or "))
}

func newAccount(u *user.User) (*account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("looking up the user %s: user id: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("looking up the user %s: group id: %w", u.Username, err)
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("looking up the user %s: %w", u.Username, err)
	}
	for _, g := range groups {
		id, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("looking up the user %s: group id: %w", u.Username, err)
		}
		c.Groups = append(c.Groups, uint32(id))
	}
	return &account{name: u.Username, credential: c}, nil
}

// apply has cmd run as the account.
func (a *account) apply(cmd *exec.Cmd) {
	if a != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential}
	}
}

// own hands a file or folder that this process made to the account. Symbolic
// links are not followed.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Lchown(path, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
		return fmt.Errorf("giving it to the user %s, as whom PostgreSQL runs: %w: run the worker as that user, or choose another --data-dir", a.name, err)
	}
	return nil
}

// checkReach returns an error unless the account can enter dir. Folders that
// do not exist yet are passed over.
func (a *account) checkReach(ctx context.Context, dir string) error {
	if a == nil {
		return nil
	}
	path := []string{dir} // dir and its parents
	for path[len(path)-1] != filepath.Dir(path[len(path)-1]) {
		path = append(path, filepath.Dir(path[len(path)-1]))
	}
	for len(path) > 1 {
		if _, err := os.Stat(path[0]); err == nil {
			break
		}
		path = path[1:]
	}
	// Only the kernel knows for sure what access control lists, mounts and
	// security modules let through.
	enter := func(dir string) error {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", ":")
		cmd.Dir = dir
		a.apply(cmd)
		return cmd.Run()
	}
	if enter(path[0]) == nil {
		return nil
	}
	for i := len(path) - 1; i >= 0; i-- {
		err := enter(path[i])
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case i == len(path)-1:
			return fmt.Errorf("running a program as the user %s, as whom PostgreSQL must run: %w: run the worker as another user than root", a.name, err)
		default:
			return fmt.Errorf("the folder %s is closed to the user %s, as whom PostgreSQL runs since it refuses root: "+
				"choose another --data-dir, or open the folder with: chmod o+x %s", path[i], a.name, path[i])
		}
	}
	return nil
}
