// Package waittest lets tests wait for events. Their only deadline is [Patience],
// a guard against hanging: a test that reaches it has failed, however busy the
// machine is, and no test takes it for proof that nothing happened.
package waittest

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// Patience bounds every wait for an event. It is far above what the slowest event
// takes on a busy machine, and below the timeout of "go test".
const Patience = 5 * time.Minute

// The time between two looks at a condition grows from firstPause to lastPause: what is
// quick is seen at once, and looking takes little from what is slow.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// Until waits until the condition holds, and fails the test after [Patience] with
// the message, whose args are formatted then.
func Until(t testing.TB, condition func() bool, message string, args ...any) {
	t.Helper()
	pause, deadline := firstPause, time.Now().Add(Patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", Patience, fmt.Sprintf(message, args...))
		}
		time.Sleep(pause)
		pause = min(pause*5/4, lastPause)
	}
}

// Receive returns the next value of a channel, and fails the test after [Patience]
// or when the channel is closed.
func Receive[T any](t testing.TB, from <-chan T, message string, args ...any) (value T) {
	t.Helper()
	select {
	case value, open := <-from:
		if !open {
			t.Fatalf("closed: %s", fmt.Sprintf(message, args...))
		}
		return value
	case <-time.After(Patience):
		t.Fatalf("not within %s: %s", Patience, fmt.Sprintf(message, args...))
	}
	return value
}

// Closed waits until a channel is closed, and fails the test after [Patience].
func Closed(t testing.TB, channel <-chan struct{}, message string, args ...any) {
	t.Helper()
	select {
	case <-channel:
	case <-time.After(Patience):
		t.Fatalf("not within %s: %s", Patience, fmt.Sprintf(message, args...))
	}
}

// Context returns a context for calls that wait for an event. It ends with the
// test, and after [Patience].
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Lazy is an argument of a message that is computed when it is printed.
type Lazy func() any

// String implements [fmt.Stringer].
func (l Lazy) String() string { return fmt.Sprint(l()) }
