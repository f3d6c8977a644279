package rollout

import (
	"time"

	"provwatch/internal/store"
)

// absence is for how long no worker with a newer environment was seen. It counts the time of
// this worker's own clock in which the database answered, and no more than the database's clock
// has it. Its zero value has had no answer.
type absence struct {
	seenAt   time.Time     // when a newer worker was seen last, by the database's clock
	lasted   time.Duration // since then
	answered time.Time     // of the last answer, with a monotonic reading
}

// see adds an answer, and returns for how long no newer worker was seen. Between two answers no
// more than half of the window counts: for longer, this worker was cut off.
func (a *absence) see(s store.Standing, now time.Time, window time.Duration) time.Duration {
	first, elapsed := a.answered.IsZero(), now.Sub(a.answered)
	if s.Newer == nil {
		*a = absence{answered: now}
		return 0
	}
	age, most := s.At.Sub(s.Newer.SeenAt), window/2
	switch {
	case first: // there is only the database's clock
		a.lasted = max(0, age)
	case s.Newer.SeenAt.After(a.seenAt): // it was seen again
		a.lasted = min(max(0, age), most)
	default:
		a.lasted += min(max(0, elapsed), most)
		if age >= 0 { // otherwise the database's clock was set back
			a.lasted = min(a.lasted, age)
		}
	}
	a.seenAt, a.answered = s.Newer.SeenAt, now
	return a.lasted
}
