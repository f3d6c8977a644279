// Package verify compares the providers that the environment names with the database, and
// turns what changed since the last verification into alerts (docs/specification.md,
// section 6).
//
// It is level-triggered: a request of the [Queue] names what to verify, never what
// happened. Reading is one statement. When it shows something new, one statement writes
// the alerts, the new state and the notifications together, unless another worker has
// recorded anything since the reading: then it writes nothing, and the verification reads
// again.
//
// A [Verifier] has parts with an owner each: the environment that a reload replaces, the
// reader of rows, the baseline of what is recorded, the conditions of providers, and the
// sequence of alerts. package drift judges. No lock is held while anything waits for the
// database, so that a reload never waits for a verification.
package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/postgres"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/store"
)

// Scope is how much a verification covers.
type Scope string

// The scopes of a verification.
const (
	Full   Scope = "full"
	Hinted Scope = "hinted"
)

const (
	// A verification that takes longer is broken off and retried, for the case that its
	// connection is dead without having been closed. That of named providers is by
	// default, see [Verifier.AnswerWithin].
	fullTimeout   = 2 * time.Minute
	hintedTimeout = 10 * time.Second

	// chunk is how many providers are read and recorded at a time, so that neither memory
	// nor the time that a row of ours is locked grows with them.
	chunk = 2000

	// maxRaces bounds how often a verification reads again because another worker
	// has recorded something since.
	maxRaces = 10
)

// Metrics receives what a [Verifier] measures.
type Metrics interface {
	Verified(scope Scope, took time.Duration, err error)
	AlertPublished(kind drift.Kind, source pubsub.Source)
	// GapObserved gets when there was the latest gap, or the latest rewind that is
	// certain; zero for never.
	GapObserved(kind drift.Kind, at time.Time)
	// DriftsObserved gets the number of providers that drift, by kind.
	DriftsObserved(byKind map[drift.Kind]int)
	// NotComparableObserved gets the providers that cannot be compared, by name, each with
	// the reason. The map is not changed later.
	NotComparableObserved(reasons map[string]string)
}

// Verifier verifies. Its methods other than [Verifier.TakeOver] can be called by several
// goroutines.
type Verifier struct {
	// Not changed after the first verification has begun.
	pool         *pgxpool.Pool
	logger       *slog.Logger
	metrics      Metrics
	reader       reader
	answerWithin time.Duration // bounds the verification of named providers

	// environment is written by SetDesired. Each user loads it once.
	environment atomic.Pointer[environment]
	// hasher makes hashes. Verifications and takeovers write it when they have read its
	// key from the database; nil before.
	hasher atomic.Pointer[provider.Hasher]

	// These have locks of their own.
	baseline   baseline
	conditions *conditions
	sequence   sequence
}

// New returns a verifier for the desired providers.
func New(pool *pgxpool.Pool, desired []provider.Desired, credentials drift.CredentialMode, logger *slog.Logger, metrics Metrics) *Verifier {
	v := &Verifier{
		pool: pool, logger: logger, metrics: metrics, answerWithin: hintedTimeout,
		reader:     reader{credentials: credentials, digest: secret.NewDigester()},
		conditions: newConditions(logger),
	}
	v.SetDesired(desired)
	return v
}

// AnswerWithin bounds a verification of named providers, 10 s by default; one of all may
// take two minutes. It is called before the first verification.
func (v *Verifier) AnswerWithin(limit time.Duration) { v.answerWithin = limit }

// Decrypt makes the verifier decode encrypted rows with the keys. It is called before the
// first verification.
func (v *Verifier) Decrypt(keys *dbcrypt.Ring) { v.reader.keys = keys }

// SetNotComparable takes over which providers a seed could not compare, and has logged, by
// name with the reason. It is called before the first verification.
func (v *Verifier) SetNotComparable(reasons map[string]string) {
	v.conditions.setNotComparable(reasons)
}

// SetDesired replaces the desired providers. It waits for no verification. One under way
// records nothing of the former ones from now on, and begins again with these. The caller
// then adds a request for everything.
//
// An alert whose statement has begun stands: the provider drifted when it was detected.
func (v *Verifier) SetDesired(desired []provider.Desired) {
	compared := make([]provider.Desired, len(desired))
	for i, d := range desired {
		compared[i] = v.reader.desired(d)
	}
	v.environment.Store(newEnvironment(compared))
}

// Named returns the desired provider of a name.
func (v *Verifier) Named(name string) (provider.Desired, bool) {
	return v.environment.Load().find(name)
}

// Names returns the names of all desired providers.
func (v *Verifier) Names() []string { return v.environment.Load().names }

// Providers returns how many providers the environment names.
func (v *Verifier) Providers() int { return len(v.environment.Load().names) }

// ComparesCredentials reports whether credentials are compared.
func (v *Verifier) ComparesCredentials() bool { return v.reader.credentials.Compares() }

// AlertsSeen adds how far the sequence of alerts has got.
func (v *Verifier) AlertsSeen(epoch uuid.UUID, lastSeq int64) { v.sequence.see(epoch, lastSeq) }

// Verify does one verification. Its alerts are durable and published when it returns nil;
// after an error the same request may be verified again, and no alert is published twice.
func (v *Verifier) Verify(ctx context.Context, request Request) error {
	return v.measure(ctx, request.All, func(ctx context.Context, run *verification) error { return run.verify(ctx, request) })
}

// TakeOver prepares for following another worker, whose environment may have named other
// providers. What is recorded from now on is of the term, and refused when there is a
// later one. Where the sequence of alerts was rewound since, it begins an epoch, with an
// alert from the source. No verification is under way meanwhile.
func (v *Verifier) TakeOver(ctx context.Context, term int64, source pubsub.Source) error {
	// After a restore the generation can be equal to the known one, and the recorded states
	// differ.
	v.baseline.forget()
	v.sequence.begin(term)
	_, err := v.Hasher(ctx)
	if err == nil {
		err = v.findGaps(ctx)
	}
	if err == nil {
		err = v.takeCounter(ctx, source)
	}
	if err != nil {
		return fmt.Errorf("take over from another worker: %w", err)
	}
	return nil
}

// Hasher reads the key of hashes anew and returns what makes them from now on. Of another
// key nothing that is recorded of keyed hashes is known.
func (v *Verifier) Hasher(ctx context.Context) (provider.Hasher, error) {
	hasher, err := store.On(v.pool).Hasher(ctx)
	if err == nil {
		v.hasher.Store(&hasher)
	}
	return hasher, err
}

// measure does a verification, bounded in time, and measures it.
func (v *Verifier) measure(ctx context.Context, all bool, do func(context.Context, *verification) error) error {
	scope, limit := Hinted, v.answerWithin
	if all {
		scope, limit = Full, fullTimeout
	}
	start := time.Now()
	err := v.current(ctx, limit, do)
	v.metrics.Verified(scope, time.Since(start), err)
	return err
}

// current does a verification, again while a reload replaces its environment. Each round
// may take the limit, and each of its statements all of that time.
func (v *Verifier) current(ctx context.Context, limit time.Duration, do func(context.Context, *verification) error) error {
	for {
		if err := v.round(ctx, limit, do); !errors.Is(err, errReplaced) {
			return err
		}
	}
}

func (v *Verifier) round(ctx context.Context, limit time.Duration, do func(context.Context, *verification) error) error {
	ctx, cancel := context.WithTimeout(postgres.Bounded(ctx, limit), limit)
	defer cancel()
	run, err := v.begin(ctx)
	if err != nil {
		return fmt.Errorf("verify providers: %w", err)
	}
	return do(ctx, run)
}

// begin begins a verification with the present environment, hashes and term.
func (v *Verifier) begin(ctx context.Context) (*verification, error) {
	hasher := v.hasher.Load()
	if hasher == nil {
		read, err := v.Hasher(ctx)
		if err != nil {
			return nil, err
		}
		hasher = &read
	}
	return &verification{v: v, environment: v.environment.Load(), hasher: *hasher, term: v.sequence.currentTerm()}, nil
}
