package rollout_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const window = 2 * time.Minute

// environment is one with a provider of the base URL.
func environment(baseURL string) []provider.Desired {
	return []provider.Desired{{Name: "a", Type: provider.OpenAI, BaseURL: baseURL}, {Name: "b", Type: provider.OpenAI, BaseURL: "https://b/"}}
}

var (
	before = environment("https://before/")
	after  = environment("https://after/")
)

// fixture is a database whose time the test sets.
type fixture struct {
	t      *testing.T
	pool   *pgxpool.Pool
	hasher provider.Hasher
	now    time.Time // of all members
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	pool, _ := pgtest.NewPool(t)
	hasher, err := store.On(pool).Hasher(t.Context())
	require.NoError(t, err)
	return &fixture{t: t, pool: pool, hasher: hasher, now: time.Now()}
}

func (f *fixture) member(role rollout.Role) *rollout.Member {
	m := rollout.NewMember(uuid.New(), window, role)
	m.AtTime(func() time.Time { return f.now })
	return m
}

// pass lets time pass, by the clocks of the database and of the members.
func (f *fixture) pass(d time.Duration) {
	f.t.Helper()
	f.now = f.now.Add(d)
	f.jump(d)
}

// jump sets the database's clock ahead, and leaves those of the members.
func (f *fixture) jump(d time.Duration) {
	f.t.Helper()
	_, err := f.pool.Exec(f.t.Context(), `UPDATE provwatch.workers SET seen_at = seen_at - make_interval(secs => $1)`, d.Seconds())
	require.NoError(f.t, err)
}

// take has the member take a generation, and reports whether it is not older.
func (f *fixture) take(m *rollout.Member, desired []provider.Desired) bool {
	f.t.Helper()
	newest, err := m.Take(f.t.Context(), f.pool, f.hasher, desired)
	if rollout.IsOlder(err) {
		require.Equal(f.t, err, error(m.Older()))
		return false
	}
	require.NoError(f.t, err)
	require.Equal(f.t, f.newest(), newest)
	return true
}

// see has the member seen, and reports whether it is not older.
func (f *fixture) see(m *rollout.Member, desired []provider.Desired) bool {
	f.t.Helper()
	require.NoError(f.t, m.See(f.t.Context(), f.pool, f.hasher, desired))
	require.Equal(f.t, m.Older() == nil, m.MayLead())
	return m.Older() == nil
}

// newest returns the newest generation, 0 for none.
func (f *fixture) newest() (newest int64) {
	f.t.Helper()
	require.NoError(f.t, f.pool.QueryRow(f.t.Context(), `SELECT coalesce(max(generation), 0) FROM provwatch.environments`).Scan(&newest))
	return newest
}

// isNewest reports whether the environment of the providers is the newest.
func (f *fixture) isNewest(desired []provider.Desired) (is bool) {
	f.t.Helper()
	require.NoError(f.t, f.pool.QueryRow(f.t.Context(), `SELECT coalesce((SELECT digest = $1 FROM provwatch.environments ORDER BY generation DESC LIMIT 1), false)`,
		f.hasher.EnvironmentDigest(desired)).Scan(&is))
	return is
}

func TestMember(t *testing.T) {
	t.Parallel()
	t.Run("RollingUpdate", testMemberRollingUpdate)
	t.Run("Rollback", testMemberRollback)
	t.Run("RolledBackTransaction", testMemberRolledBackTransaction)
	t.Run("ReloadsBack", testMemberReloadsBack)
	t.Run("CutOff", testMemberCutOff)
	t.Run("ClockSetAhead", testMemberClockSetAhead)
	t.Run("ClockSetBack", testMemberClockSetBack)
	t.Run("Observer", testMemberObserver)
	t.Run("Operator", testMemberOperator)
	t.Run("LateAnswer", testMemberLateAnswer)
	t.Run("LateQuestion", testMemberLateQuestion)
	t.Run("Notified", testMemberNotified)
}

func testMemberRollingUpdate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, second := f.member(rollout.Seeds), f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	generation := f.newest()
	require.True(t, f.take(first, before))
	require.True(t, f.see(second, before))
	require.Equal(t, generation, f.newest(), "it has the newest")

	next := f.member(rollout.Seeds)
	changed := first.Changed()
	require.True(t, f.take(next, after))
	require.Greater(t, f.newest(), generation)
	require.False(t, f.see(first, before))
	select {
	case <-changed:
	default:
		require.Fail(t, "it is not told")
	}
	require.Equal(t, next.ID(), first.Older().Worker)
	require.Equal(t, f.pool.Config().ConnConfig.User, first.Older().Role)
	require.WithinDuration(t, first.Older().SeenAt.Add(window), first.Older().Until, time.Second)
	generation = f.newest()
	require.False(t, f.take(second, before))
	restarted := f.member(rollout.Seeds)
	require.False(t, f.take(restarted, before), "a restart makes it no newer")
	require.Equal(t, generation, f.newest())
	require.True(t, f.isNewest(after))

	// The newer worker is refreshed, also by another one.
	f.pass(window * 3 / 4)
	require.False(t, f.see(first, before))
	require.True(t, f.see(f.member(rollout.Seeds), after))
	f.pass(window / 2)
	require.False(t, f.see(first, before))
}

func testMemberRollback(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, next := f.member(rollout.Seeds), f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	require.True(t, f.take(next, after))
	// The newer worker is seen no more.
	for range 4 {
		require.False(t, f.take(first, before))
		f.pass(window / 4)
	}
	require.True(t, f.take(first, before))
	require.True(t, f.isNewest(before))
	require.False(t, f.take(next, after), "it is the older one now")
	require.False(t, f.see(next, after))

	// After a longer time a start finds no newer worker at once.
	f.pass(2 * window)
	require.True(t, f.take(f.member(rollout.Seeds), after))
	require.True(t, f.isNewest(after))
}

// testMemberRolledBackTransaction rolls back what a seed has recorded.
func testMemberRolledBackTransaction(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, next := f.member(rollout.Seeds), f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	tx, err := f.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = next.Take(t.Context(), tx, f.hasher, after)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	require.True(t, f.see(first, before))
	require.True(t, f.isNewest(before))
}

// testMemberReloadsBack has a worker read its former environment again, while no other worker
// has the one between.
func testMemberReloadsBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	only := f.member(rollout.Seeds)
	require.True(t, f.take(only, before))
	require.True(t, f.take(only, after))
	require.True(t, f.take(only, before))
	require.True(t, f.isNewest(before))

	other := f.member(rollout.Seeds)
	require.True(t, f.take(only, after))
	require.True(t, f.see(other, after))
	require.False(t, f.take(only, before), "another worker still has it")
	require.True(t, f.see(other, before))
	require.True(t, f.take(only, before))
}

// testMemberCutOff cuts both workers off from the database for a long time.
func testMemberCutOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, next := f.member(rollout.Seeds), f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	require.True(t, f.take(next, after))
	require.False(t, f.see(first, before))
	f.pass(10 * window)
	require.False(t, f.take(first, before), "the newer one was cut off as well")
	require.True(t, f.see(next, after))
	require.False(t, f.see(first, before))

	f.pass(10 * window)
	for range 2 { // half of the window at the first answer
		require.False(t, f.take(first, before))
		f.pass(window / 4)
	}
	require.True(t, f.take(first, before), "it is there no more")
}

// testMemberClockSetAhead sets the database's clock ahead.
func testMemberClockSetAhead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, next := f.member(rollout.Seeds), f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	require.True(t, f.take(next, after))
	require.False(t, f.see(first, before))
	f.jump(24 * time.Hour)
	require.False(t, f.take(first, before))
	require.True(t, f.see(next, after))
	require.False(t, f.see(first, before))
}

// testMemberClockSetBack sets the database's clock back, after which the newer worker ends.
func testMemberClockSetBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, next := f.member(rollout.Seeds), f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	require.True(t, f.take(next, after))
	require.False(t, f.see(first, before))
	f.jump(-24 * time.Hour)
	for range 4 {
		require.False(t, f.take(first, before))
		f.pass(window / 4)
	}
	require.True(t, f.take(first, before), "what is from the future is no sign of a worker")
}

func testMemberObserver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, observer := f.member(rollout.Seeds), f.member(rollout.Observes)
	require.True(t, f.take(first, before))
	generation := f.newest()
	require.True(t, f.take(observer, after))
	require.True(t, f.see(observer, after))
	require.Equal(t, generation, f.newest(), "its environment gets no generation")
	require.True(t, f.see(first, before))
	var announced int
	require.NoError(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM provwatch.workers`).Scan(&announced))
	require.Equal(t, 1, announced)

	require.True(t, f.take(f.member(rollout.Seeds), after))
	require.True(t, f.take(observer, after))
	require.False(t, f.take(observer, before), "it is older like any other")
}

// testMemberOperator has an operator apply an older environment.
func testMemberOperator(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, next := f.member(rollout.Seeds), f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	require.True(t, f.take(next, after))
	require.False(t, f.see(first, before))
	newest, err := f.member(rollout.Applies).Take(t.Context(), f.pool, f.hasher, before)
	require.NoError(t, err)
	require.Equal(t, f.newest(), newest)
	require.True(t, f.isNewest(before))
	require.True(t, f.see(first, before))
	require.False(t, f.see(next, after))
}

// testMemberLateAnswer has an answer come after the one to a later question.
func testMemberLateAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, next := f.member(rollout.Seeds), f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	// A transaction that is asked first, and answers last.
	asked := &slow{DBTX: f.pool, begun: make(chan struct{}), goOn: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- first.See(t.Context(), asked, f.hasher, before) }()
	<-asked.begun
	require.True(t, f.take(next, after))
	require.False(t, f.see(first, before))
	close(asked.goOn)
	require.NoError(t, <-done)
	require.NotNil(t, first.Older())
}

// testMemberLateQuestion has a question reach the database after a later one was answered, and
// after another worker has taken a newer generation in between.
func testMemberLateQuestion(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, next := f.member(rollout.Seeds), f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	asked := &slow{DBTX: f.pool, late: true, begun: make(chan struct{}), goOn: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		_, err := first.Take(t.Context(), asked, f.hasher, before)
		done <- err
	}()
	<-asked.begun
	require.True(t, f.see(first, before))
	require.True(t, f.take(next, after))
	close(asked.goOn)
	err := <-done
	require.True(t, rollout.IsOlder(err), "the newest generation is not its own: %v", err)
	require.False(t, f.see(first, before))
}

// slow is a database whose answer to a query is held back, or which gets it late.
type slow struct {
	store.DBTX
	late        bool
	begun, goOn chan struct{}
}

func (s *slow) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if s.late {
		close(s.begun)
		<-s.goOn
		return s.DBTX.Query(ctx, sql, args...)
	}
	rows, err := s.DBTX.Query(ctx, sql, args...)
	close(s.begun)
	<-s.goOn
	return rows, err
}

// testMemberNotified listens as workers do.
func testMemberNotified(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	conn, err := pgx.ConnectConfig(t.Context(), f.pool.Config().ConnConfig)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), `LISTEN provwatch_environments`)
	require.NoError(t, err)
	first := f.member(rollout.Seeds)
	require.True(t, f.take(first, before))
	require.True(t, f.take(first, before))
	require.True(t, f.take(first, after))
	for range 2 {
		_, err := conn.WaitForNotification(t.Context())
		require.NoError(t, err)
	}
	_, err = conn.Exec(t.Context(), `NOTIFY provwatch_environments, 'end'`)
	require.NoError(t, err)
	n, err := conn.WaitForNotification(t.Context())
	require.NoError(t, err)
	require.Equal(t, "end", n.Payload, "one for each generation")
}
