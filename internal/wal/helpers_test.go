package wal

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
	"provwatch/internal/leader"
	"provwatch/internal/pgtest"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// hasher has a key as each database has one.
var hasher = provider.NewRandomHasher()

// unmeasured measures nothing.
type unmeasured struct{}

func (unmeasured) SlotObserved(SlotStatus)                     {}
func (unmeasured) TransactionsHandled(int)                     {}
func (unmeasured) DriftsObserved(map[string]drift.Kind)        {}
func (unmeasured) SilencedObserved(map[string]bool)            {}
func (unmeasured) PendingObserved(map[string]drift.Kind)       {}
func (unmeasured) DriftPassed()                                {}
func (unmeasured) UnmanagedObserved(int)                       {}
func (unmeasured) Verified(verify.Scope, time.Duration, error) {}
func (unmeasured) AlertPublished(drift.Kind, pubsub.Source)    {}
func (unmeasured) GapObserved(drift.Kind, time.Time)           {}
func (unmeasured) NotComparableObserved(map[string]string)     {}

// host is a [Host] that keeps what was verified.
type host struct {
	verified []verify.Request
	failed   []error
}

func (h *host) Publish(context.Context) error { return nil }
func (h *host) Streaming(context.Context)     {}

func (h *host) Verified(request verify.Request, err error) {
	h.verified, h.failed = append(h.verified, request), append(h.failed, err)
}

// newVerifier returns a verifier for the desired providers.
func newVerifier(pool *pgxpool.Pool, desired ...provider.Desired) *verify.Verifier {
	return verify.New(pool, desired, drift.IgnoreCredentials, slog.New(slog.DiscardHandler), unmeasured{})
}

// startPosition stores the position 0/10 of a slot "s".
func startPosition(t *testing.T, queries *store.Queries) {
	t.Helper()
	started, err := queries.StartWALPosition(t.Context(), store.StartWALPositionParams{Slot: "s", AppliedLsn: "0/10"})
	require.NoError(t, err)
	require.EqualValues(t, 1, started)
}

// newTestHandler returns a handler as of the position 0/10 of a slot "s".
func newTestHandler(pool *pgxpool.Pool, desired ...provider.Desired) (*handler, *host) {
	reports := &host{}
	reader := &Reader{
		Pool: pool, Verifier: newVerifier(pool, desired...), Pending: verify.NewQueue(), Metrics: unmeasured{}, Host: reports, Term: &leader.Term{},
	}
	b := &streamState{mirror: newMirror(hasher), marks: &marks{}}
	b.position = &position{pool: pool, term: reader.Term, slot: "s", applied: 0x10}
	b.position.isAt(0x10)
	b.confirmer = &confirmer{pool: pool, marks: b.marks}
	return reader.newHandler(b, newBacklog(), nil, &failures{}), reports
}

// requirePosition checks the stored position.
func requirePosition(t *testing.T, queries *store.Queries, want pglogrepl.LSN) {
	t.Helper()
	position, err := queries.ReadWALPosition(t.Context())
	require.NoError(t, err)
	require.Equal(t, want.String(), position.AppliedLsn)
}
