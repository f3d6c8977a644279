package verify

import (
	"context"
	"fmt"
	"slices"

	"provwatch/internal/drift"
)

// Transition is a drift, or the end of one, of which no alert is recorded. Two are equal
// when they are the same one.
type Transition struct {
	Provider string
	Kind     drift.Kind // of the alert that is due
	dbHash   string
}

// Unrecorded verifies as [Verifier.Verify] does, and records nothing. It returns the
// transitions that it would alert, where those are for the leader to alert as well: the
// leader has compared the provider with the same environment. Transitions of credentials
// alone, and of unmanaged rows, are left out, since the leader can have another mode for them.
func (v *Verifier) Unrecorded(ctx context.Context, request Request) (found []Transition, err error) {
	err = v.measure(ctx, request.All, func(ctx context.Context, run *verification) (err error) {
		found, err = run.unrecorded(ctx, request)
		return err
	})
	return found, err
}

// StillUnrecorded is [Verifier.Unrecorded] of the providers named.
func (v *Verifier) StillUnrecorded(ctx context.Context, names []string) (found []Transition, err error) {
	err = v.measure(ctx, len(names) > chunk, func(ctx context.Context, run *verification) (err error) {
		found, err = run.unrecordedOf(ctx, names)
		return err
	})
	return found, err
}

func (r *verification) unrecorded(ctx context.Context, request Request) ([]Transition, error) {
	hinted, usable, err := r.readHinted(ctx, request)
	if usable {
		return hinted.transitions(), r.unlessReplaced()
	}
	var found suspects
	if err == nil {
		found, err = r.scan(ctx, false)
	}
	if err != nil {
		return nil, fmt.Errorf("verify providers: %w", err)
	}
	r.v.conditions.inSync(ctx, r.environment, found.names)
	return r.unrecordedOf(ctx, found.names)
}

func (r *verification) unrecordedOf(ctx context.Context, names []string) (found []Transition, err error) {
	for some := range slices.Chunk(names, chunk) {
		read, err := r.read(ctx, some, nil, drift.IgnoreCredentials)
		if err != nil {
			return nil, fmt.Errorf("verify providers: %w", err)
		}
		found = append(found, read.transitions()...)
	}
	return found, r.unlessReplaced()
}

// transitions returns the transitions of [Verifier.Unrecorded] in a reading.
func (r reading) transitions() (found []Transition) {
	for _, c := range r.comparisons {
		j, before := c.recorded.Judge(c.observation), c.recorded.State
		o := j.Observation
		if j.Alert == "" || before == nil || before.EnvHash != o.EnvHash {
			continue
		}
		if before.DBHash == o.DBHash && (before.Kind == j.Kind || isThere(before.Kind) && isThere(j.Kind)) {
			continue // of credentials, or of what was accepted
		}
		if c.recorded.IsExpired() || c.recorded.Pending != nil {
			continue // which the leader alerts at its next verification
		}
		found = append(found, Transition{Provider: o.Provider, Kind: j.Alert, dbHash: o.DBHash})
	}
	return found
}

// isThere reports whether the row of a provider of the kind is live and enabled.
func isThere(k drift.Kind) bool { return k == drift.InSync || k == drift.Changed }
