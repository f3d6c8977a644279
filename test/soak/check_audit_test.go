package soak

import (
	"strconv"
)

func (c *checker) stagedID(seq string) string {
	n, err := strconv.ParseInt(seq, 10, 64)
	if err != nil {
		return ""
	}
	for id, e := range c.staged {
		if e.seq == n {
			return id
		}
	}
	return ""
}

// deliver checks a change of the audit log.
func (c *checker) deliver(ch change, end position) {
	if ch.action != "INSERT" {
		c.violate(ruleAuditLost, ch.row.text("provider"), end, "%s in the audit log", ch.action)
		return
	}
	e := parseEntry(ch.row)
	staged, known := c.entries[e.id]
	place := staged.seq
	staged.seq = e.seq // it is numbered anew
	switch {
	case !known:
		c.violate(ruleAudit, e.provider, end, "entry %s was never staged by a transaction that committed", e.id)
	case staged != e:
		c.violate(ruleAudit, e.provider, end, "entry %s is not as it was staged", e.id)
	case c.logged[e.id]:
		c.violate(ruleAudit, e.provider, end, "entry %s is in the log twice", e.id)
	}
	if known && place <= c.lastEntry[e.provider] {
		c.violate(ruleAuditSeq, e.provider, end, "what was staged as %d after %d", place, c.lastEntry[e.provider])
	}
	c.lastEntry[e.provider] = place
	if last := int64(len(c.delivered)); e.seq != last+1 {
		c.violate(ruleAuditGap, e.provider, end, "seq %d after %d", e.seq, last)
	}
	c.logged[e.id] = true
	c.pruning.entries[e.id] = e.seq
	c.delivered = append(c.delivered, e)
}
