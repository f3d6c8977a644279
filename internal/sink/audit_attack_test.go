//go:build e2e

package sink

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pubsub"
)

// recorder is a webhook's consumer that takes whatever is a CloudEvent, and keeps
// the ids.
type recorder struct {
	*httptest.Server
	mu  sync.Mutex
	ids []string
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		var event cloudevent.Event
		body, err := io.ReadAll(request.Body)
		if err == nil {
			err = event.UnmarshalJSON(body)
		}
		if err != nil {
			t.Errorf("%v: %.200s", err, body)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ids = append(r.ids, event.ID())
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}

// operator connects as a role that has what sql/roles.sql grants an operator.
func (f *feed) operator() *pgx.Conn {
	f.t.Helper()
	script, err := os.ReadFile("../../sql/roles.sql")
	require.NoError(f.t, err)
	for _, statements := range []string{string(script), `DO $$
		BEGIN
			CREATE ROLE test_sink_operator LOGIN IN ROLE provwatch_operator;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END $$`} {
		_, err = f.pool.Exec(f.t.Context(), statements)
		require.NoError(f.t, err)
	}
	config := f.pool.Config().ConnConfig.Copy()
	config.User = "test_sink_operator"
	conn, err := pgx.ConnectConfig(f.t.Context(), config)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

const stageRow = `INSERT INTO provwatch.audit_outbox (id, occurred_at, actor, action, provider, provider_id, details) `

func TestAuditAttacks(t *testing.T) {
	t.Parallel()
	t.Run("Operator", testAuditAttacksOperator)
	t.Run("PlantedRows", testAuditAttacksPlantedRows)
}

// testAuditAttacksOperator runs statements of an operator's own. A statement that could
// delay or hide the entries of others is refused, and a statement that is accepted harms
// no other entry.
func testAuditAttacksOperator(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	operator := f.operator()
	f.audit("before")

	const denied, refused = "42501", "23514" // privilege, check
	for _, attack := range []struct{ code, statement string }{
		{denied, `INSERT INTO provwatch.audit_log (id, seq, occurred_at, actor, action, provider, details)
			VALUES (gen_random_uuid(), 9223372036854775807, now(), 'a', 'b', 'c', '{}')`},
		{denied, `UPDATE provwatch.audit_log SET seq = 9223372036854775807`},
		{denied, `DELETE FROM provwatch.audit_log`},
		{denied, `TRUNCATE provwatch.audit_log`},
		{denied, `LOCK TABLE provwatch.audit_log IN ACCESS EXCLUSIVE MODE`},
		{denied, `SELECT FROM provwatch.audit_outbox`},
		{denied, `SELECT FROM provwatch.audit_outbox FOR UPDATE`},
		{denied, `UPDATE provwatch.audit_outbox SET details = '{}'`},
		{denied, `DELETE FROM provwatch.audit_outbox`},
		{denied, `TRUNCATE provwatch.audit_outbox`},
		{denied, `LOCK TABLE provwatch.audit_outbox IN ACCESS EXCLUSIVE MODE`},
		{denied, `LOCK TABLE provwatch.audit_outbox IN EXCLUSIVE MODE`},
		{denied, `INSERT INTO provwatch.audit_outbox (seq, id, occurred_at, actor, action, provider, details) OVERRIDING SYSTEM VALUE
			VALUES (9223372036854775807, gen_random_uuid(), now(), 'a', 'b', 'c', '{}')`},
		{denied, `COPY provwatch.audit_outbox (seq, id) FROM STDIN`},
		{denied, `SELECT setval('provwatch.audit_outbox_seq_seq', 9223372036854775807)`},
		{denied, `SELECT nextval('provwatch.audit_outbox_seq_seq')`},
		{denied, `UPDATE provwatch.audit_counter SET last_seq = 0`},
		{denied, `SELECT last_seq FROM provwatch.audit_counter FOR UPDATE`},
		{denied, `SELECT last_seq FROM provwatch.audit_counter FOR KEY SHARE`},
		{denied, `LOCK TABLE provwatch.audit_counter IN ACCESS EXCLUSIVE MODE`},
		{denied, `UPDATE provwatch.sink_cursors SET seq = 9223372036854775807`},
		{denied, `DELETE FROM provwatch.sink_dead_letters`},
		{refused, stageRow + `VALUES (gen_random_uuid(), 'infinity', 'a', 'b', 'c', NULL, '{}')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), '-infinity', 'a', 'b', 'c', NULL, '{}')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), '200000-01-01', 'a', 'b', 'c', NULL, '{}')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), '4000-01-01 BC', 'a', 'b', 'c', NULL, '{}')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), now(), repeat('a', 1001), 'b', 'c', NULL, '{}')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), now(), 'a', repeat('b', 1001), 'c', NULL, '{}')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), now(), 'a', 'b', repeat('c', 100000000), NULL, '{}')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), now(), 'a', 'b', '', NULL, '{}')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), now(), 'a', 'b', 'c', NULL, '[]')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), now(), 'a', 'b', 'c', NULL, 'null')`},
		{refused, stageRow + `VALUES (gen_random_uuid(), now(), 'a', 'b', 'c', NULL, jsonb_build_object('type', repeat('x', 262145)))`},
		// Some hundred bytes, and megabytes as text.
		{refused, stageRow + `SELECT gen_random_uuid(), now(), 'a', 'b', 'c', NULL,
			jsonb_build_object('keys', jsonb_agg(1e131000::numeric)) FROM generate_series(1, 30)`},
	} {
		err := pgx.BeginFunc(t.Context(), operator, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), attack.statement)
			return err
		})
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, "%s", attack.statement)
		require.Equal(t, attack.code, pg.Code, "%s: %s", attack.statement, pg.Message)
	}

	// What can be staged: without the seed lock, with used ids, at the bounds of times
	// and lengths, with control characters and blanks.
	open, err := operator.Begin(t.Context())
	require.NoError(t, err)
	_, err = open.Exec(t.Context(), stageRow+`VALUES ('00000000-0000-0000-0000-000000000001', now(), 'a', 'b', 'late', NULL, '{}')`)
	require.NoError(t, err)
	other := f.operator()
	var used string
	require.NoError(t, f.pool.QueryRow(t.Context(), `SELECT id::text FROM provwatch.audit_log`).Scan(&used))
	want := []string{used}
	for i, values := range []string{
		`(@id, '0001-01-01 00:00:00+00', 'a', 'b', 'c', NULL, '{}')`,
		`(@id, '9999-12-31 23:59:59+00', 'a', 'b', 'c', NULL, '{}')`,
		`(@id, now(), repeat(chr(1), 1000), repeat(chr(27), 1000), repeat('c', 1000), NULL, '{}')`,
		`(@id, now(), 'a', 'b', '  ', NULL, '{}')`,
		`(@id, now(), 'a', 'b', E'c.*>\n', NULL, '{"keys": "many", "changes": 7}')`,
		`(@id, now(), 'a', 'b', 'c', NULL, jsonb_build_object('type', repeat('x', 262100)))`,
		`(@id, now(), 'a', 'b', 'c', NULL, jsonb_build_object('type', repeat(chr(9), 130000)))`,
		`(@id, now(), 'a', 'b', 'c', NULL, ('{"a":' || repeat('[', 1500) || repeat(']', 1500) || '}')::jsonb)`,
		`(@id, now(), 'a', 'b', 'c', NULL, '{"keys": 1e131000}')`,
	} {
		id := fmt.Sprintf("00000000-0000-0000-0001-%012d", i)
		_, err := other.Exec(t.Context(), stageRow+"VALUES "+strings.ReplaceAll(values, "@id", "'"+id+"'"))
		require.NoError(t, err, values)
		want = append(want, id)
	}
	_, err = other.Exec(t.Context(), stageRow+`VALUES ($1, now(), 'forged', 'b', 'c', NULL, '{}')`, used)
	require.NoError(t, err)

	webhook := newRecorder(t)
	server := startNATS(t)
	stored := server.stream(jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"ops.provwatch.>"}})
	runner, _ := f.run(time.Hour, newWebhook(t, webhook.URL), server.sink("AUDIT"))
	f.audit("genuine")
	require.NoError(t, open.Commit(t.Context()))
	f.audit("later")
	runner.Wake(Audit)

	log := f.strings(`SELECT id::text FROM provwatch.audit_log ORDER BY seq`)
	require.Len(t, log, len(want)+3)
	require.Equal(t, want, log[:len(want)])
	require.Equal(t, []string{"genuine", "late", "later"}, f.strings(fmt.Sprintf(`SELECT provider FROM provwatch.audit_log WHERE seq > %d ORDER BY seq`, len(want))),
		"what is committed late comes late")
	require.Equal(t, []string{"system"}, f.strings(`SELECT actor FROM provwatch.audit_log WHERE id = '`+used+`'`), "an entry is not replaced")
	for _, name := range []string{"webhook", "nats"} {
		eventually(t, func() bool { return f.cursor(name, Audit) == int64(len(log)) }, "the cursor of %s is at the end, not at %d", name, f.cursor(name, Audit))
	}
	var published []string
	for _, m := range stored.messages() {
		published = append(published, m.Header.Get("Nats-Msg-Id"))
	}
	for name, got := range map[string][]string{"webhook": webhook.got(), "nats": published} {
		dead := f.strings(`SELECT event_id::text FROM provwatch.sink_dead_letters WHERE sink = '` + name + `'`)
		for _, id := range append(want[1:], dead...) {
			require.False(t, slices.Contains(got, id) && slices.Contains(dead, id), "%s: %s is delivered or a dead letter", name, id)
		}
		sent := slices.DeleteFunc(slices.Clone(log), func(id string) bool { return slices.Contains(dead, id) })
		require.Equal(t, f.byProvider(sent), f.byProvider(firsts(got)), name)
		require.Subset(t, got, []string{log[0], log[len(want)], log[len(want)+2]}, "%s: what others have staged", name)
	}
	require.Empty(t, f.announcementsOf("sink_gap"))
}

// testAuditAttacksPlantedRows plants rows as a role that may insert into the log. Every
// entry is delivered and sent all the same.
func testAuditAttacksPlantedRows(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	webhook := newRecorder(t)
	runner, _ := f.run(time.Hour, newWebhook(t, webhook.URL))
	f.audit("a")
	const many = 2*window + 5
	for _, seq := range []string{"9223372036854775807", "1000", "-1", "0", "1", "2", "3"} {
		_, err := f.pool.Exec(t.Context(), `INSERT INTO provwatch.audit_log (id, seq, occurred_at, actor, action, provider, details)
			VALUES (gen_random_uuid(), `+seq+`, now(), 'a', 'b', 'planted', '{}')`)
		require.NoError(t, err)
	}
	// More of one seq than a queue reads at a time.
	_, err := f.pool.Exec(t.Context(), `INSERT INTO provwatch.audit_log (id, seq, occurred_at, actor, action, provider, details)
		SELECT gen_random_uuid(), 2, now(), 'a', 'b', 'planted', '{}' FROM generate_series(1, $1)`, many)
	require.NoError(t, err)
	for i := range 3 {
		f.audit(fmt.Sprint("genuine-", i))
		runner.Wake(Audit)
		eventually(t, func() bool { return f.cursor("webhook", Audit) == int64(2+i) }, "the cursor is at the last entry")
	}
	require.Equal(t, 4, len(f.strings(`SELECT id::text FROM provwatch.audit_log WHERE provider <> 'planted'`)))
	require.Subset(t, webhook.got(), f.strings(`SELECT id::text FROM provwatch.audit_log WHERE provider <> 'planted'`))
	require.Subset(t, webhook.got(), f.strings(`SELECT id::text FROM provwatch.audit_log WHERE seq = 2`), "each row of one seq")
	require.NotSubset(t, webhook.got(), f.strings(`SELECT id::text FROM provwatch.audit_log WHERE seq = 1000`))
	require.Empty(t, f.announcements())
	state, err := Inspect(t.Context(), f.pool)
	require.NoError(t, err)
	require.Zero(t, state.Sinks[0].Behind)
}

// byProvider returns ids of audit entries by provider, each in the order given: a sink promises
// no other order.
func (f *feed) byProvider(ids []string) map[string][]string {
	f.t.Helper()
	names, providers := f.strings(`SELECT id::text FROM provwatch.audit_log ORDER BY seq`), f.strings(`SELECT provider FROM provwatch.audit_log ORDER BY seq`)
	list := map[string][]string{}
	for _, id := range ids {
		i := slices.Index(names, id)
		require.GreaterOrEqual(f.t, i, 0, "%s is an entry", id)
		list[providers[i]] = append(list[providers[i]], id)
	}
	return list
}

// firsts returns each text where it comes first: a webhook can be sent an event once more.
func firsts(texts []string) (list []string) {
	for _, text := range texts {
		if !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return list
}

// announcementsOf returns those of an event.
func (f *feed) announcementsOf(event pubsub.Event) []string {
	return slices.DeleteFunc(f.announcements(), func(text string) bool { return !strings.HasPrefix(text, string(event)+":") })
}

// strings returns the result of a query of one text column.
func (f *feed) strings(query string) []string {
	f.t.Helper()
	rows, err := f.pool.Query(f.t.Context(), query)
	require.NoError(f.t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(f.t, err)
	return list
}
