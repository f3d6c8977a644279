// Package embedded runs a private PostgreSQL server, out of a local
// installation of PostgreSQL, for a worker that was given no database.
//
// Everything the server needs lives in one folder, the data dir:
//
//	pgdata        the PostgreSQL data directory, made by initdb
//	postgres.log  the output of the server
//	password      the superuser's password, for connections by TCP
//	run           the folder of the unix socket
//	lock          held (flock) by the worker that owns the server
//
// The server outlives a worker that is killed; the next worker to start on the
// same data dir adopts it.
package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	superuser = "provwatch" // also the name of the database

	// How long a server that is alive may take to answer before it is given up
	// as hung, and how long a start that failed may take to clean up.
	answerTimeout  = time.Minute
	cleanupTimeout = 30 * time.Second

	// pg_ctl gives up after 60 seconds of its own accord, which a crash recovery
	// may well need; the context is the only limit here.
	noTimeout = "86400"

	// Starts that fail for a passing reason (see passing) are tried this often.
	launchAttempts = 15
	launchPause    = 300 * time.Millisecond

	tempInitPrefix   = "pgdata.tmp-"
	tempSocketPrefix = "provwatch-run-"
)

// ErrNotRunning is returned, wrapped, by [Attach] when no private server is
// running in the data dir.
var ErrNotRunning = errors.New("no private PostgreSQL server is running")

// Options says where the private server lives and how it is run.
type Options struct {
	// DataDir is the folder that holds everything of the server. It is made
	// if absent. A relative path is taken from the working directory.
	DataDir string

	// BinDir is the folder of initdb, pg_ctl and postgres. Empty means to
	// search for it, see [FindBinDir].
	BinDir string

	// Settings are further server parameters (the names of postgresql.conf).
	// They win over those that Start chooses; a "port" given here replaces the
	// free port that is otherwise chosen at each start.
	Settings map[string]string

	// Logger gets what happens on the way; nil discards it.
	Logger *slog.Logger
}

// Server is a running private PostgreSQL server, owned by this process until
// [Server.Stop].
type Server struct {
	dir     string // absolute
	pgdata  string
	binDir  string
	account *account // nil: the server runs as the user of this process
	log     *slog.Logger

	socketDir string
	port      int
	version   string
	adopted   bool

	mu   sync.Mutex
	lock *os.File // nil once stopped
}

// Start starts the private server of a data dir, which it makes and
// initialises if need be, and returns once the server answers. A server left
// running by a worker that was killed is adopted. When the context is done
// before, what was started is stopped again.
//
// As root, which PostgreSQL refuses to run as, the server runs as the owner of
// an existing data directory, otherwise as the system user "postgres" or
// "nobody".
//
// Errors say what to do about them. They include another worker using the data
// dir, no installation of PostgreSQL, one of another major version than the
// data, and the last lines of the server's log when it did not start.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	if o.DataDir == "" {
		return nil, errors.New("starting the private PostgreSQL: no data dir is given: set --data-dir")
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("starting the private PostgreSQL: finding the folder %q: %w", o.DataDir, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("starting the private PostgreSQL in %s: %w", dir, err)
		}
	}()

	s := &Server{dir: dir, pgdata: filepath.Join(dir, "pgdata"), log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	major, err := dataVersion(s.pgdata)
	if err != nil {
		return nil, err
	}
	if s.binDir, err = chooseBinDir(ctx, o.BinDir, s.pgdata, major); err != nil {
		return nil, err
	}
	if s.account, err = serverAccount(s.pgdata); err != nil {
		return nil, err
	}
	if err := s.makeDataDir(ctx); err != nil {
		return nil, err
	}
	if s.lock, err = s.acquireLock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.lock.Close()
		}
	}()

	if s.adopted, err = s.adopt(ctx); err != nil {
		return nil, err
	}
	if !s.adopted {
		if err := s.initialise(ctx, o.Settings["fsync"] == "off"); err != nil {
			return nil, err
		}
		if err := s.launch(ctx, o.Settings); err != nil {
			return nil, err
		}
	}
	if err := s.prepare(ctx); err != nil {
		if !s.adopted {
			s.abandon()
		}
		return nil, err
	}
	return s, nil
}

// ConnString returns the libpq keyword/value connection string of the database
// "provwatch", by unix socket as the superuser. It holds no secret: the
// permissions of the socket's folder guard the server.
func (s *Server) ConnString() string { return connString(s.socketDir, s.port, superuser) }

// Version returns the server's version, such as "15.14".
func (s *Server) Version() string { return s.version }

// Adopted reports whether the server was found running, left behind by a
// worker that did not stop it. Such a server keeps the settings that it was
// started with.
func (s *Server) Adopted() bool { return s.adopted }

// Stop stops the server (a fast shutdown: clients are disconnected, a
// checkpoint is written), waits for its end and gives up the lock of the data
// dir. It returns nil when the server is gone already, and at a second call.
//
// When the context is done first, Stop returns an error while the server goes
// on to shut down; a later Start waits for that.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	defer func() {
		s.lock.Close()
		s.lock = nil
	}()

	if _, ok := s.running(); !ok {
		s.log.Warn("private PostgreSQL had already ended", "data_dir", s.dir)
	}
	if out, err := s.stopIfRunning(ctx); err != nil {
		return fmt.Errorf("stopping the private PostgreSQL in %s: %w%s\nstop it with: %s stop -D %s",
			s.dir, err, quoteLines(out), filepath.Join(s.binDir, "pg_ctl"), s.pgdata)
	}
	removeTempSocketDir(s.socketDir)
	return nil
}

// Exists reports whether dataDir holds the data of a private server, running or not.
func Exists(dataDir string) bool {
	major, err := dataVersion(filepath.Join(dataDir, "pgdata"))
	return err == nil && major != 0
}

// Attach returns the connection string of the private server that a worker is
// running in dataDir, without taking any part in its life. The error wraps
// [ErrNotRunning] when there is none.
func Attach(dataDir string) (connString string, err error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", fmt.Errorf("looking for the private PostgreSQL: finding the folder %q: %w", dataDir, err)
	}
	pgdata := filepath.Join(dir, "pgdata")
	notRunning := fmt.Errorf("%w in %s: start it with: worker run --data-dir %s, or set DATABASE_URL", ErrNotRunning, dir, dir)
	p, err := readPostmaster(pgdata)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("looking for the private PostgreSQL in %s: %w: run this command as the user that runs the worker, or set DATABASE_URL", dir, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errMalformed):
		return "", notRunning
	case err != nil:
		return "", fmt.Errorf("looking for the private PostgreSQL in %s: %w", dir, err)
	case p.socketDir == "":
		return "", notRunning // a server that has only just begun to start
	}
	if state, _ := inspect(p.pid, pgdata); state == processDead || state == processForeign {
		return "", notRunning
	}
	return p.connString(superuser), nil
}

// DefaultDataDir returns the data dir to use when none is given:
// /var/lib/provwatch for root, otherwise $XDG_DATA_HOME/provwatch or
// ~/.local/share/provwatch. The error is that the home folder is unknown.
func DefaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/provwatch", nil
	}
	// The specification has relative paths in the variable ignored.
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "provwatch"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the default data dir: %w: set --data-dir or HOME", err)
	}
	return filepath.Join(home, ".local", "share", "provwatch"), nil
}

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

// adopt looks for a server that is running in the data dir already and, if
// there is one, waits until it answers. It reports false when a server has to
// be started.
func (s *Server) adopt(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout,
		fmt.Errorf("it did not answer within %v", answerTimeout))
	defer cancel()

	file := filepath.Join(s.pgdata, "postmaster.pid")
	announced := false
	for {
		p, err := readPostmaster(s.pgdata)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errMalformed):
			// PostgreSQL has its own word on a file that it cannot read.
			return false, nil
		case err != nil:
			return false, fmt.Errorf("looking for a server that is still running: %w", err)
		}
		state, name := inspect(p.pid, s.pgdata)
		switch state {
		case processDead:
			if !announced {
				s.log.Warn("private PostgreSQL did not end properly; it will recover",
					"data_dir", s.dir, "stale_pid", p.pid)
			}
			s.removeSockets(p.socketDir)
			return false, nil
		case processForeign:
			return false, fmt.Errorf("%s names process %d, which is alive but is not the PostgreSQL server of this folder (%s): "+
				"make sure that no server is using the folder, then remove that file and start again", file, p.pid, name)
		}
		if !announced {
			announced = true
			s.log.Warn("private PostgreSQL is still running, left behind by another worker; adopting it",
				"data_dir", s.dir, "pid", p.pid)
		}

		err = errStarting
		if p.socketDir != "" {
			err = p.check(ctx, s.pgdata)
		}
		if err == nil {
			s.socketDir, s.port = p.socketDir, p.port
			return true, nil
		}
		if state == processUnknown {
			// Nothing here can tell whose process this is; PostgreSQL refuses
			// to start if the folder is in use.
			return false, nil
		}
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); errors.Is(err, errOtherServer) || ok && pgErr.Code != cannotConnectNow {
			return false, fmt.Errorf("adopting the server that is still running (pid %d): %w: stop it with: kill -INT %d", p.pid, err, p.pid)
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("adopting the server that is still running (pid %d): %w (last answer: %v): see %s, or stop it with: kill -INT %d",
				p.pid, context.Cause(ctx), err, s.logName(), p.pid)
		case <-time.After(50 * time.Millisecond):
		}
	}
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
		return fmt.Errorf("putting the new data directory in place: %w: a volume is to be mounted at the data dir, not at pgdata", err)
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

// launch starts the server and waits until it accepts connections.
func (s *Server) launch(ctx context.Context, settings map[string]string) (err error) {
	socketDir, err := s.makeSocketDir()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			removeTempSocketDir(socketDir)
		}
	}()
	f, err := os.OpenFile(s.logName(), os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err == nil {
		err = errors.Join(f.Close(), s.account.own(s.logName()))
	}
	if err != nil {
		return fmt.Errorf("making the server's log: %w: check the permissions of the folder and the free space", err)
	}

	all := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": `"` + strings.ReplaceAll(socketDir, `"`, `""`) + `"`,
		"unix_socket_permissions": "0700",
		"wal_level":               "logical",
		"max_wal_senders":         "10",
		"max_replication_slots":   "10",
		"shared_buffers":          "32MB",
		// The log must not quote rows, which hold keys: terse leaves out the
		// details of an error, among them the failing row.
		"log_error_verbosity": "terse",
		"log_checkpoints":     "off",
	}
	maps.Copy(all, settings)
	for attempt := 1; ; attempt++ {
		if settings["port"] == "" {
			port, err := freePort()
			if err != nil {
				return fmt.Errorf("finding a free port on 127.0.0.1: %w", err)
			}
			all["port"] = strconv.Itoa(port)
		}
		logged := fileSize(s.logName())
		out, err := output(ctx, s.startCommand(ctx, all))
		if err == nil {
			break
		}
		s.abandon()
		if ctx.Err() != nil {
			return fmt.Errorf("pg_ctl start: %w: the server was stopped again", context.Cause(ctx))
		}
		logText := readFrom(s.logName(), logged)
		if !passing(logText) || attempt == launchAttempts {
			if logText == "" {
				logText = out // the server did not get as far as its log
			}
			return fmt.Errorf("pg_ctl start: %w; the last lines of %s:%s\ncorrect what they name and start again", err, s.logName(), quoteLines(logText))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(launchPause):
		}
	}

	p, err := readPostmaster(s.pgdata)
	if err == nil && p.socketDir == "" {
		err = errors.New("it has no unix socket: leave unix_socket_directories alone")
	}
	if err != nil {
		s.abandon()
		return fmt.Errorf("finding out where the server listens: %w", err)
	}
	s.socketDir, s.port = p.socketDir, p.port
	return nil
}

// passing reports whether what a server logged before it gave up is a reason
// that is gone in a moment: a port taken since it was found free; processes of
// a server that was killed which have not noticed yet; or its own process,
// dead but not yet waited for, which PostgreSQL takes to be alive.
func passing(logText string) bool {
	return strings.Contains(logText, "Address already in use") ||
		strings.Contains(logText, "pre-existing shared memory block") ||
		strings.Contains(logText, `lock file "postmaster.pid" already exists`)
}

// abandon stops a server whose start did not come to a good end.
func (s *Server) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	if out, err := s.stopIfRunning(ctx); err != nil {
		s.log.Error("private PostgreSQL could not be stopped after a failed start", "data_dir", s.dir, "err", err, "output", out)
	}
}

// stopIfRunning stops the server, if there is one, and waits for its end. It
// returns what pg_ctl printed.
func (s *Server) stopIfRunning(ctx context.Context) (string, error) {
	p, ok := s.running()
	if !ok {
		return "", nil
	}
	out, err := output(ctx, s.stopCommand(ctx))
	if err != nil {
		// pg_ctl finds fault with a server that ends by itself meanwhile.
		if _, ok := s.running(); !ok {
			err = nil
		}
	}
	if err != nil {
		return out, err
	}
	// pg_ctl waits for the end of postmaster.pid, which the process outlives a little.
	for {
		if state, _ := inspect(p.pid, s.pgdata); state != processOurs {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, fmt.Errorf("process %d has not ended yet: %w", p.pid, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// running returns the live server of the data dir.
func (s *Server) running() (postmaster, bool) {
	p, err := readPostmaster(s.pgdata)
	if err != nil {
		return postmaster{}, false
	}
	state, _ := inspect(p.pid, s.pgdata)
	return p, state == processOurs || state == processUnknown
}

// prepare creates the database if it is absent and asks the server for its
// version.
func (s *Server) prepare(ctx context.Context) error {
	conn, err := connect(ctx, connString(s.socketDir, s.port, "postgres"))
	if err != nil {
		return fmt.Errorf("connecting to the server: %w: see %s", err, s.logName())
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version string
	var exists bool
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'), EXISTS (SELECT FROM pg_database WHERE datname = $1)`, superuser).
		Scan(&version, &exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+superuser)
	}
	if err != nil {
		return fmt.Errorf("creating the database %s: %w: see %s", superuser, err, s.logName())
	}
	// Packagers append their own version: "15.14 (Debian 15.14-0+deb12u1)".
	s.version, _, _ = strings.Cut(version, " ")
	return nil
}

// makeSocketDir makes the folder of the unix socket and returns its path.
func (s *Server) makeSocketDir() (dir string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("making the folder of the unix socket: %w: choose another --data-dir, or set TMPDIR to a folder that the server's user can reach", err)
		}
	}()
	dir = filepath.Join(s.dir, "run")
	// The addresses of sockets are short, and clients take a comma to
	// separate hosts.
	if !fitsSocket(dir) || strings.Contains(dir, ",") {
		if dir, err = os.MkdirTemp("", tempSocketPrefix); err != nil {
			return "", err
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return "", err
		}
		if !fitsSocket(dir) {
			os.Remove(dir)
			return "", fmt.Errorf("%s is too long a path for a socket", dir)
		}
	} else if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return dir, s.account.own(dir)
}

func fitsSocket(dir string) bool {
	var addr syscall.RawSockaddrUnix
	return len(filepath.Join(dir, ".s.PGSQL.65535")) < len(addr.Path) // one byte for the NUL
}

// removeSockets removes what a server that was killed left in its socket
// folder.
func (s *Server) removeSockets(dir string) {
	if dir == filepath.Join(s.dir, "run") {
		os.RemoveAll(dir)
	}
	removeTempSocketDir(dir)
}

// removeTempSocketDir removes dir if it is one that makeSocketDir made outside
// of the data dir.
func removeTempSocketDir(dir string) {
	temp, err := filepath.Abs(os.TempDir())
	if err == nil && filepath.Dir(dir) == temp && strings.HasPrefix(filepath.Base(dir), tempSocketPrefix) {
		os.RemoveAll(dir)
	}
}

func (s *Server) logName() string { return filepath.Join(s.dir, "postgres.log") }

// command returns a command that runs a program of the installation in the
// data dir, as the server's account, and interrupts it when the context is
// done.
func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.binDir, program), args...)
	// Paths relative to the data dir spare pg_ctl, which goes through a shell,
	// from whatever characters there are in its path.
	cmd.Dir = s.dir
	cmd.Env = environment()
	s.account.apply(cmd)
	// A Ctrl-C in the terminal is the worker's to handle, not the program's.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = cleanupTimeout
	return cmd
}

// output runs a command and returns what it printed. Its error is that of the
// context if this is done.
func output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return string(out), err
}

// startCommand returns the command that starts the server. Interrupting pg_ctl
// might leave behind a server that has not got as far as writing its
// postmaster.pid, so it is the server that is interrupted, which ends pg_ctl.
func (s *Server) startCommand(ctx context.Context, settings map[string]string) *exec.Cmd {
	cmd := s.command(ctx, "pg_ctl", "start", "-D", "pgdata", "-l", "postgres.log", "-w", "-t", noTimeout, "-o", serverArgs(settings))
	interrupt := cmd.Cancel
	cmd.Cancel = func() error {
		for deadline := time.Now().Add(cleanupTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if p, ok := s.running(); ok {
				return syscall.Kill(p.pid, syscall.SIGINT)
			}
			if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
				return err // pg_ctl has ended
			}
		}
		return interrupt()
	}
	return cmd
}

// stopCommand returns the command that stops the server and waits for its end.
func (s *Server) stopCommand(ctx context.Context) *exec.Cmd {
	return s.command(ctx, "pg_ctl", "stop", "-D", "pgdata", "-m", "fast", "-w", "-t", noTimeout)
}

// environment returns what the server gets of the worker's environment: not
// the PG* variables, which would change what initdb and pg_ctl do, and none of
// the worker's secrets, which any superuser of the database could read.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "HOME", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// serverArgs returns settings as arguments for postgres, quoted for the shell
// that pg_ctl -o hands them to.
func serverArgs(settings map[string]string) string {
	var args []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", `'`+strings.ReplaceAll(name+"="+settings[name], `'`, `'\''`)+`'`)
	}
	return strings.Join(args, " ")
}

// freePort asks the kernel for a port that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func connString(socketDir string, port int, database string) string {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	return fmt.Sprintf("host='%s' port=%d user=%s dbname=%s sslmode=disable", quote.Replace(socketDir), port, superuser, database)
}

// fileSize returns 0 if the file cannot be looked at.
func fileSize(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

// readFrom returns what a file holds from offset on, as much as can be read.
func readFrom(name string, offset int64) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	const limit = 1 << 20
	text, _ := io.ReadAll(io.NewSectionReader(f, offset, limit))
	return string(text)
}

// quoteLines returns the last lines of a program's output, each indented and
// on a line of its own, to be appended to an error.
func quoteLines(output string) string {
	const last = 10
	var b strings.Builder
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, line := range lines[max(0, len(lines)-last):] {
		if line = strings.TrimRight(line, " \r"); line != "" {
			b.WriteString("\n\t" + line)
		}
	}
	return b.String()
}

// escapeGlob returns a pattern that matches path itself.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
