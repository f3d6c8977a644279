//go:build bench

package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"provwatch/internal/provider"
)

// The peers are the least programs that do what the worker is compared with.
// Like the worker each is a process of its own: this program, started again with
// a role.
const (
	roleVariable     = "PROVWATCH_BENCH_ROLE"
	databaseVariable = "PROVWATCH_BENCH_DATABASE"
	slotVariable     = "PROVWATCH_BENCH_SLOT"
	insertVariable   = "PROVWATCH_BENCH_INSERT" // "1": an answer is a durable row as well
)

// The roles.
const (
	roleConnect   = "connect"    // connects, says so, and ends
	roleAnswer    = "answer"     // answers each notification after having read the row
	roleAnswerWAL = "answer-wal" // answers each transaction that it reads in the WAL
	roleRead      = "read"       // decodes the WAL and confirms it, and nothing else
)

// barePublication is the publication of the bare readers of the WAL.
const barePublication = "CREATE PUBLICATION bare FOR TABLE ai_providers (id, type, name, enabled, deleted, base_url, settings, settings_key_id, updated_at), ai_provider_keys (id)"

const (
	answer         = `SELECT pg_notify('answers', $1)`
	answerWithRow  = `WITH answered AS (INSERT INTO answers (provider) VALUES ($1::text) RETURNING provider) SELECT pg_notify('answers', provider) FROM answered`
	answersTable   = `CREATE TABLE answers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, provider text NOT NULL, at timestamptz NOT NULL DEFAULT now())`
	selectProvider = `SELECT id, name, type, base_url, enabled, deleted, settings, settings_key_id, updated_at FROM ai_providers WHERE id = $1`
)

// play is the whole of a peer's process. It returns the exit code.
func play(role string) int {
	ctx := context.Background()
	var err error
	switch role {
	case roleConnect:
		err = playConnect(ctx)
	case roleAnswer:
		err = playAnswer(ctx)
	case roleAnswerWAL:
		err = playAnswerWAL(ctx)
	case roleRead:
		err = playRead(ctx)
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func playConnect(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, os.Getenv(databaseVariable))
	if err != nil {
		return err
	}
	fmt.Println("ready", time.Now().UnixNano())
	return conn.Close(ctx)
}

// storedProvider is what selectProvider and selectProviders read, with the Go types that
// the worker has for it.
type storedProvider struct {
	provider.Row
	settingsKeyID *string
}

func scanProvider(rows rowScanner, p *storedProvider) error {
	return rows.Scan(&p.ID, &p.Name, &p.Type, &p.BaseURL, &p.Enabled, &p.Deleted, &p.Settings, &p.settingsKeyID, &p.UpdatedAt)
}

func answerStatement() string {
	if os.Getenv(insertVariable) == "1" {
		return answerWithRow
	}
	return answer
}

func playAnswer(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, os.Getenv(databaseVariable))
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "LISTEN changes"); err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		id, err := uuid.Parse(n.Payload)
		if err != nil {
			return err
		}
		var row storedProvider
		if err := scanProvider(conn.QueryRow(ctx, selectProvider, id), &row); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, answerStatement(), row.ID.String()); err != nil {
			return err
		}
	}
}

// bareReader reads the WAL from a slot and decodes it.
type bareReader struct {
	conn      *pgconn.PgConn
	confirmed pglogrepl.LSN
	told      time.Time
}

func startReading(ctx context.Context) (*bareReader, error) {
	config, err := pgconn.ParseConfig(os.Getenv(databaseVariable))
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["replication"] = "database"
	config.RuntimeParams["application_name"] = "bare-reader"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	err = pglogrepl.StartReplication(ctx, conn, os.Getenv(slotVariable), 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'bare'", "messages 'true'"},
	})
	return &bareReader{conn: conn, told: time.Now()}, err
}

// next returns the next message, or nil after a while without one.
func (r *bareReader) next(ctx context.Context) (pglogrepl.Message, error) {
	for {
		if time.Since(r.told) > time.Second {
			if err := r.confirm(ctx); err != nil {
				return nil, err
			}
		}
		waiting, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		raw, err := r.conn.ReceiveMessage(waiting)
		cancel()
		if pgconn.Timeout(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if failed, ok := raw.(*pgproto3.ErrorResponse); ok {
			return nil, pgconn.ErrorResponseToPgError(failed)
		}
		data, ok := raw.(*pgproto3.CopyData)
		if !ok {
			continue
		}
		switch data.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			if err := r.answer(ctx, data.Data[1:]); err != nil {
				return nil, err
			}
		case pglogrepl.XLogDataByteID:
			return r.decode(data.Data[1:])
		}
	}
}

// answer answers a sign of life of the server that asks for one.
func (r *bareReader) answer(ctx context.Context, keepalive []byte) error {
	alive, err := pglogrepl.ParsePrimaryKeepaliveMessage(keepalive)
	if err != nil || !alive.ReplyRequested {
		return err
	}
	return r.confirm(ctx)
}

func (r *bareReader) decode(data []byte) (pglogrepl.Message, error) {
	log, err := pglogrepl.ParseXLogData(data)
	if err != nil {
		return nil, err
	}
	message, err := pglogrepl.Parse(log.WALData)
	if err != nil {
		return nil, err
	}
	if commit, ok := message.(*pglogrepl.CommitMessage); ok {
		r.confirmed = commit.TransactionEndLSN
	}
	return message, nil
}

func (r *bareReader) confirm(ctx context.Context) error {
	r.told = time.Now()
	return pglogrepl.SendStandbyStatusUpdate(ctx, r.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: r.confirmed})
}

func playAnswerWAL(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, os.Getenv(databaseVariable))
	if err != nil {
		return err
	}
	reader, err := startReading(ctx)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	changed := ""
	for {
		message, err := reader.next(ctx)
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case *pglogrepl.UpdateMessage:
			changed = string(m.NewTuple.Columns[0].Data)
		case *pglogrepl.CommitMessage:
			if changed != "" {
				if _, err := conn.Exec(ctx, answerStatement(), changed); err != nil {
					return err
				}
			}
			changed = ""
		}
	}
}

// playRead reads until a transaction has ended with which it has read as many
// changes as its standard input says, which may come when they have been read
// already.
func playRead(ctx context.Context) error {
	var target atomic.Int64
	target.Store(math.MaxInt64)
	reader, err := startReading(ctx)
	if err != nil {
		return err
	}
	fmt.Println("streaming", time.Now().UnixNano())
	// It ends with the process.
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		if n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
			target.Store(n)
		}
	}()
	changes, committed := int64(0), int64(0)
	ended := time.Now()
	for committed < target.Load() {
		message, err := reader.next(ctx)
		if err != nil {
			return err
		}
		switch message.(type) {
		case *pglogrepl.InsertMessage, *pglogrepl.UpdateMessage, *pglogrepl.DeleteMessage:
			changes++
		case *pglogrepl.CommitMessage:
			committed = changes
			ended = time.Now()
		}
	}
	if err := reader.confirm(ctx); err != nil {
		return err
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	fmt.Println("read", ended.UnixNano(), changes, used.Utime.Nano()+used.Stime.Nano())
	return reader.conn.Close(ctx)
}

// peer is a running peer.
type peer struct {
	b       *testing.B
	command *exec.Cmd
	input   *os.File
	lines   chan string
}

// peer starts a peer on the database.
func (d *database) peer(role string, env ...string) *peer {
	d.b.Helper()
	self, err := os.Executable()
	if err != nil {
		d.b.Fatal(err)
	}
	p := &peer{b: d.b, command: exec.Command(self), lines: make(chan string, 16)}
	p.command.Env = append([]string{"PATH=" + os.Getenv("PATH"), roleVariable + "=" + role, databaseVariable + "=" + d.dsn()}, env...)
	p.command.Stderr = os.Stderr
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		d.b.Fatal(err)
	}
	stdin, input, err := os.Pipe()
	if err != nil {
		d.b.Fatal(err)
	}
	p.command.Stdin, p.input = stdin, input
	if err := p.command.Start(); err != nil {
		d.b.Fatal(err)
	}
	_ = stdin.Close()
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
	}()
	d.b.Cleanup(p.end)
	return p
}

// end ends the peer, unless it has ended.
func (p *peer) end() {
	_ = p.input.Close()
	_ = p.command.Process.Kill()
	for range p.lines {
	}
	_ = p.command.Wait()
}

// expect waits for a line of the peer that begins with the word, and returns the
// numbers that follow it.
func (p *peer) expect(word string) []int64 {
	p.b.Helper()
	select {
	case line, open := <-p.lines:
		fields := strings.Fields(line)
		if !open || len(fields) == 0 || fields[0] != word {
			p.b.Fatalf("the peer says %q and not %q", line, word)
		}
		var numbers []int64
		for _, field := range fields[1:] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				p.b.Fatal(errors.Join(err, errors.New(line)))
			}
			numbers = append(numbers, n)
		}
		return numbers
	case <-time.After(10 * patience):
		p.b.Fatalf("the peer has not said %q", word)
		return nil
	}
}
