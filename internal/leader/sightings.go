package leader

import (
	"fmt"
	"math"
	"time"

	"provwatch/internal/lockwait"
)

// sighting is what a turn has seen of the leader.
type sighting struct {
	Term   int64
	Leader int32 // the server's process that holds the lock of the term, 0 for none
	Beat   int64 // its latest sign of life, -1 for none
}

// A sign of life is a number that changes. Its last bits say how soon the next one comes, so
// that a standby with another --takeover-after does not take its leader for silent.
const (
	intervalBits = 6
	intervalUnit = 100 * time.Millisecond
	// minSightings is in how many turns a leader must have been seen without a new sign of
	// life.
	minSightings = 4
	// signsMissed is how many signs of life a leader misses until it is replaced.
	signsMissed = 6
)

// beatNumber returns the number of a sign of life, one of a leader's series. Fractions of
// the unit are left out.
func beatNumber(series int32, interval time.Duration) int32 {
	units := int32(min(interval/intervalUnit, 1<<intervalBits-1))
	return (series<<intervalBits | units) & math.MaxInt32
}

// interval is how soon the next sign of life comes, as the latest one says, and 0 before
// the first one.
func (s sighting) interval() time.Duration {
	if s.Beat < 0 {
		return 0
	}
	return time.Duration(s.Beat&(1<<intervalBits-1)) * intervalUnit
}

// isStranger reports whether the session that holds the lock has shown no sign of life.
// A leader shows the first one as soon as its term has begun.
func (s sighting) isStranger() bool { return s.Leader != 0 && s.Beat < 0 }

// silence is the error of a leader that shows no sign of life, while who holds its lock.
func (s sighting) silence(since time.Duration, who lockwait.Holder) error {
	since = since.Round(time.Second)
	switch {
	case s.Leader == 0 && who.Prepared == "":
		return fmt.Errorf("no worker has led for %s", since)
	case s.Leader == 0, s.isStranger():
		return fmt.Errorf("%s has held the leader's lock for %s and is no worker that leads; %s", who, since, who.Remedy())
	}
	return fmt.Errorf("the leader, %s, has shown no sign of life for %s", who, since)
}

// sightings are what several turns in a row have seen of the leader. Its zero value has
// seen nothing.
type sightings struct {
	seen  sighting
	count int       // of sightings that were the same
	first time.Time // of these, with a monotonic reading
	last  time.Time
}

// see adds what a turn has seen at the moment now. After a gap of more than maxGap, as of
// a standby that was frozen itself, counting starts again.
func (s *sightings) see(seen sighting, now time.Time, maxGap time.Duration) {
	if s.count == 0 || seen != s.seen || now.Sub(s.last) > maxGap {
		*s = sightings{seen: seen, first: now}
	}
	s.count++
	s.last = now
}

// silentFor is for how long the leader has shown no new sign of life, as far as it was
// seen.
func (s *sightings) silentFor() time.Duration { return s.last.Sub(s.first) }

// isOverdue reports whether a standby must replace the leader.
func (s *sightings) isOverdue(after time.Duration) bool {
	return s.count >= minSightings && s.silentFor() >= after
}
