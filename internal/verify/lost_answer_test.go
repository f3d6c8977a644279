package verify_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/verify"
	"provwatch/internal/waittest"
)

// loser loses the server's answer to the next record, once that is committed.
type loser struct {
	armed     atomic.Bool // the next record is the one
	loses     atomic.Bool // the next answer is that of the record
	committed func()      // waits until it is
}

func (l *loser) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "name: record ") && l.armed.Swap(false) {
		l.loses.Store(true)
	}
	return ctx
}

func (*loser) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// losing is a connection whose answers its loser loses.
type losing struct {
	net.Conn
	loser *loser
}

func (c losing) Read(b []byte) (int, error) {
	if c.loser.loses.Swap(false) {
		c.loser.committed()
		return 0, io.ErrUnexpectedEOF
	}
	return c.Conn.Read(b)
}

// testOutlivedLostAnswer loses the connection while the server commits a silenced alert, so that
// its worker learns of the alert by no answer. The drift is alerted again all the same.
func testOutlivedLostAnswer(t *testing.T) {
	desired := []provider.Desired{openAI("a"), openAI("b")}
	pool, _, _ := seeded(t, drift.IgnoreCredentials, desired...)
	lost := &loser{committed: func() {
		waittest.Until(t, func() bool { return len(silenced(t, pool)) == 2 }, "the alert is committed")
	}}
	config := pool.Config()
	config.MaxConns = 1
	config.ConnConfig.Tracer = lost
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return losing{conn, lost}, err
	}
	through, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(through.Close)
	v := verify.New(through, desired, drift.IgnoreCredentials, quiet, &counter{})
	move := mover{t, pool, v}
	move.to("b", "https://2/") // from now on the statement is prepared
	silence(t, pool, "a")
	lost.armed.Store(true)
	exec(t, pool, `UPDATE public.ai_providers SET base_url = 'https://2/' WHERE name = 'a'`)
	require.Error(t, v.Verify(t.Context(), resync))
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, []string{"1 changed b", "2 changed a silenced"}, silenced(t, pool))
	endSilences(t, pool)
	require.NoError(t, v.Verify(t.Context(), resync))
	require.Equal(t, "3 changed a repeats 2", silenced(t, pool)[2])
}
