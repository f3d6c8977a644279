package soak

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// present returns how many rows each name has.
func (c *checker) present() map[string]int {
	n := map[string]int{}
	for _, r := range c.rows {
		n[r.name]++
	}
	return n
}

// checkSeed checks a transaction that is not a writer's: it is a seed, inserts
// whole providers that were missing, with their keys and nothing else, and stages
// an audit entry for each: staged are those of the transaction that are not of an apply.
func (c *checker) checkSeed(t transaction, e *effects, staged []entry) {
	if e.written {
		c.violate(ruleSeedWrite, "", t.end, "an UPDATE, DELETE or TRUNCATE")
	}
	if len(e.inserted) > 0 {
		c.seeds++
	}
	byProvider := map[string][]entry{}
	for _, entry := range staged {
		byProvider[entry.providerID] = append(byProvider[entry.providerID], entry)
	}
	names := map[string]bool{}
	for _, r := range e.inserted {
		names[r.name] = true
		c.seeded = append(c.seeded, r.id)
		p := c.tracks[r.name]
		switch {
		case p == nil || !p.named && !p.joining && !p.moving:
			c.violate(ruleSeed, r.name, t.end, "the environment does not name it")
			continue
		case e.before[r.name] > 0:
			c.violate(ruleSeed, r.name, t.end, "%d rows of the name were there", e.before[r.name])
		}
		if s := compare(p.wanted, []row{c.rows[r.id]}); s.kind != inSync && !p.moving {
			c.violate(ruleSeedPart, r.name, t.end, "the row is %s: %v", s, s.fields)
		}
		if len(e.keys[r.id]) != len(p.keys) {
			c.violate(ruleSeedPart, r.name, t.end, "%d keys and not %d", len(e.keys[r.id]), len(p.keys))
		}
		c.checkSecrets(t.end, p, c.rows[r.id], e.secrets[r.id])
		c.checkEntries(t.end, p, r.id, e.keys[r.id], byProvider[r.id])
		delete(e.keys, r.id)
		delete(byProvider, r.id)
	}
	for id := range e.keys {
		c.violate(ruleSeed, c.rows[id].name, t.end, "keys were added to a provider that was there")
	}
	for _, entries := range byProvider {
		c.violate(ruleAudit, entries[0].provider, t.end, "%d entries of a provider that the transaction did not insert", len(entries))
	}
	if len(e.inserted) == 0 || c.applies { // an apply inserts what is new alone
		return
	}
	// What went missing shortly before can be missing from the seed's view.
	const view = 20 * time.Second
	for name, p := range c.tracks {
		if p.named && e.before[name] == 0 && !names[name] && c.real(t.at).Sub(c.real(p.moments[len(p.moments)-1].at)) > view {
			c.violate(ruleSeedPart, name, t.end, "it was missing and is not inserted")
		}
	}
}

// checkSecrets checks the secrets of one provider that a seed inserted, where secrets are
// encrypted: with a key of the workers, to the environment's values.
func (c *checker) checkSecrets(end position, p *track, r row, keys []sealed) {
	if !c.encrypted {
		return
	}
	open := func(s sealed) string {
		plain, ok := s.open(firstKey, secondKey, lentKey)
		switch {
		case s.text != "" && s.keyID == "":
			c.violate(ruleSeedPlain, p.name, end, "a secret of %d bytes", len(s.text))
		case !ok:
			c.violate(ruleSeedPart, p.name, end, "a secret does not decrypt with key %q", s.keyID)
		}
		return plain
	}
	var stored []string
	for _, key := range keys {
		stored = append(stored, open(key))
	}
	slices.Sort(stored)
	if !slices.Equal(stored, slices.Sorted(slices.Values(p.keys))) {
		c.violate(ruleSeedPart, p.name, end, "its keys are not those of the environment")
	}
	var pair struct {
		AccessKey       string `json:"access_key"`
		AccessKeySecret string `json:"access_key_secret"`
	}
	if settings := open(sealed{r.settings, r.settingsKeyID}); settings != "" && json.Unmarshal([]byte(settings), &pair) != nil ||
		pair.AccessKey != p.accessKey || pair.AccessKeySecret != p.accessKeySecret {
		c.violate(ruleSeedPart, p.name, end, "its AWS credentials are not those of the environment")
	}
}

// checkEntries checks the audit entries of one provider that a seed inserted.
func (c *checker) checkEntries(end position, p *track, id string, keys []string, entries []entry) {
	want := []string{"provider.create"}
	for i, key := range keys {
		masked := ""
		if i < len(p.keys) {
			masked = "****" + p.keys[i][len(p.keys[i])-4:]
		}
		want = append(want, "provider_key.create "+key+" "+masked)
	}
	var have []string
	for _, e := range entries {
		have = append(have, strings.TrimSpace(e.action+" "+e.details.KeyID+" "+e.details.Masked))
		if e.provider != p.name || e.providerID != id {
			c.violate(ruleAudit, p.name, end, "an entry names provider %q", e.provider)
		}
	}
	switch {
	case len(have) < len(want):
		c.violate(ruleAuditLost, p.name, end, "staged %q and not %q", have, want)
	case !slices.Equal(have, want):
		c.violate(ruleAudit, p.name, end, "staged %q and not %q", have, want)
	}
}

// unseeded returns the providers that have no row at all.
func (c *checker) unseeded() (names []string) {
	before := c.present()
	for _, name := range slices.Sorted(maps.Keys(c.tracks)) {
		if c.tracks[name].named && before[name] == 0 {
			names = append(names, name)
		}
	}
	return names
}
