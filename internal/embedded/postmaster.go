package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"provwatch/internal/postgres"
	"provwatch/internal/regularfile"
)

// cannotConnectNow is the SQLSTATE of a server that is starting up or shutting
// down.
const cannotConnectNow = "57P03"

var (
	errMalformed   = errors.New("postmaster.pid holds no process id")
	errStarting    = errors.New("the server is only beginning to start")
	errOtherServer = errors.New("the server that answers is not that of this folder")
)

// postmaster is what a running server says of itself in postmaster.pid.
type postmaster struct {
	pid       int    // of the postmaster, or negative: of a single-user server
	port      int    // with socketDir: 0 and "" while the server begins to start
	socketDir string // absolute
}

// readPostmaster reads the postmaster.pid of a PostgreSQL data directory. Its
// lines are: process id, data directory, start time, port, socket folder,
// listen address, shared memory, status.
func readPostmaster(pgdata string) (postmaster, error) {
	text, err := regularfile.Read(filepath.Join(pgdata, "postmaster.pid"), regularfile.Limit)
	if err != nil {
		return postmaster{}, err
	}
	lines := strings.Split(string(text), "\n")
	var p postmaster
	if p.pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil || p.pid == 0 {
		return postmaster{}, errMalformed
	}
	// The last of the lines may be written in part.
	if len(lines) > 5 {
		port, err := strconv.ParseUint(strings.TrimSpace(lines[3]), 10, 16)
		if err == nil && port != 0 && lines[4] != "" {
			p.port, p.socketDir = int(port), lines[4]
			if !filepath.IsAbs(p.socketDir) {
				p.socketDir = filepath.Join(pgdata, p.socketDir)
			}
		}
	}
	return p, nil
}

func (p postmaster) connString(database string) string {
	return connString(p.socketDir, p.port, database)
}

// connect connects as the rest of the worker does, with its search path.
func connect(ctx context.Context, connString string) (*pgx.Conn, error) {
	config, err := postgres.ParseURL(connString)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config.ConnConfig)
}

// check connects to the server and makes sure that it is the server of pgdata.
func (p postmaster) check(ctx context.Context, pgdata string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := connect(ctx, p.connString("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	if !sameFile(dir, pgdata) {
		return fmt.Errorf("%w: its data directory is %s", errOtherServer, dir)
	}
	return nil
}

type processState int

const (
	processDead    processState = iota
	processOurs                 // a PostgreSQL server of the data directory
	processForeign              // alive, but another program or another server
	processUnknown              // alive, but this system does not tell more
)

// inspect says what the process of a postmaster.pid is now; process ids are
// used again. For a foreign process it also returns what it is.
func inspect(pid int, pgdata string) (processState, string) {
	// A process cannot have been running before itself. In containers, where
	// process ids are few, this is no rare case.
	if pid == os.Getpid() {
		return processDead, ""
	}
	if pid < 0 {
		if !alive(-pid) {
			return processDead, ""
		}
		return processForeign, "a single-user server"
	}
	if !alive(pid) {
		return processDead, ""
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		if _, err := os.Stat("/proc/self/stat"); err == nil && !alive(pid) {
			return processDead, "" // it has ended meanwhile
		}
		return processUnknown, ""
	}
	// PID (NAME) STATE …, where NAME may hold anything.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open || end+2 >= len(stat) {
		return processUnknown, ""
	}
	name := string(stat[open+1 : end])
	switch stat[end+2] {
	case 'Z', 'X':
		return processDead, ""
	}
	if !strings.Contains(name, "postgres") && !strings.Contains(name, "postmaster") {
		return processForeign, strconv.Quote(name)
	}
	// Every process of a server has the data directory as its working
	// directory.
	cwd, err := os.Stat(filepath.Join(proc, "cwd"))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		// It is ending: it has given up its memory and files before that.
		return processDead, ""
	case err != nil:
		return processUnknown, ""
	}
	if data, err := os.Stat(pgdata); err != nil || !os.SameFile(cwd, data) {
		return processForeign, "the PostgreSQL server of another folder"
	}
	return processOurs, ""
}

func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func sameFile(a, b string) bool {
	aInfo, err := os.Stat(a)
	if err != nil {
		return false
	}
	bInfo, err := os.Stat(b)
	return err == nil && os.SameFile(aInfo, bInfo)
}

// running returns the live server of a PostgreSQL data directory.
func running(pgdata string) (postmaster, bool) {
	p, err := readPostmaster(pgdata)
	if err != nil {
		return postmaster{}, false
	}
	state, _ := inspect(p.pid, pgdata)
	return p, state == processOurs || state == processUnknown
}
