package soak

import (
	"fmt"
	"time"
)

// inFlight is how long after losing the lock a leader's transaction may still
// begin: it was on its way.
const inFlight = time.Second

// holding is a time for which one session was seen to hold the leader's lock.
type holding struct {
	pid         int
	worker      string
	first, last time.Time // by the server's clock
}

// leaderSamples are what samples of pg_locks show of the leader.
type leaderSamples struct {
	holdings   []holding
	violations []violation
}

// sample adds the holders seen at one moment, by process id.
func (l *leaderSamples) sample(at time.Time, holders map[int]string) {
	if len(holders) > 1 {
		l.violations = append(l.violations, violation{Rule: ruleLeaders, Detail: fmt.Sprintf("%d sessions hold the lock: %v", len(holders), holders)})
	}
	for pid, worker := range holders {
		if n := len(l.holdings); n > 0 && l.holdings[n-1].pid == pid && l.holdings[n-1].worker == worker {
			l.holdings[n-1].last = at
			continue
		}
		l.holdings = append(l.holdings, holding{pid, worker, at, at})
	}
}

// interlopers finds alerts that a worker wrote in a transaction begun while
// another one had been the leader for longer than [inFlight]. authors tells by
// seq who logged an alert.
func (l *leaderSamples) interlopers(alerts []alert, authors map[int64]string) []violation {
	var found []violation
	for _, a := range alerts {
		author, known := authors[a.seq]
		if !known || a.began.IsZero() {
			continue
		}
		for _, h := range l.holdings {
			if h.worker != author && a.began.After(h.first.Add(inFlight)) && a.began.Before(h.last) {
				found = append(found, violation{Rule: ruleLeaders, Provider: a.provider, At: a.end.String(), Detail: fmt.Sprintf(
					"alert %d was written by %s in a transaction begun at %s, and %s was the leader from %s to %s",
					a.seq, author, a.began.Format("15:04:05.000"), h.worker, h.first.Format("15:04:05.000"), h.last.Format("15:04:05.000"))})
			}
		}
	}
	return found
}
