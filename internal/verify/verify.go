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
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/rollout"
	"provwatch/internal/secret"
	"provwatch/internal/store"
)

// hintedTimeout bounds a verification of named providers, by default. A verification that
// takes longer is broken off and retried, for the case that its connection is dead without
// having been closed.
const hintedTimeout = 10 * time.Second

// Verifier verifies. Its methods other than [Verifier.TakeOver] can be called by several
// goroutines.
type Verifier struct {
	// Not changed after the first verification has begun.
	pool         *pgxpool.Pool
	logger       *slog.Logger
	metrics      Metrics
	reader       reader
	answerWithin time.Duration   // bounds the verification of named providers
	alertAfter   time.Duration   // how long a drift must last until it is alerted
	member       *rollout.Member // nil where other environments do not matter

	// environment is written by SetDesired and BeginApply. Each user loads it once.
	environment atomic.Pointer[environment]
	// hasher makes hashes. Verifications and takeovers write it when they have read its
	// key from the database; nil before.
	hasher atomic.Pointer[provider.Hasher]

	// These have locks of their own.
	baseline   baseline
	conditions *conditions
	sequence   sequence
	silences   *deadlines // of drifts whose latest alert is silenced
	pending    *deadlines // of pending drifts
	accepted   *deadlines // of acceptances that have an end
}

// New returns a verifier for the desired providers.
func New(pool *pgxpool.Pool, desired []provider.Desired, credentials drift.CredentialMode, logger *slog.Logger, metrics Metrics) *Verifier {
	v := &Verifier{
		pool: pool, logger: logger, metrics: metrics, answerWithin: hintedTimeout,
		reader:     reader{credentials: credentials, digest: secret.NewDigester()},
		conditions: newConditions(logger), silences: newDeadlines(), pending: newDeadlines(), accepted: newDeadlines(),
	}
	v.SetDesired(desired)
	return v
}

// AnswerWithin bounds a verification of named providers, 10 s by default; one of all may
// take two minutes. It is called before the first verification.
func (v *Verifier) AnswerWithin(limit time.Duration) { v.answerWithin = limit }

// AlertAfter makes the verifier alert a drift once it has lasted for the time given, at once by
// default. It is called before the first verification.
func (v *Verifier) AlertAfter(least time.Duration) { v.alertAfter = least }

// Decrypt makes the verifier decode encrypted rows with the keys. It is called before the
// first verification.
func (v *Verifier) Decrypt(keys *dbcrypt.Ring) { v.reader.keys = keys }

// LookForUnmanaged sets how rows count that the environment does not name. Without it they are
// ignored. It is called before the first verification.
func (v *Verifier) LookForUnmanaged(mode drift.UnmanagedMode) { v.reader.unmanaged = mode }

// LooksForUnmanaged reports whether rows are looked for that the environment does not name.
func (v *Verifier) LooksForUnmanaged() bool { return v.reader.unmanaged.Looks() }

// SetNotComparable takes over which providers a seed could not compare, and has logged, by
// name with the reason. It is called before the first verification.
func (v *Verifier) SetNotComparable(reasons map[string]string) {
	v.conditions.setNotComparable(reasons)
}

// SetDesired replaces the desired providers, and the names of those whose type the database
// lacks, which are not compared. It waits for no verification. One under way
// records nothing of the former ones from now on, and begins again with these. The caller
// then adds a request for everything.
//
// An alert whose statement has begun stands: the provider drifted when it was detected.
func (v *Verifier) SetDesired(desired []provider.Desired, unsupported ...string) {
	v.replace(v.compared(desired, unsupported))
}

// BeginApply is [Verifier.SetDesired] before a reload writes to the rows what the environment
// has changed. Until the caller replaces the environment again, a drift that this ends is not
// recorded.
func (v *Verifier) BeginApply(desired []provider.Desired, unsupported ...string) {
	e := v.compared(desired, unsupported)
	e.applying = true
	v.replace(e)
}

// replace replaces the environment.
func (v *Verifier) replace(e *environment) {
	if former := v.environment.Load(); former != nil {
		e.dropped = e.lacks(slices.AppendSeq(former.allNames(), maps.Keys(v.dropped(former))))
		e.term = v.sequence.currentTerm()
		if !e.applying && e.agreesWith(former) {
			e.newest.Store(former.newest.Load())
		}
	}
	v.environment.Store(e)
}

// dropped returns the names that reloads have dropped, until the drifts of unnamed providers were
// ended for the environment: the rows of these names were named before. Nothing need be recorded
// of such a provider, as of one whose type the database lacks. A term that ends before keeps them,
// and so does a worker that stood by at the reload: the leader may have ended before it verified.
func (v *Verifier) dropped(e *environment) map[string]bool {
	if e.ended.Load() {
		return nil
	}
	return e.dropped
}

// compared returns the environment of the desired providers.
func (v *Verifier) compared(desired []provider.Desired, unsupported []string) *environment {
	compared := make([]provider.Desired, len(desired))
	for i, d := range desired {
		compared[i] = v.reader.desired(d)
	}
	return newEnvironment(compared, unsupported)
}

// Named returns the desired provider of a name.
func (v *Verifier) Named(name string) (provider.Desired, bool) {
	return v.environment.Load().find(name)
}

// Mentions reports whether the environment names a provider, which need not be compared.
func (v *Verifier) Mentions(name string) bool { return v.environment.Load().mentions(name) }

// Names returns the names of all desired providers.
func (v *Verifier) Names() []string { return v.environment.Load().names }

// Providers returns how many providers the environment names.
func (v *Verifier) Providers() int { return len(v.environment.Load().names) }

// ComparesCredentials reports whether credentials are compared.
func (v *Verifier) ComparesCredentials() bool { return v.reader.credentials.Compares() }

// AlertsSeen adds how far the sequence of alerts has got.
func (v *Verifier) AlertsSeen(epoch uuid.UUID, lastSeq int64) { v.sequence.see(epoch, lastSeq) }

// knownHasher returns what makes hashes, and reads its key where that was not read yet.
func (v *Verifier) knownHasher(ctx context.Context) (provider.Hasher, error) {
	if hasher := v.hasher.Load(); hasher != nil {
		return *hasher, nil
	}
	return v.Hasher(ctx)
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
