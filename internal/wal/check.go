package wal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/drift"
	"provwatch/internal/retry"
	"provwatch/internal/store"
	"provwatch/internal/verify"
)

const (
	// A request that waits for queries is retried after minVisiblePause, and then less and
	// less often, up to maxVisiblePause, both before jitter.
	minVisiblePause = time.Millisecond
	maxVisiblePause = time.Second
	// maxDisagreements is how often in a row the tables may disagree with the mirror. What
	// is committed while they are read shows in the WAL before it shows to queries, so that
	// one disagreement is no contradiction.
	maxDisagreements = 20
)

// checker verifies what is asked for beside the stream, one request at a time. It reads the
// provider tables, writes a marker to the WAL, and records what it has read once the
// stream has passed the marker and the mirror agrees. Only the handler's goroutine touches
// it.
type checker struct {
	pool       *pgxpool.Pool
	verifier   *verify.Verifier
	mirror     *mirror
	position   *position
	recorder   *recorder
	confirmer  *confirmer
	visibility *visibilityTracker

	waiting   *waiting // the request that waits for queries, nil for none
	current   *check   // the verification under way, nil for none
	disagreed map[drift.Subject]int
}

// waiting is a request that waits until queries see what the stream showed before.
type waiting struct {
	request verify.Request
	xids    []int64 // of transactions that can still be invisible to queries
	pauses  *retry.Backoff
}

// check is a verification that waits for the stream to pass the moment at which it read
// the tables.
type check struct {
	request  verify.Request
	begun    verify.Begun
	subjects []drift.Subject // that are still to be read
	again    bool            // some of them must be verified again
	observed []verify.Observed
	token    string
	// touched are the providers and rows that the stream has shown a change of since: for
	// these the stream knows better. With allTouched it has possibly changed each row. With large
	// it has judged only the rows that it has changed, and keeps no list of these.
	touched    map[drift.Subject]bool
	allTouched bool
	large      bool
}

// isTouched reports whether the stream has shown a change of a subject since it was read.
func (k *check) isTouched(s drift.Subject) bool {
	return k.touched[s] || k.allTouched && s.Row != uuid.Nil
}

// isFree reports whether the checker can take a request.
func (c *checker) isFree() bool { return c.waiting == nil && c.current == nil }

// take takes a request, which waits for all that the stream has shown so far. What it shows
// later asks for the next one.
func (c *checker) take(request verify.Request) {
	pauses := retry.Policy{First: minVisiblePause, Max: maxVisiblePause, Factor: 2}.Backoff()
	c.waiting = &waiting{request, c.visibility.take(), pauses}
}

// begin begins the verification that waits, unless queries do not see yet what it waits
// for: then it returns the wait until the next attempt.
func (c *checker) begin(ctx context.Context) (wait time.Duration, err error) {
	w := c.waiting
	if w.xids, err = c.visibility.invisible(ctx, w.xids); err != nil {
		return 0, err
	}
	if len(w.xids) > 0 {
		return w.pauses.Next(), nil
	}
	subjects, begun, err := c.verifier.Suspects(ctx, w.request)
	if err != nil {
		return 0, err
	}
	if err := c.read(ctx, &check{request: w.request, begun: begun, subjects: subjects}); err != nil {
		return 0, err
	}
	c.waiting = nil
	return 0, nil
}

// read goes on with a verification: it reads the current rows of the next subjects, and
// then writes a marker. Once the stream has passed the marker, the mirror holds everything
// that the queries could see.
func (c *checker) read(ctx context.Context, k *check) error {
	subjects := k.subjects[:min(len(k.subjects), verify.MaxObserved)]
	next := &check{
		request: k.request, begun: k.begun, subjects: k.subjects[len(subjects):], again: k.again, token: uuid.NewString(), touched: map[drift.Subject]bool{},
	}
	var err error
	if next.observed, err = c.verifier.Observe(ctx, subjects); err != nil {
		return err
	}
	if err := store.On(c.pool).EmitMarker(ctx, next.token); err != nil {
		return fmt.Errorf("write a marker to the WAL: %w", err)
	}
	c.current = next
	return nil
}

// see records what the stream has touched meanwhile. It reports whether the marker of the
// verification under way was in it.
func (c *checker) see(seen *outcome) (marked bool) {
	if c.current == nil {
		return false
	}
	maps.Copy(c.current.touched, seen.touched)
	c.current.allTouched = c.current.allTouched || seen.allTouched
	c.current.large = c.current.large || seen.large
	return slices.Contains(seen.markers, c.current.token)
}

// finish records what was read, whose marker has come, of the providers that the mirror
// agrees about. It then reads the next ones, or ends the verification, which it returns.
// After an error the verification stays the one under way.
func (c *checker) finish(ctx context.Context) (ended *check, err error) {
	k := c.current
	var names []string
	var ids []uuid.UUID
	for _, o := range k.observed {
		if o.OfRow {
			ids = append(ids, o.ProviderID)
		} else {
			names = append(names, o.Provider)
		}
	}
	if err := c.mirror.fetchAll(ctx, store.On(c.pool), ids, names); err != nil {
		return nil, fmt.Errorf("read the mirror of the providers: %w", err)
	}
	agreed, err := c.agreed(k)
	if err != nil {
		return nil, err
	}
	if err := c.record(ctx, agreed, k); err != nil {
		return nil, fmt.Errorf("record a verification: %w", err)
	}
	if len(k.subjects) > 0 {
		if err := c.read(ctx, k); err != nil {
			return nil, fmt.Errorf("go on with a verification: %w", err)
		}
		return nil, nil
	}
	if k.request.All {
		begun := k.begun
		if k.again {
			begun = verify.Begun{} // not everything was verified yet
		}
		if err := c.verifier.End(ctx, k.request.Source, begun); err != nil {
			return nil, fmt.Errorf("end a verification: %w", err)
		}
	}
	c.current = nil
	return k, nil
}

func (c *checker) record(ctx context.Context, agreed []verify.Observed, k *check) error {
	if len(agreed) == 0 {
		return nil
	}
	if err := c.recorder.record(ctx, agreed, k.request.Source, c.position.applied, uuid.Nil); err != nil {
		return err
	}
	return c.confirmer.recorded(ctx, c.position.stored)
}

// agreed returns what the mirror agrees with of that which was read. The rest is verified
// again, or left to the stream. A disagreement that stays is a [gapError].
func (c *checker) agreed(k *check) (agreed []verify.Observed, err error) {
	for _, o := range k.observed {
		if o.OfRow {
			if ok, err := c.agreesOnRow(k, o.Observation); err != nil {
				return nil, err
			} else if ok {
				agreed = append(agreed, o)
			}
			continue
		}
		mirrored, named := observe(c.verifier, c.mirror, o.Provider)
		if k.isTouched(o.Subject()) {
			// A reload of the keys can have come between the stream and the query.
			k.again = k.again || c.verifier.ComparesCredentials() || (mirrored.Unreadable == nil) != (o.Unreadable == nil)
			continue
		}
		seen := o.Observation.WithoutCredentials()
		if !named || mirrored.SameState(seen) {
			delete(c.disagreed, o.Subject())
			agreed = append(agreed, o)
			continue
		}
		if err := c.disagree(mirrored, seen); err != nil {
			return nil, err
		}
		k.again = true
	}
	return agreed, nil
}

// agreesOnRow reports whether the mirror agrees with what was read of a row, which was not
// touched since. The rest is verified again, or left to the stream.
func (c *checker) agreesOnRow(k *check, seen drift.Observation) (bool, error) {
	if k.isTouched(seen.Subject()) {
		k.again = k.again || k.large && !k.touched[seen.Subject()]
		return false, nil
	}
	if observeRow(c.verifier, c.mirror, seen.ProviderID).Kind == seen.Kind {
		delete(c.disagreed, seen.Subject())
		return true, nil
	}
	k.again = true
	if c.disagreed[seen.Subject()]++; c.disagreed[seen.Subject()] > maxDisagreements {
		return false, &gapError{reason: fmt.Sprintf("the mirror of row %s disagrees with the provider table", seen.ProviderID)}
	}
	return false, nil
}

// disagree counts a disagreement. Where only the decoding of settings differs, the mirror
// takes over what was read once the disagreement has lasted.
func (c *checker) disagree(mirrored, seen drift.Observation) error {
	subject := seen.Subject()
	c.disagreed[subject]++
	switch {
	case c.disagreed[subject] <= maxDisagreements:
	case c.mirror.redecode(mirrored, seen):
		delete(c.disagreed, subject)
	default:
		return &gapError{reason: fmt.Sprintf("the mirror of provider %q disagrees with the provider table", seen.Provider)}
	}
	return nil
}

// unfinished returns the request that is not answered. It reports false where there is none.
func (c *checker) unfinished() (verify.Request, bool) {
	switch {
	case c.current != nil:
		return c.current.request, true
	case c.waiting != nil:
		return c.waiting.request, true
	default:
		return verify.Request{}, false
	}
}
