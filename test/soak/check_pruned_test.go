package soak

import (
	"slices"
	"strconv"
)

// pruning is what the tables hold that are pruned, and what must keep rows in them, as of the
// transactions so far.
type pruning struct {
	cursors map[[2]string]int64 // of the sinks, by sink and stream
	letters map[string]int      // how many sinks have a dead letter, by stream and the event's id
	alerts  []alert             // that are in the table
	entries map[string]int64    // seqs of the audit entries that are in the table, by id
	upTo    map[string]int64    // the seq in provwatch.pruned, by stream
	rows    int                 // how many were pruned
}

func newPruning() pruning {
	return pruning{cursors: map[[2]string]int64{}, letters: map[string]int{}, entries: map[string]int64{}, upTo: map[string]int64{}}
}

// pruned is what one transaction pruned.
type pruned struct {
	alerts   []int64  // seqs
	entries  []string // ids
	silences []string // ids
}

// replay applies a change to what is known of the tables.
func (p *pruning) replay(ch change) {
	number := func(t tuple) int64 {
		n, _ := strconv.ParseInt(t.text("seq"), 10, 64)
		return n
	}
	switch ch.table {
	case "provwatch.sink_cursors":
		if ch.action != "DELETE" {
			p.cursors[[2]string{ch.row.text("sink"), ch.row.text("stream")}] = number(ch.row)
		}
	case "provwatch.sink_dead_letters":
		switch ch.action {
		case "INSERT":
			p.letters[ch.row.text("stream")+ch.row.text("event_id")]++
		case "DELETE":
			p.letters[ch.key.text("stream")+ch.key.text("event_id")]--
		}
	case "provwatch.pruned":
		p.upTo[ch.row.text("stream")] = max(p.upTo[ch.row.text("stream")], number(ch.row))
	}
}

// had returns the seq up to which all sinks have had a stream.
func (p *pruning) had(stream string, last int64) int64 {
	for key, seq := range p.cursors {
		if key[1] == stream {
			last = min(last, seq)
		}
	}
	return last
}

// checkPruned checks that no row that the transaction deleted was needed, and that it stores
// up to which seq it deleted rows.
func (c *checker) checkPruned(t transaction, gone pruned) {
	p := &c.pruning
	p.rows += len(gone.alerts) + len(gone.entries) + len(gone.silences)
	for _, id := range gone.silences {
		c.checkPrunedSilence(t, id)
	}
	if len(gone.alerts) > 0 {
		c.checkPrunedAlerts(t, gone.alerts)
	}
	last := int64(len(c.delivered))
	had := p.had("audit", last)
	for _, id := range gone.entries {
		seq, there := p.entries[id]
		switch {
		case !there:
			c.violate(rulePruned, "", t.end, "audit entry %s was not there", id)
		case seq > had, seq == last, p.letters["audit"+id] > 0, seq > p.upTo["audit"]:
			c.violate(rulePruned, "", t.end, "audit entry %d: the last is %d, sinks have had %d, %d have it as a dead letter, pruned up to %d",
				seq, last, had, p.letters["audit"+id], p.upTo["audit"])
		}
		delete(p.entries, id)
	}
}

func (c *checker) checkPrunedAlerts(t transaction, seqs []int64) {
	p := &c.pruning
	had := p.had("drift", c.lastSeq)
	subjects := map[string]bool{}
	left := slices.DeleteFunc(slices.Clone(p.alerts), func(a alert) bool { return slices.Contains(seqs, a.seq) })
	if len(p.alerts)-len(left) != len(seqs) {
		c.violate(rulePruned, "", t.end, "of the alerts %v not all were there", seqs)
	}
	for _, a := range p.alerts {
		if !slices.Contains(seqs, a.seq) {
			continue
		}
		subjects[a.subject()] = true
		if a.seq > had || a.seq == c.lastSeq || p.letters["drift"+a.id] > 0 || a.seq > p.upTo["drift"] {
			c.violate(rulePruned, a.provider, t.end, "alert %d: the last is %d, sinks have had %d, %d have it as a dead letter, pruned up to %d",
				a.seq, c.lastSeq, had, p.letters["drift"+a.id], p.upTo["drift"])
		}
	}
	// What is left shows how each provider and row stands, now and as each sink was last sent it.
	for subject := range subjects {
		check := func(at int64, sent bool) {
			if before, after := lastKind(c.alerts, subject, at, sent), lastKind(left, subject, at, sent); before != after {
				c.violate(rulePruned, subject, t.end, "up to alert %d it was %q, and without %v it is %q", at, before, seqs, after)
			}
		}
		check(c.lastSeq, false)
		for key, seq := range p.cursors {
			if key[1] == "drift" {
				check(seq, true)
			}
		}
	}
	p.alerts = left
}

// lastKind returns the kind of a subject's last alert up to a seq, empty where it has ended
// what was before. With sent only the alerts count that sinks got.
func lastKind(alerts []alert, subject string, seq int64, sent bool) (kind string) {
	for _, a := range alerts {
		if a.subject() == subject && a.seq <= seq && !(sent && a.silenced) {
			kind = a.kind
		}
	}
	if kind == resolved {
		return ""
	}
	return kind
}
