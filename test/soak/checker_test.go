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
	rows       map[string]row          // ai_providers, by id
	followed   map[string]*followedRow // by id
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

	pruning    pruning
	silences   silences
	alertAfter time.Duration // of the workers, where alerts come from notifications

	applies bool // the workers apply what a reload has changed
	version int  // the latest that the environment had of the moving provider
	updates int  // of rows, by applies
	// environments has the digests that workers have recorded, in the order of their first time.
	environments []string

	encrypted    bool            // dbcrypt_keys has a key
	labels       map[string]bool // ids of the writers' transactions that were committed
	seeded       []string        // ids of the rows that seeds inserted, in order
	seeds        int
	transactions int
}

func newChecker(groups [][]wanted) *checker {
	c := &checker{
		tracks: map[string]*track{}, rows: map[string]row{}, followed: map[string]*followedRow{}, ids: map[string]bool{},
		staged: map[string]entry{}, entries: map[string]entry{}, logged: map[string]bool{},
		lastEntry: map[string]int64{}, real: func(t time.Time) time.Time { return t }, labels: map[string]bool{}, large: map[string]bool{},
		pruning: newPruning(), silences: silences{all: map[string]*silencing{}, lasting: map[string][]alert{}},
	}
	for _, group := range groups {
		for _, w := range group {
			c.follow(w)
		}
	}
	return c
}

// follow follows a provider. Of the moving provider only the writes to its row are known.
func (c *checker) follow(w wanted) {
	c.tracks[w.name] = &track{
		wanted: w, named: !w.late && !w.moving, recorded: state{kind: inSync},
		moments: []moment{{state: state{kind: missing}, by: "nothing"}},
	}
}

func (c *checker) violate(rule, provider string, at position, format string, args ...any) {
	c.violations = append(c.violations, violation{Rule: rule, Provider: provider, Detail: fmt.Sprintf(format, args...), At: at.String()})
}

// add takes the next transaction.
func (c *checker) add(t transaction) {
	c.transactions++
	c.silences.pass(t.at, c.real(t.at))
	e := c.effectsOf(t)
	c.followRows()
	c.checkOutbox(t, &e)
	for name := range e.touched {
		if p := c.tracks[name]; p != nil {
			p.moments = append(p.moments, moment{compare(p.wanted, c.named(name)), t.end, t.at, t.xid, e.label})
		}
	}
	for i := range e.alerts {
		if e.alerts[i].repeats == 0 { // a repeat leaves the recorded state as it was
			e.alerts[i].began = e.began[e.alerts[i].provider]
		}
		c.count(e.alerts[i])
	}
	resets := len(c.resets)
	c.explain(t, e.positions, e.alerts)
	for _, r := range c.resets[resets:] {
		if r.announce {
			e.gaps--
		}
	}
	if e.gaps != 0 {
		c.violate(ruleGap, "", t.end, "%d more rows than gaps", e.gaps)
	}
	c.stand(e.standing)
	c.checkRecorded(t, e.recorded)
	c.checkPruned(t, e.pruned)
}

// checkOutbox checks what the transaction did to the outbox: only a seed and the commands of an
// operator stage entries, and an entry that leaves the outbox is in the log.
func (c *checker) checkOutbox(t transaction, e *effects) {
	for _, id := range e.unstaged {
		if !c.logged[id] {
			c.violate(ruleAuditLost, c.entries[id].provider, t.end, "entry %s left the outbox and is not in the log", id)
			continue
		}
		delete(c.staged, id)
	}
	switch {
	case e.label == "" && len(e.silenced) > 0:
		e.label = "silence"
		c.checkSilenceEntries(t, e)
	case e.label == "" && e.isOfWorker():
		e.label = "seed"
		c.checkSeed(t, e, c.checkApplied(t, e))
	case len(e.staged) > 0:
		c.violate(ruleAudit, e.staged[0].provider, t.end, "a writer's transaction staged an audit entry")
	}
	for _, entry := range e.staged {
		c.staged[entry.id], c.entries[entry.id] = entry, entry
	}
}

// checkRecorded compares the states that the transaction recorded with those of the alerts.
func (c *checker) checkRecorded(t transaction, recorded map[string]*state) {
	for name, s := range recorded {
		p := c.tracks[name]
		switch {
		case p == nil:
			c.violate(ruleState, name, t.end, "a state was recorded of a provider that the environment does not name")
		case p.moving:
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
	for _, difference := range c.unsettledRows() {
		c.violate(ruleState, "", 0, "%s", difference)
	}
	c.checkOutlived()
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
