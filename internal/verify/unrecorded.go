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
// alone are left out, since the leader can have another mode for them.
func (v *Verifier) Unrecorded(ctx context.Context, request Request) (found []Transition, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	ctx, done := v.measured(ctx, request)
	defer func() { done(err) }()
	hinted, usable, err := v.lookAtHints(ctx, request)
	if usable {
		return hinted.transitions(), nil
	}
	var names []string
	if err == nil {
		names, err = v.scan(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("verify providers: %w", err)
	}
	return v.unrecordedOf(ctx, names)
}

// StillUnrecorded is [Verifier.Unrecorded] of the providers named.
func (v *Verifier) StillUnrecorded(ctx context.Context, names []string) (found []Transition, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	ctx, done := v.measured(ctx, Request{All: len(names) > chunk})
	defer func() { done(err) }()
	return v.unrecordedOf(ctx, names)
}

func (v *Verifier) unrecordedOf(ctx context.Context, names []string) (found []Transition, err error) {
	for some := range slices.Chunk(names, chunk) {
		looked, err := v.look(ctx, some, nil, drift.IgnoreCredentials)
		if err != nil {
			return nil, fmt.Errorf("verify providers: %w", err)
		}
		found = append(found, looked.transitions()...)
	}
	return found, nil
}

// transitions returns the transitions of [Verifier.Unrecorded] in a look.
func (l look) transitions() (found []Transition) {
	for _, s := range l.sightings {
		j, before := s.recorded.Judge(s.observation), s.recorded.State
		o := j.Observation
		if j.Alert == "" || before == nil || before.EnvHash != o.EnvHash {
			continue
		}
		if before.DBHash == o.DBHash && (before.Kind == j.Kind || isThere(before.Kind) && isThere(j.Kind)) {
			continue // of credentials, or of what was accepted
		}
		found = append(found, Transition{Provider: o.Provider, Kind: j.Alert, dbHash: o.DBHash})
	}
	return found
}

// isThere reports whether the row of a provider of the kind is live and enabled.
func isThere(k drift.Kind) bool { return k == drift.InSync || k == drift.Changed }
