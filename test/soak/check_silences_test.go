package soak

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// silences are the silences of the history, and what it takes to compare their times. Times
// are by the server's clock and jump with it, unless their comment excludes the jumps.
type silences struct {
	all     map[string]*silencing // by id
	lasting map[string][]alert    // the alerts of the drift that lasts, by subject

	offset       time.Duration // by which the clock has jumped, as of the last transaction
	jumped       time.Time     // when it was first seen to have jumped last, without its jumps
	before, last time.Time     // when the last two transactions ended

	silenced, repeated int // alerts
}

// silencing is a silence.
type silencing struct {
	provider string // * for all
	begins   time.Time
	ends     []ending // as it was made, and as it was changed since
}

// ending is when a silence ends.
type ending struct {
	at time.Time // zero once it is deleted
	// known is since when each statement sees it, without the clock's jumps: its command had
	// returned by then. It is zero where that is not known.
	known time.Time
}

// pass follows the clock at the end of a transaction.
func (s *silences) pass(at, real time.Time) {
	if offset := at.Sub(real); offset != s.offset {
		s.offset, s.jumped = offset, real
	}
	s.before, s.last = s.last, at
}

// mark takes the operator's word that a command has returned.
func (s *silences) mark(op, ids string, real time.Time) {
	if op != opSilenced && op != opUnsilenced {
		return
	}
	for _, id := range strings.Fields(ids) {
		if x := s.all[id]; x != nil {
			if e := &x.ends[len(x.ends)-1]; !e.at.IsZero() && e.known.IsZero() {
				e.known = real
			}
		}
	}
}

// The operations of an operator in the history table, with the ids of the silences.
const (
	opSilenced   = "silenced"
	opUnsilenced = "unsilenced"
)

// match reports whether silences match a provider at any time between two, the first of which is
// also given without the clock's jumps: for certain, and possibly.
func (s *silences) match(provider string, from, to, real time.Time) (certain, possible bool) {
	for _, x := range s.all {
		if x.provider != provider && x.provider != "*" {
			continue
		}
		seen, always := false, true
		for _, e := range slices.Backward(x.ends) {
			always = always && !x.begins.After(from) && e.at.After(to)
			possible = possible || !x.begins.After(to) && e.at.After(from)
			if seen = !e.known.IsZero() && e.known.Before(real); seen {
				break // no statement sees the ones before it
			}
		}
		certain = certain || seen && always
	}
	return certain, possible
}

// silence applies a change of provwatch.silences.
func (c *checker) silence(e *effects, t transaction, ch change) {
	id := ch.row.text("id")
	if ch.action == "DELETE" {
		id = ch.key.text("id")
	}
	x := c.silences.all[id]
	if x == nil && ch.action != "INSERT" {
		c.violate(ruleHistory, "", t.end, "%s of silence %s, which is not there", ch.action, id)
		return
	}
	if ch.action == "DELETE" {
		e.pruned.silences = append(e.pruned.silences, id)
		return
	}
	provider := ch.row.text("provider")
	begins, err := parseTime(ch.row.text("begins_at"))
	ends, err2 := parseTime(ch.row.text("ends_at"))
	if err != nil || err2 != nil {
		c.violate(ruleHistory, provider, t.end, "silence %s lasts from %q to %q", id, ch.row.text("begins_at"), ch.row.text("ends_at"))
	}
	action := "silence.create"
	if ch.action == "INSERT" {
		x = &silencing{provider: provider, begins: begins}
		c.silences.all[id] = x
	} else {
		action = "silence.end"
		if x.provider != provider || !x.begins.Equal(begins) || ends.After(x.ends[len(x.ends)-1].at) {
			c.violate(ruleSilenced, provider, t.end, "silence %s of %s until %s was changed: of %s until %s", id, x.provider, x.ends[len(x.ends)-1].at, provider, ends)
		}
	}
	x.ends = append(x.ends, ending{at: ends})
	e.silenced = append(e.silenced, fmt.Sprintf("%s %s %s %s", action, provider, id, ends.UTC().Format(time.RFC3339Nano)))
}

// checkSilenceEntries checks a transaction that made silences, or ended one: it did nothing else,
// and staged an audit entry for each.
func (c *checker) checkSilenceEntries(t transaction, e *effects) {
	if e.written || len(e.inserted) > 0 || len(e.keys) > 0 {
		c.violate(ruleSeedWrite, "", t.end, "by a command that silences")
	}
	var have []string
	for _, entry := range e.staged {
		expires, _ := time.Parse(time.RFC3339Nano, entry.details.Expires)
		have = append(have, fmt.Sprintf("%s %s %d %s", entry.action, entry.provider, entry.details.Silence, expires.UTC().Format(time.RFC3339Nano)))
	}
	switch {
	case len(have) < len(e.silenced):
		c.violate(ruleAuditLost, "", t.end, "staged %q and not %q", have, e.silenced)
	case !slices.Equal(have, e.silenced):
		c.violate(ruleAudit, "", t.end, "staged %q and not %q", have, e.silenced)
	}
}

// checkPrunedSilence checks that a silence that was deleted had ended.
func (c *checker) checkPrunedSilence(t transaction, id string) {
	x, now := c.silences.all[id], t.at
	if c.silences.before.After(now) {
		now = c.silences.before // the clock can have been set back since the statement
	}
	if ends := x.ends[len(x.ends)-1].at; ends.After(now) {
		c.violate(rulePruned, x.provider, t.end, "silence %s, which ends at %s", id, ends)
	}
	x.ends = append(x.ends, ending{})
}

// checkSilenced checks whether an alert is silenced, and what it ends or repeats: the end of a
// drift is, exactly when all its alerts were, and of others the silences decide that match when
// they are written.
func (c *checker) checkSilenced(a alert) {
	if a.provider == "" {
		if a.silenced {
			c.violate(ruleSilenced, a.provider, a.end, "alert %d, %s, is silenced", a.seq, a.kind)
		}
		return
	}
	lasting := c.silences.lasting[a.subject()]
	if a.silenced {
		c.silences.silenced++
	}
	if a.repeats != 0 || a.source == "silence" {
		c.checkRepeat(lasting, a)
	}
	var last int64
	sent := false
	for _, before := range lasting {
		last, sent = before.seq, sent || !before.silenced
	}
	if a.kind != resolved || last == 0 {
		c.checkMatch(a)
	} else if a.silenced == sent {
		c.violate(ruleSilenced, a.provider, a.end, "alert %d, %s: silenced %t, and of the alerts of the drift that it ends went one to sinks: %t", a.seq, a.kind, a.silenced, sent)
	}
	if a.kind != resolved {
		c.silences.lasting[a.subject()] = append(lasting, a)
		return
	}
	if a.resolves != last {
		c.violate(ruleContent, a.provider, a.end, "alert %d ends alert %d and not %d", a.seq, a.resolves, last)
	}
	delete(c.silences.lasting, a.subject())
}

// checkMatch compares whether an alert is silenced with the silences. It was decided between its
// detection and its commit. Nothing is compared where the clock jumped meanwhile.
func (c *checker) checkMatch(a alert) {
	s := &c.silences
	real := c.real(a.detected)
	from := real.Add(a.committed.Sub(c.real(a.committed)))
	if !s.jumped.IsZero() && !real.After(s.jumped) || from.After(a.committed) {
		return
	}
	certain, possible := s.match(a.provider, from, a.committed, real)
	if a.silenced && !possible || !a.silenced && certain {
		c.violate(ruleSilenced, a.provider, a.end, "alert %d, %s, written between %s and %s: silenced %t, a silence matches: %t for certain, %t possibly",
			a.seq, a.kind, from.Format(clockTime), a.committed.Format(clockTime), a.silenced, certain, possible)
	}
}

const clockTime = "15:04:05.000000"

// checkRepeat checks an alert of a drift that has outlived its silence: it is the last alert again,
// which was silenced.
func (c *checker) checkRepeat(lasting []alert, a alert) {
	c.silences.repeated++
	if len(lasting) == 0 {
		c.violate(ruleRepeat, a.provider, a.end, "alert %d repeats %d, and no drift lasts", a.seq, a.repeats)
		return
	}
	last := lasting[len(lasting)-1]
	gone := a.kind == missing || a.kind == deleted // whose values do not matter
	if a.source != "silence" || a.repeats != last.seq || !last.silenced || a.of != 0 ||
		a.kind != last.kind || !gone && a.dbHash != last.dbHash || a.envHash != last.envHash || !slices.Equal(a.fields, last.fields) {
		c.violate(ruleRepeat, a.provider, a.end, "alert %d, %s %.6s from %s, repeats %d; the last one is %d, %s %.6s, silenced %t",
			a.seq, a.kind, a.dbHash, a.source, a.repeats, last.seq, last.kind, last.dbHash, last.silenced)
	}
}

// outlived returns, by subject, the last alert of each drift that lasts, where it is silenced.
func (s *silences) outlived() map[string]alert {
	left := map[string]alert{}
	for subject, lasting := range s.lasting {
		if last := lasting[len(lasting)-1]; last.silenced {
			left[subject] = last
		}
	}
	return left
}

// checkOutlived checks that no drift is left whose last alert is silenced, and that no silence
// matches any more.
func (c *checker) checkOutlived() {
	last := c.silences.last
	for _, a := range c.silences.outlived() {
		if _, possible := c.silences.match(a.provider, last, last, c.real(last)); !possible {
			c.violate(ruleOutlived, a.provider, a.end, "alert %d, %s", a.seq, a.kind)
		}
	}
}

// checkLasted checks that a drift which was not alerted before had lasted for --alert-after: since the
// first commit that the last alert does not account for. Nothing is checked where the clock
// jumped meanwhile.
func (c *checker) checkLasted(p *track, a alert) {
	if c.alertAfter == 0 || c.reading || p.recorded.kind != inSync || a.kind == resolved {
		return
	}
	for _, m := range p.moments[p.handled:] {
		if m.kind == inSync || m.kind == notComparable || m.at.IsZero() {
			continue
		}
		if lasted := a.committed.Sub(m.at); lasted < c.alertAfter && c.silences.jumped.Before(c.real(m.at)) {
			c.violate(ruleEarly, a.provider, a.end, "alert %d, %s, after %s: %s", a.seq, a.kind, lasted, c.around(a.provider, a.end))
		}
		return
	}
}
