package verify

import (
	"context"

	"provwatch/internal/provider"
	"provwatch/internal/rollout"
	"provwatch/internal/store"
)

// While a rolling update has workers with different environments side by side, only one of
// these environments may be recorded of: the newest. A verification takes its generation
// before it reads, gets the newest one in the statement that reads the rows, and names it in
// the statement that records. So rows that a worker with a newer environment has applied are
// never judged by an older one.

// JoinAs makes the verifier record only while the member's environment, which is the desired
// providers, is not older than another one. It is called before the first verification.
// Without it other environments do not matter.
func (v *Verifier) JoinAs(member *rollout.Member) { v.member = member }

// RefreshMember has the member seen with the present environment, by db, and updates what it
// knows of the others.
func (v *Verifier) RefreshMember(ctx context.Context, db store.DBTX) error {
	hasher, err := v.knownHasher(ctx)
	if err != nil {
		return err
	}
	return v.member.See(ctx, db, hasher, v.environment.Load().desired)
}

// takeGeneration returns the newest generation that an environment was recorded with, and has
// it recorded where it was not.
func (v *Verifier) takeGeneration(ctx context.Context, db store.DBTX, e *environment, h provider.Hasher) (newest int64, err error) {
	if v.member == nil {
		return store.AnyEnvironment, nil
	}
	if taken := e.newest.Load(); taken != nil {
		return *taken, nil
	}
	if newest, err = v.member.Take(ctx, db, h, e.desired); err != nil {
		return 0, err
	}
	e.newest.Store(&newest)
	return newest, nil
}

// TakeGeneration takes a generation for the present environment, unless it has taken one. A
// transaction that calls [Verifier.Record] then does not keep this worker from showing that it is
// there. The error is a [*rollout.OlderError] where the environment is older than another one.
func (v *Verifier) TakeGeneration(ctx context.Context) error {
	if v.member == nil {
		return nil
	}
	hasher, err := v.knownHasher(ctx)
	if err != nil {
		return err
	}
	_, err = v.takeGeneration(ctx, v.pool, v.environment.Load(), hasher)
	return err
}

// whyRefused returns why a record of the environment was refused in the transaction tx: a
// [*rollout.OlderError], or that another worker has recorded.
func (v *Verifier) whyRefused(ctx context.Context, tx store.DBTX, e *environment, h provider.Hasher) error {
	e.newest.Store(nil)
	if _, err := v.takeGeneration(ctx, tx, e, h); err != nil {
		return err
	}
	e.newest.Store(nil) // the caller rolls back
	return errRace
}

// Overtaken has the verifier take a generation again, where the WAL shows that an environment
// was recorded. It fails with a [*rollout.OlderError] where that is newer than the present one.
// The caller has waited until queries see the transaction.
func (v *Verifier) Overtaken(ctx context.Context) error {
	if v.member == nil {
		return nil
	}
	hasher, err := v.knownHasher(ctx)
	if err != nil {
		return err
	}
	environment := v.environment.Load()
	environment.newest.Store(nil)
	_, err = v.takeGeneration(ctx, v.pool, environment, hasher)
	return err
}
