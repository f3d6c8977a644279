package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// inLine is what a row may have at most to be stored in line in any case, in bytes.
const inLine = 1500

// checker replays the committed transactions, in their order, and collects what
// is against the rules. It knows the worker's tables and none of its code.
type checker struct {
	tracks     map[string]*track
	rows       map[string]row // ai_providers, by id
	violations []violation

	alerts  []alert
	rewinds int // alerts that say that the sequence may have been rewound
	lastSeq int64
	ids     map[string]bool

	// The WAL source: its position, and how it was before.
	reading bool
	gap     string
	unread  bool            // what the position passes now is said not to be known whole
	large   map[string]bool // ids of rows that were too large to be stored in line
	applied position
	resets  []reset

	staged    map[string]entry // the outbox, by id
	entries   map[string]entry // every entry that was ever staged
	delivered []entry
	logged    map[string]bool
	lastEntry map[string]int64 // by provider, as staged

	// real returns what a reading of the server's clock is without its jumps.
	real func(time.Time) time.Time

	encrypted    bool            // dbcrypt_keys has a key
	labels       map[string]bool // ids of the writers' transactions that were committed
	seeded       []string        // ids of the rows that seeds inserted, in order
	seeds        int
	transactions int
}

func newChecker(groups [][]wanted) *checker {
	c := &checker{
		tracks: map[string]*track{}, rows: map[string]row{}, ids: map[string]bool{},
		staged: map[string]entry{}, entries: map[string]entry{}, logged: map[string]bool{},
		lastEntry: map[string]int64{}, real: func(t time.Time) time.Time { return t }, labels: map[string]bool{}, large: map[string]bool{},
	}
	for _, group := range groups {
		for _, w := range group {
			c.tracks[w.name] = &track{
				wanted: w, named: !w.late, recorded: state{kind: inSync},
				moments: []moment{{state: state{kind: missing}, by: "nothing"}},
			}
		}
	}
	return c
}

func (c *checker) violate(rule, provider string, at position, format string, args ...any) {
	c.violations = append(c.violations, violation{Rule: rule, Provider: provider, Detail: fmt.Sprintf(format, args...), At: at.String()})
}

// add takes the next transaction.
func (c *checker) add(t transaction) {
	c.transactions++
	label := ""
	touched := map[string]bool{}
	before := c.present()
	var inserted []row
	keys := map[string][]string{} // ids of inserted keys, by provider id
	secrets := map[string][]sealed{}
	var staged []entry
	var alerts []alert
	gaps := 0
	var positions []change
	recorded := map[string]*state{}
	began := map[string]time.Time{}
	written := false      // to the provider tables, other than by an INSERT
	var unstaged []string // ids of entries that left the outbox
	for _, ch := range t.changes {
		switch ch.table {
		case "soak.history":
			label = ch.row.text("op") + " " + ch.row.text("providers")
			c.labels[ch.row.text("id")] = true
			c.mark(ch.row.text("op"), ch.row.text("providers"))
		case "public.ai_providers":
			if ch.action == "INSERT" {
				inserted = append(inserted, row{name: ch.row.text("name"), id: ch.row.text("id")})
			} else {
				written = true
			}
			c.apply(ch, t.end, touched)
		case "public.ai_provider_keys":
			if ch.action == "INSERT" {
				of := ch.row.text("provider_id")
				keys[of] = append(keys[of], ch.row.text("id"))
				secrets[of] = append(secrets[of], sealed{ch.row.text("api_key"), ch.row.text("api_key_key_id")})
			} else {
				written = true
			}
		case "public.dbcrypt_keys":
			c.encrypted = true
		case "provwatch.audit_outbox":
			if ch.action == "INSERT" {
				staged = append(staged, parseEntry(ch.row))
			} else if ch.action == "DELETE" {
				unstaged = append(unstaged, c.stagedID(ch.key.text("seq")))
			}
		case "provwatch.audit_log":
			c.deliver(ch, t.end)
		case "provwatch.drift_alerts":
			if ch.action != "INSERT" {
				c.violate(ruleSeq, ch.row.text("provider"), t.end, "an alert was changed: %s", ch.action)
				continue
			}
			a, err := parseAlert(ch.row)
			if err != nil {
				c.violate(ruleContent, a.provider, t.end, "%v", err)
			}
			a.end, a.committed = t.end, t.at
			switch a.kind {
			case "gap":
				gaps++
				c.count(a)
				continue
			case "rewound":
				if ch.row.text("certain") != "false" {
					c.violate(ruleRewind, "", t.end, "alert %d says for certain that alerts are gone: %s", a.seq, ch.row.text("reason"))
				}
				c.rewinds++
				c.count(a)
				continue
			}
			alerts = append(alerts, a)
		case "provwatch.wal_position":
			positions = append(positions, ch)
		case "provwatch.drift_state":
			if ch.action == "DELETE" {
				recorded[ch.key.text("provider")] = &state{kind: inSync}
				continue
			}
			name := ch.row.text("provider")
			recorded[name] = &state{kind: ch.row.text("kind"), hash: ch.row.text("db_hash")}
			if at, err := time.Parse("2006-01-02 15:04:05.999999-07", ch.row.text("observed_at")); err == nil {
				began[name] = c.real(at)
			}
		}
	}
	for _, id := range unstaged {
		if !c.logged[id] {
			c.violate(ruleAuditLost, c.entries[id].provider, t.end, "entry %s left the outbox and is not in the log", id)
			continue
		}
		delete(c.staged, id)
	}
	if label == "" && (len(inserted) > 0 || len(keys) > 0 || written || len(staged) > 0) {
		label = "seed"
		c.checkSeed(t.end, t.at, before, inserted, keys, secrets, staged, written)
	} else if len(staged) > 0 {
		c.violate(ruleAudit, staged[0].provider, t.end, "a writer's transaction staged an audit entry")
	}
	for _, e := range staged {
		c.staged[e.id], c.entries[e.id] = e, e
	}
	for name := range touched {
		if p := c.tracks[name]; p != nil {
			p.moments = append(p.moments, moment{compare(p.wanted, c.named(name)), t.end, t.at, t.xid, label})
		}
	}
	for i := range alerts {
		alerts[i].began = began[alerts[i].provider]
		c.count(alerts[i])
	}
	resets := len(c.resets)
	c.explain(t, positions, alerts)
	for _, r := range c.resets[resets:] {
		if r.announce {
			gaps--
		}
	}
	if gaps != 0 {
		c.violate(ruleGap, "", t.end, "%d more rows than gaps", gaps)
	}
	for name, s := range recorded {
		p := c.tracks[name]
		switch {
		case p == nil:
			c.violate(ruleState, name, t.end, "a state was recorded of a provider that the environment does not name")
		case p.joining:
			p.recorded = *s
		case p.named && !sameDrift(p.recorded, *s):
			c.violate(ruleState, name, t.end, "%s is recorded, and the alerts say %s", s, p.recorded)
			p.recorded = *s
		}
	}
}

func (c *checker) named(name string) []row {
	var rows []row
	for _, r := range c.rows {
		if r.name == name {
			rows = append(rows, r)
		}
	}
	return rows
}

// mark takes a writer's word for when a late provider joins the environment.
func (c *checker) mark(op, providers string) {
	for _, name := range strings.Fields(providers) {
		p := c.tracks[name]
		switch op {
		case "join":
			p.joining = true
		case "joined":
			p.joining, p.named = false, true
			p.handled = len(p.moments) - 1
			if c.reading {
				p.handled = p.at(c.applied)
			}
		}
	}
}

// apply applies a change of the provider table.
func (c *checker) apply(ch change, end position, touched map[string]bool) {
	id := ch.key.text("id")
	if ch.key == nil {
		id = ch.row.text("id")
	}
	old, known := c.rows[id]
	if known {
		touched[old.name] = true
	}
	if ch.action == "TRUNCATE" {
		for _, r := range c.rows {
			touched[r.name] = true
		}
		clear(c.rows)
		return
	}
	if !known && ch.action != "INSERT" {
		c.violate(ruleHistory, "", end, "%s of a row that is not there", ch.action)
		return
	}
	delete(c.rows, id)
	if ch.action == "DELETE" {
		return
	}
	now, err := old.with(ch.row)
	if err != nil {
		c.violate(ruleHistory, now.name, end, "%v", err)
	}
	c.rows[now.id] = now
	if len(now.baseURL) > inLine {
		c.large[now.id] = true
	}
	touched[now.name] = true
	live := 0
	for _, r := range c.named(now.name) {
		if !r.deleted {
			live++
		}
	}
	if live > 1 {
		c.violate(ruleSeed, now.name, end, "%d live rows of one name", live)
	}
}

// finish checks what must hold once everything is quiet.
func (c *checker) finish() {
	for _, name := range slices.Sorted(maps.Keys(c.tracks)) {
		p := c.tracks[name]
		if !p.named {
			continue
		}
		if c.reading {
			// What it has not said that it handled must have been nothing new.
			c.stream(p, ^position(0), nil, 0)
		}
		if p.now().kind != notComparable && !sameDrift(p.recorded, p.now()) {
			end := p.moments[len(p.moments)-1].end
			c.violate(ruleLost, name, end, "it ends as %s and was last alerted as %s: %s", p.now(), p.recorded, c.around(name, end))
		}
	}
	for _, name := range c.unseeded() {
		c.violate(ruleSeedPart, name, 0, "it is missing at the end, after a worker's start")
	}
	for id, e := range c.entries {
		if !c.logged[id] {
			c.violate(ruleAuditLost, e.provider, 0, "entry %s (%s) was not delivered", id, e.action)
		}
	}
	if len(c.staged) > 0 {
		c.violate(ruleAuditLost, "", 0, "%d entries are left in the outbox", len(c.staged))
	}
}
