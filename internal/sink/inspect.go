package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/remedy"
	"provwatch/internal/schema"
	"provwatch/internal/store"
	"provwatch/internal/suggest"
)

// maxLetters is how many dead letters are listed.
const maxLetters = 1000

// State is how far all sinks of a database are, sinks that no worker has any more
// included.
type State struct {
	Sinks []Progress `json:"sinks"`
	// DeadLetters are the first or latest ones where there are many.
	DeadLetters []DeadLetter `json:"dead_letters"`
}

// DeadLetter is an event that a sink did not take.
type DeadLetter struct {
	Sink     string    `json:"sink"`
	Stream   Stream    `json:"stream"`
	Seq      int64     `json:"seq"`
	EventID  uuid.UUID `json:"event_id"`
	Provider string    `json:"provider"`
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"`
	Retry    bool      `json:"retry"` // whether a retry is requested
}

// Progress is how far a sink is with a stream.
type Progress struct {
	Sink        string `json:"sink"`
	Stream      Stream `json:"stream"`
	Seq         int64  `json:"seq"`    // all events up to it are acknowledged, or dead letters
	Behind      int64  `json:"behind"` // how many events come after it
	DeadLetters int64  `json:"dead_letters"`
	// MovedAt is when seq was last changed, zero where there was no event for the sink yet.
	MovedAt time.Time `json:"moved_at,omitzero"`
}

// Knows returns an error that names the sinks there are when none has the name.
func (s State) Knows(name string) error {
	var names []string
	for _, p := range s.Sinks {
		if p.Sink == name {
			return nil
		}
		if !slices.Contains(names, p.Sink) { // one line for each stream
			names = append(names, p.Sink)
		}
	}
	if len(names) == 0 {
		return errors.New("there is no sink: no worker has sent this database's events to any")
	}
	return fmt.Errorf("there is no sink of that name: there are %s%s", strings.Join(names, ", "), suggest.DidYouMean(name, names))
}

// Inspect reads how far sinks are, and the first of their dead letters: those of
// one sink after the other, by seq. The error is a [*schema.UnusableError] when the
// tables are not there.
func Inspect(ctx context.Context, db store.DBTX) (State, error) {
	letters, err := store.On(db).ListDeadLetters(ctx, maxLetters)
	if err != nil {
		return State{}, readError(err)
	}
	return inspect(ctx, db, letters)
}

// InspectLatest is [Inspect] with the latest dead letters, at most so many, the
// latest first.
func InspectLatest(ctx context.Context, db store.DBTX, most int) (State, error) {
	letters, err := store.On(db).ListLatestDeadLetters(ctx, int32(most))
	if err != nil {
		return State{}, readError(err)
	}
	return inspect(ctx, db, letters)
}

func inspect(ctx context.Context, db store.DBTX, letters []store.ProvwatchSinkDeadLetter) (State, error) {
	sinks, err := store.On(db).ListSinks(ctx)
	if err != nil {
		return State{}, readError(err)
	}
	state := State{Sinks: []Progress{}, DeadLetters: []DeadLetter{}}
	for _, s := range sinks {
		progress := Progress{Sink: s.Sink, Stream: Stream(s.Stream), Seq: s.Seq, Behind: s.Behind, DeadLetters: s.DeadLetters}
		if s.MovedAt.Unix() != 0 { // the epoch stands for never
			progress.MovedAt = s.MovedAt.UTC()
		}
		state.Sinks = append(state.Sinks, progress)
	}
	for _, l := range letters {
		state.DeadLetters = append(state.DeadLetters, DeadLetter{
			Sink: l.Sink, Stream: Stream(l.Stream), Seq: l.Seq, EventID: l.EventID, Provider: l.Provider, Reason: l.Reason,
			Attempts: int(l.Attempts), At: l.At.UTC(), Retry: l.Retry,
		})
	}
	return state, nil
}

// readError explains why the tables of sinks cannot be used.
func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case schema.IsMissing(err):
		return &schema.UnusableError{Err: remedy.Problem(`provwatch's tables of sinks are not there yet; start "worker run", or run `, remedy.Run("migrate"))}
	default:
		return fmt.Errorf("read provwatch's tables of sinks: %w", err)
	}
}
