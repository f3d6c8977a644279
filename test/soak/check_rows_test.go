package soak

import (
	"fmt"
	"maps"
	"slices"
)

// followedRow follows a row of the provider table, for the time in which the environment does
// not name it.
type followedRow struct {
	wasUnmanaged bool // it was enabled and live, under a name that the environment does not have
	// standing: it was recorded as the row of a provider, and has been enabled and live ever
	// since. The environment named it before.
	standing bool
	alerted  bool   // its drift lasts, by the alerts
	kind     string // that is recorded of it, empty for nothing
}

// followRow returns what is known of the row of an id.
func (c *checker) followRow(id string) *followedRow {
	f := c.followed[id]
	if f == nil {
		f = &followedRow{}
		c.followed[id] = f
	}
	return f
}

// serves reports whether a row is enabled and live.
func (c *checker) serves(id string) bool {
	r, there := c.rows[id]
	return there && r.enabled && !r.deleted
}

// isUnmanaged reports whether a row is enabled and live, and the environment does not name it.
func (c *checker) isUnmanaged(id string) bool {
	p := c.tracks[c.rows[id].name]
	return c.serves(id) && (p == nil || !p.named && !p.joining && !p.moving)
}

// followRows follows the rows to the end of a transaction.
func (c *checker) followRows() {
	for id := range c.rows {
		if c.isUnmanaged(id) {
			c.followRow(id).wasUnmanaged = true
		}
	}
	for id, f := range c.followed {
		f.standing = f.standing && c.serves(id)
	}
}

// stand takes over that rows were recorded as those of providers.
func (c *checker) stand(ids []string) {
	for _, id := range ids {
		c.followRow(id).standing = c.serves(id)
	}
}

// replayRow takes over what is recorded of an unmanaged row.
func (c *checker) replayRow(ch change) {
	switch ch.action {
	case "DELETE":
		c.followRow(ch.key.text("provider_id")).kind = ""
	case "TRUNCATE":
	default:
		c.followRow(ch.row.text("provider_id")).kind = ch.row.text("kind")
	}
}

// checkRowAlert holds an alert about a row against its history.
func (c *checker) checkRowAlert(a alert) {
	f := c.followRow(a.providerID)
	if a.envHash != "" {
		c.violate(ruleContent, a.provider, a.end, "alert %d of an unmanaged row has a hash of the environment", a.seq)
	}
	switch {
	case a.kind == resolved && !f.alerted:
		c.violate(ruleOrder, a.provider, a.end, "alert %d ends a drift of row %s that was not alerted", a.seq, a.providerID)
	case a.kind == resolved:
	case a.kind != unmanaged:
		c.violate(ruleContent, a.provider, a.end, "alert %d of an unmanaged row is %s", a.seq, a.kind)
	case f.alerted && a.repeats != 0: // compared with the alert that it repeats
	case f.alerted:
		c.violate(ruleDoubled, a.provider, a.end, "alert %d of row %s, whose drift lasts", a.seq, a.providerID)
	case f.standing:
		c.violate(rulePhantom, a.provider, a.end, "alert %d of row %s, which was that of a provider and has been enabled since", a.seq, a.providerID)
	case !f.wasUnmanaged:
		c.violate(rulePhantom, a.provider, a.end, "alert %d of row %s, which was never enabled under such a name", a.seq, a.providerID)
	}
	f.alerted = a.kind == unmanaged
}

// unsettledRows returns how what is recorded and alerted of rows differs from what they are.
func (c *checker) unsettledRows() (differences []string) {
	for _, id := range slices.Sorted(maps.Keys(c.followed)) {
		f, is := c.followed[id], c.isUnmanaged(id)
		switch {
		case f.alerted && !is:
			differences = append(differences, fmt.Sprintf("the drift of row %s did not end", id))
		case is && f.kind == "":
			differences = append(differences, fmt.Sprintf("nothing is recorded of the unmanaged row %s, %s", id, c.rows[id].name))
		case f.alerted != (f.kind == unmanaged):
			differences = append(differences, fmt.Sprintf("row %s is recorded as %q, and alerted: %v", id, f.kind, f.alerted))
		}
	}
	return differences
}
