package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// count checks what concerns every alert.
func (c *checker) count(a alert) {
	if a.seq != c.lastSeq+1 {
		c.violate(ruleSeq, a.provider, a.end, "seq %d after %d", a.seq, c.lastSeq)
	}
	c.lastSeq = max(c.lastSeq, a.seq)
	if c.ids[a.id] {
		c.violate(ruleSeq, a.provider, a.end, "the id of alert %d is not unique", a.seq)
	}
	c.ids[a.id] = true
	c.alerts = append(c.alerts, a)
	c.pruning.alerts = append(c.pruning.alerts, a)
	c.checkSilenced(a)
	if p := c.tracks[a.provider]; p != nil && !a.unmanaged {
		p.alerts = append(p.alerts, a)
	}
}

// explain holds a transaction's alerts against the history.
func (c *checker) explain(t transaction, positions []change, alerts []alert) {
	streamed, looked := c.sortAlerts(t, alerts)
	for _, ch := range positions {
		c.move(t, ch, streamed)
	}
	for _, left := range streamed {
		for _, a := range left {
			c.violate(c.classify(a), a.provider, t.end, "alert %d, %s, of the transaction at %s: %s", a.seq, a.kind, a.of, c.around(a.provider, a.of))
		}
	}
	for _, a := range looked {
		c.look(a)
	}
}

// sortAlerts separates the alerts from the WAL, by provider, from the alerts of a scan of the
// tables. It accounts for those of a provider that joins, and of rows.
func (c *checker) sortAlerts(t transaction, alerts []alert) (streamed map[string][]alert, looked []alert) {
	streamed = map[string][]alert{}
	for _, a := range alerts {
		p := c.tracks[a.provider]
		switch {
		case a.unmanaged:
			c.checkRowAlert(a)
		case p != nil && p.moving: // workers can have different environments
		case p == nil || !p.named && !p.joining:
			c.violate(rulePhantom, a.provider, t.end, "alert %d: the environment does not name the provider", a.seq)
		case a.repeats != 0: // the state is as it was
		case p.joining:
			// Workers do not agree yet: a look finds it missing or there.
			if a.kind != missing && a.kind != resolved {
				c.violate(rulePhantom, a.provider, t.end, "alert %d, %s, of a provider that only joins", a.seq, a.kind)
			}
			p.recorded = state{kind: a.kind}
			if a.kind == resolved {
				p.recorded.kind = inSync
			}
		case a.of != 0:
			streamed[a.provider] = append(streamed[a.provider], a)
		default:
			looked = append(looked, a)
		}
	}
	return streamed, looked
}

// move follows a change of the position of the WAL source. It removes from streamed
// the alerts that the moments up to a later position explain.
func (c *checker) move(t transaction, ch change, streamed map[string][]alert) {
	if ch.action == "DELETE" {
		c.resets = append(c.resets, reset{t.end, t.at, "the WAL source is retired", true})
		c.reading, c.gap = false, ""
		return
	}
	at, err := parsePosition(ch.row.text("applied_lsn"))
	if err != nil {
		c.violate(ruleHistory, "", t.end, "%v", err)
		return
	}
	if c.unread = ch.row.text("gap") != ""; c.unread {
		c.gap = ch.row.text("gap")
		if at <= c.applied {
			return
		}
		// What the position passes with it is not known whole.
	} else if ch.action == "INSERT" || c.gap != "" {
		c.resets = append(c.resets, reset{t.end, t.at, c.gap, c.gap != ""})
		c.reading, c.gap, c.applied = true, "", at
		for _, p := range c.tracks {
			p.handled = max(p.handled, p.at(at))
		}
		return
	}
	if at < c.applied {
		c.violate(ruleOrder, "", t.end, "the position of the WAL source went back from %s to %s", c.applied, at)
	}
	c.applied = at
	for _, name := range slices.Sorted(maps.Keys(c.tracks)) {
		if p := c.tracks[name]; p.named {
			streamed[name] = c.stream(p, at, streamed[name], t.end)
		}
	}
}

// stream accounts for all moments up to a position that the WAL source says it
// has handled, by the alerts that it wrote with it. It returns the alerts that
// are left over.
func (c *checker) stream(p *track, to position, alerts []alert, end position) []alert {
	for i := p.handled + 1; i < len(p.moments) && p.moments[i].end <= to; i++ {
		p.handled = i
		m := p.moments[i]
		want := transition(p.recorded, m.state)
		if before := p.moments[i-1]; m.id == before.id && m.hash == before.hash && sameDrift(before.state, m.state) && (len(alerts) == 0 || alerts[0].of != m.end) {
			continue // it changed nothing that is compared; after a gap that is no news either
		}
		if want == "" {
			continue
		}
		if len(alerts) == 0 || alerts[0].of != m.end {
			if m.maybe || c.unread {
				continue // the leader had not been lent the key, or says that it does not know all
			}
			c.violate(ruleLost, p.name, end, "%s by %q at %s: %s", want, m.by, m.end, c.around(p.name, m.end))
		} else {
			c.compare(p, alerts[0], want, m.state)
			if a := alerts[0]; a.xid != m.xid || !sameTime(a.committedAt, m.at) || a.source != "wal" {
				c.violate(ruleContent, p.name, end, "alert %d names transaction %d of %s from %s, and it was %d of %s", a.seq, a.xid, a.committedAt, a.source, m.xid, m.at)
			}
			alerts = alerts[1:]
		}
		p.recorded = m.state
	}
	return alerts
}

// look accounts for an alert that comes from looking at the tables: of a state
// that was committed before it and not before the one that the last alert was of.
// Where the WAL is the source that is the state at the position it has handled,
// and it can be news only after a gap.
func (c *checker) look(a alert) {
	p := c.tracks[a.provider]
	from, to := p.handled, len(p.moments)-1
	if c.reading {
		from = p.at(c.applied)
		to = from
	}
	c.checkLasted(p, a)
	// Of several states that look the same, that of the row and with the fields which
	// the alert names.
	for _, exact := range []bool{true, false} {
		for i := from; i <= to; i++ {
			m := p.moments[i]
			if m.end < a.end && transition(p.recorded, m.state) == a.kind && (m.kind == missing || m.kind == deleted || m.hash == a.dbHash) &&
				(!exact || m.kind == missing || m.kind == deleted || m.id == a.providerID && slices.Equal(m.fields, a.fields)) {
				c.compare(p, a, a.kind, m.state)
				p.handled, p.recorded = i, m.state
				return
			}
		}
	}
	c.violate(c.classify(a), a.provider, a.end, "alert %d, %s %.6s, from %s, after %s was recorded: %s", a.seq, a.kind, a.dbHash, a.source, p.recorded, c.around(a.provider, a.end))
	p.recorded = state{kind: a.kind, hash: a.dbHash}
	if a.kind == resolved {
		p.recorded.kind = inSync
	}
}

// classify says what is wrong with an alert that the history does not explain.
func (c *checker) classify(a alert) string {
	p := c.tracks[a.provider]
	kind := a.kind
	if kind == resolved {
		kind = inSync
	}
	now := state{kind: kind, hash: a.dbHash}
	if sameDrift(p.recorded, now) {
		return ruleDoubled
	}
	for _, m := range p.moments {
		if sameDrift(m.state, now) {
			return ruleOrder
		}
	}
	return rulePhantom
}

// compare compares an alert with the state that it is of.
func (c *checker) compare(p *track, a alert, kind string, s state) {
	switch {
	case a.kind != kind:
		c.violate(ruleContent, p.name, a.end, "alert %d is %s and not %s", a.seq, a.kind, kind)
	case a.envHash != p.hash():
		c.violate(ruleContent, p.name, a.end, "alert %d has another hash of the environment", a.seq)
	case s.kind != deleted && a.dbHash != s.hash:
		c.violate(ruleContent, p.name, a.end, "alert %d, %s, has the hash %.6s of the database and not %.6s", a.seq, a.kind, a.dbHash, s.hash)
	case s.kind != deleted && s.kind != missing && a.providerID != s.id:
		c.violate(ruleContent, p.name, a.end, "alert %d names row %s and not %s", a.seq, a.providerID, s.id)
	case s.kind != deleted && !slices.Equal(a.fields, s.fields):
		c.violate(ruleContent, p.name, a.end, "alert %d names the fields %q and not %q", a.seq, a.fields, s.fields)
	}
}

// around prints a provider's history and its alerts around a position.
func (c *checker) around(provider string, at position) string {
	p := c.tracks[provider]
	var b strings.Builder
	i := p.at(at)
	for j := max(0, i-4); j < min(len(p.moments), i+4); j++ {
		m := p.moments[j]
		mark := "  "
		if j == p.handled {
			mark = " *"
		}
		fmt.Fprintf(&b, "\n  %s committed %s %s xid %d by %q: %s", mark, m.end, m.at.Format("15:04:05.000"), m.xid, m.by, m.state)
	}
	k := len(p.alerts)
	for k > 0 && p.alerts[k-1].end > at && (p.alerts[k-1].of == 0 || p.alerts[k-1].of > at) {
		k--
	}
	for _, a := range p.alerts[max(0, k-3):min(len(p.alerts), k+3)] {
		fmt.Fprintf(&b, "\n     alert %d %s %.6s (%s) of %s, committed %s %s", a.seq, a.kind, a.dbHash, a.source, a.of, a.end, a.committed.Format("15:04:05.000"))
	}
	for _, r := range c.resets[max(0, len(c.resets)-2):] {
		fmt.Fprintf(&b, "\n     reset at %s %s: %s", r.end, r.at.Format("15:04:05.000"), r.reason)
	}
	return b.String()
}

// hasCause reports whether a gap comes of itself: the stream does not hold all of a row
// that is not stored in line, and a worker that has just begun to lead may not know it.
func (c *checker) hasCause(r reset) bool {
	for id := range c.large {
		if r.reason == "the WAL does not hold all of row "+id+", and neither does the mirror" {
			return true
		}
	}
	return false
}
