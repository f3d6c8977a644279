package leader

import (
	"context"
	"errors"
	"fmt"

	"provwatch/internal/store"
)

// ErrResigned says that the worker has given the term up.
var ErrResigned = errors.New("this worker has resigned")

// ErrSteppedDown is the end of a term that the worker has left to a newer one.
var ErrSteppedDown = errors.New("this worker has stepped down")

// ErrReplaced says that somebody else than a worker has written the row in which the terms
// and the alerts are numbered, as in a restore. The next leader looks into it.
var ErrReplaced = errors.New("the row of provwatch.alert_counter was replaced, as in a restore")

// Term is the time for which a session leads.
type Term struct {
	// Number is that of the term in provwatch.alert_counter.
	Number int64
	// PID is the server's process of the session.
	PID uint32

	ctx       context.Context
	end       context.CancelCauseFunc
	listening chan struct{}
}

// Context ends with the term: when the session is lost, or another worker leads. Its
// cause says which.
func (t *Term) Context() context.Context { return t.ctx }

// Listening is closed once the session counts as listening.
func (t *Term) Listening() <-chan struct{} { return t.listening }

// Confirm fails unless the term is still the current one. The session may take a while to
// learn that it is not.
func (t *Term) Confirm(ctx context.Context, db store.DBTX) error {
	current, err := store.On(db).CurrentTerm(ctx)
	if err != nil {
		return fmt.Errorf("confirm the leadership: %w", err)
	}
	if current != t.Number {
		return store.ErrLaterTerm
	}
	return nil
}

// IsContended reports whether another worker waits to lead.
func (t *Term) IsContended(ctx context.Context, db store.DBTX) (bool, error) {
	contended, err := store.On(db).IsContended(ctx, t.Number)
	if err != nil {
		return false, fmt.Errorf("look for a worker that waits to lead: %w", err)
	}
	return contended, nil
}
