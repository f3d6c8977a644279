package soak

import (
	"slices"
	"strconv"
)

// opVersion is the operation of the history table that comes before the environment has another
// version of the moving provider's base URL.
const opVersion = "version"

// update is a change of a row.
type update struct{ old, now row }

// markVersion takes the word that the environment is about to have another version.
func (c *checker) markVersion(op, version string) {
	if n, err := strconv.Atoi(version); op == opVersion && err == nil {
		c.version = max(c.version, n)
	}
}

// canBeApplied reports whether an apply can have changed a row so: the base URL of the moving
// provider, and nothing else.
func (c *checker) canBeApplied(old, now row) bool {
	p := c.tracks[old.name]
	if !c.applies || p == nil || !p.moving || old.baseURL == now.baseURL {
		return false
	}
	old.baseURL, old.updatedAt = now.baseURL, now.updatedAt
	return old == now
}

// recordEnvironment takes the digest of an environment that a worker has seeded from, applied, or
// compared with as the leader. It checks that the file had that environment.
func (c *checker) recordEnvironment(t transaction, ch change) {
	digest := ch.row.text("digest")
	if ch.action == "DELETE" || slices.Contains(c.environments, digest) {
		return
	}
	c.environments = append(c.environments, digest)
	for version := range c.version + 1 {
		if digest == environmentDigest(version, false) || digest == environmentDigest(version, true) {
			return
		}
	}
	c.violate(ruleEnvironment, "", t.end, "its digest is %s; the environment has had versions up to %d", digest, c.version)
}

// isNewer reports whether workers take an older version of the environment for a newer one: they have
// recorded it first after the other.
func (c *checker) isNewer(version, than int) bool {
	first := func(version int) int {
		return slices.IndexFunc(c.environments, func(digest string) bool {
			return digest == environmentDigest(version, false) || digest == environmentDigest(version, true)
		})
	}
	before := first(than)
	return before >= 0 && first(version) > before
}

// checkApplied checks what a transaction of a worker has written to rows: newer versions of the
// environment's over older ones, and over nothing that somebody else had written. Each has an
// audit entry. It returns the entries of the transaction that are about something else.
func (c *checker) checkApplied(t transaction, e *effects) []entry {
	left := slices.Clone(e.staged)
	for _, u := range e.applied {
		c.updates++
		at := slices.IndexFunc(left, func(entry entry) bool {
			return entry.action == "provider.update" && entry.provider == u.now.name && entry.providerID == u.now.id
		})
		if at < 0 {
			c.violate(ruleAuditLost, u.now.name, t.end, "of an apply")
		} else {
			left = slices.Delete(left, at, at+1)
		}
		from, ofEnvironment := versionOf(u.old.baseURL)
		to, known := versionOf(u.now.baseURL)
		switch {
		case !ofEnvironment:
			c.violate(ruleApply, u.now.name, t.end, "%q, and it was %q", u.now.baseURL, u.old.baseURL)
		case !known || to > c.version || to <= from && !c.isNewer(to, from):
			c.violate(ruleApply, u.now.name, t.end, "%q, and it was %q; the environment has had versions up to %d", u.now.baseURL, u.old.baseURL, c.version)
		}
	}
	return left
}
