package daemon

import (
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"
)

const (
	// listenerLimit is how long the listener may take to come round. Each of its
	// waits is bounded, with the database away as well, and all of them together by
	// less than half of this.
	listenerLimit = 2 * time.Minute
	// verifyLimit is how long it may take until a verification that is asked for
	// ends, whether or not it succeeds, while verifications are made. They are
	// bounded to two minutes, and the waits after those that failed to less; a
	// connection whose peer has vanished fails within a quarter of an hour.
	verifyLimit = 30 * time.Minute
)

// life knows whether the goroutines that make up the worker make progress. What
// they wait for in the database is no matter of it: readiness tells of that, and a
// restart does not help. Its zero value is that of a worker that is still booting,
// which counts as alive.
type life struct {
	mu       sync.Mutex
	ended    string    // a goroutine that ended though the worker goes on
	listened time.Time // when the listener last came round; zero before it runs
	takers   int       // who makes verifications now
	taking   time.Time // since when the last of them does
	asked    time.Time // since when one is asked for and none has ended; zero for none
}

// guard runs a goroutine's work and notes that it has ended, as after a panic,
// which its group keeps until all others have ended.
func (l *life) guard(name string, stopping func() bool, work func()) func() {
	return func() {
		defer func() {
			if !stopping() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.ended = name
			}
		}()
		work()
	}
}

// cameRound notes that the listener makes progress.
func (l *life) cameRound() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listened = time.Now()
}

// take notes that verifications are made from now on, until the function that it
// returns is called.
func (l *life) take() (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takers++
	l.taking = time.Now()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.takers--
	}
}

// ask notes that a verification is asked for.
func (l *life) ask() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked.IsZero() {
		l.asked = time.Now()
	}
}

// verified notes that a verification has ended.
func (l *life) verified() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = time.Time{}
}

// check returns why the worker is not alive at the moment now.
func (l *life) check(now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != "" {
		return fmt.Errorf("the %s has ended", l.ended)
	}
	if quiet := now.Sub(l.listened); !l.listened.IsZero() && quiet > listenerLimit {
		return fmt.Errorf("the listener has not come round for %s", quiet.Round(time.Second))
	}
	since := l.taking
	if l.asked.After(since) {
		since = l.asked
	}
	if waited := now.Sub(since); l.takers > 0 && !l.asked.IsZero() && waited > verifyLimit {
		return fmt.Errorf("no verification has ended for %s", waited.Round(time.Second))
	}
	return nil
}

// describe tells the service manager what the worker does.
func (d *daemon) describe() {
	if err := d.health.ready(); err != nil {
		d.say("not ready: " + err.Error())
		return
	}
	watching := "watching " + english.Plural(d.verifier.Providers(), "provider", "")
	if source, _ := d.source.Load().(string); source != "" {
		d.say(watching + ", leading, source " + source)
		return
	}
	d.say(watching + ", standing by")
}
