package history

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// afterQuery does something once, after the first query whose text contains another.
type afterQuery struct {
	text string
	once sync.Once
	do   func()
}

type tracedQuery struct{}

func (a *afterQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, tracedQuery{}, data.SQL)
}

func (a *afterQuery) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(tracedQuery{}).(string); strings.Contains(sql, a.text) {
		a.once.Do(a.do)
	}
}

// sequence is a database with alerts.
type sequence struct {
	t    *testing.T
	pool *pgxpool.Pool
	log  bytes.Buffer
}

// newSequence returns one whose alerts have the seqs 1 to last.
func newSequence(t *testing.T, last int) *sequence {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	s := &sequence{t: t, pool: pool}
	s.publish(1, last)
	return s
}

func (s *sequence) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.pool.Exec(s.t.Context(), sql, args...)
	require.NoError(s.t, err)
}

// publish adds alerts of the current epoch.
func (s *sequence) publish(first, last int) {
	s.t.Helper()
	s.exec(`WITH counted AS (UPDATE provwatch.alert_counter SET last_seq = $2::int RETURNING epoch)
		INSERT INTO provwatch.drift_alerts (seq, id, kind, provider, fields, env_hash, db_hash, source, detected_at, epoch)
		SELECT n, gen_random_uuid(), 'changed', 'a', '[]', '', '', 'notify', now(), epoch FROM counted, generate_series($1::int, $2::int) n`, first, last)
}

// prune deletes the alerts up to a seq as old ones.
func (s *sequence) prune(last int) {
	s.t.Helper()
	s.exec(`DELETE FROM provwatch.drift_alerts WHERE seq <= $1`, last)
	s.exec(`INSERT INTO provwatch.pruned (stream, seq) VALUES ('drift', $1) ON CONFLICT (stream) DO UPDATE SET seq = excluded.seq`, last)
}

// whileReading returns a pool of whose reads the first is interrupted, after its first
// statement.
func (s *sequence) whileReading(do func()) *pgxpool.Pool {
	s.t.Helper()
	config := s.pool.Config()
	config.ConnConfig.Tracer = &afterQuery{text: "name: ReadAlertsEnd", do: do}
	pool, err := pgxpool.NewWithConfig(s.t.Context(), config)
	require.NoError(s.t, err)
	s.t.Cleanup(pool.Close)
	return pool
}

func (s *sequence) begin(since int64) *position {
	s.t.Helper()
	p, err := begin(s.t.Context(), s.pool, since, s.logger())
	require.NoError(s.t, err)
	return p
}

func (s *sequence) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&s.log, nil)) }

// read reads the next alerts, and returns their seqs.
func (s *sequence) read(p *position, pool *pgxpool.Pool) (seqs []int64) {
	s.t.Helper()
	alerts, err := p.next(s.t.Context(), pool, s.logger())
	require.NoError(s.t, err)
	for _, a := range alerts {
		seqs = append(seqs, a.Seq)
		p.read(a)
	}
	return seqs
}

// TestConsistentRead interrupts a read between its statements.
func TestConsistentRead(t *testing.T) {
	t.Parallel()
	t.Run("Pruned", testConsistentReadPruned)
	t.Run("Rewound", testConsistentReadRewound)
}

// testConsistentReadPruned prunes alerts that a reader was about to read.
func testConsistentReadPruned(t *testing.T) {
	t.Parallel()
	s := newSequence(t, 4)
	p := s.begin(0)
	require.Equal(t, []int64{1, 2, 3, 4}, s.read(p, s.whileReading(func() { s.prune(3) })), "all that were there at first")
	s.publish(5, 6)
	s.prune(5)
	require.Empty(t, s.log.String())
	require.Equal(t, []int64{6}, s.read(p, s.pool))
	require.Equal(t, 1, strings.Count(s.log.String(), "alerts were pruned"))
	require.Contains(t, s.log.String(), "since=4 pruned_up_to=5")
}

// testConsistentReadRewound has a restore set the sequence back, and alerts published after it, while
// a reader reads. The reader takes none of them for the next one of its own epoch.
func testConsistentReadRewound(t *testing.T) {
	t.Parallel()
	s := newSequence(t, 3)
	p := s.begin(0)
	require.Equal(t, []int64{1, 2, 3}, s.read(p, s.pool))
	require.Empty(t, s.read(p, s.whileReading(func() {
		s.exec(`DELETE FROM provwatch.drift_alerts WHERE seq > 1`)
		s.exec(`UPDATE provwatch.alert_counter SET epoch = gen_random_uuid()`)
		s.publish(2, 5)
	})))
	require.Empty(t, s.log.String())
	require.Equal(t, []int64{2, 3, 4, 5}, s.read(p, s.pool))
	require.Contains(t, s.log.String(), "sequence of alerts rewound")
	end, err := store.On(s.pool).ReadAlertsEnd(t.Context(), 5)
	require.NoError(t, err)
	require.Equal(t, end.Epoch, p.epoch)
}
