package soak

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The rules that a run must not break.
const (
	ruleLost        = "a transition was not alerted"
	ruleDoubled     = "an alert repeats the one before it"
	ruleOrder       = "an alert is out of order"
	rulePhantom     = "an alert of a state that was not committed"
	ruleContent     = "an alert does not say what was committed"
	ruleSeq         = "seq of the alerts has a gap or repeats"
	ruleState       = "the recorded state is not that of the last alert"
	ruleAudit       = "a phantom audit entry"
	ruleAuditLost   = "a lost audit entry"
	ruleAuditSeq    = "audit entries of a provider are out of order"
	ruleAuditGap    = "the seq of audit entries has a gap"
	ruleSeed        = "a seed inserted what was there"
	ruleSeedWrite   = "the worker changed a row of the provider tables"
	ruleSeedPart    = "a seed did not insert all that was missing, as the environment has it"
	ruleSeedPlain   = "a seed stored a secret in plain text where secrets are encrypted"
	ruleGap         = "a gap that is not a row, or a row that is no gap"
	ruleGapCause    = "a gap that nothing caused"
	ruleRewind      = "a rewind that nothing caused"
	ruleNotify      = "a notification is missing, doubled or not what the row says"
	ruleLeaders     = "two leaders at once"
	ruleWorker      = "a worker ended by itself, raced or panicked"
	ruleSecret      = "a secret was emitted"
	ruleConverge    = "not everything converged in time"
	ruleSinkLost    = "a sink did not get an event"
	ruleSinkPhantom = "a sink got what was not committed"
	ruleSinkOrder   = "a sink got events of a provider out of order"
	ruleSinkLetter  = "a dead letter that was not refused"
	ruleSinkDoubled = "a stream of JetStream has an event twice"
	ruleHistory     = "the decoded history is not the one that was written"
)

// violation is one broken rule.
type violation struct {
	Rule     string `json:"rule"`
	Provider string `json:"provider,omitempty"`
	Detail   string `json:"detail"`
	At       string `json:"at,omitempty"` // position in the WAL
}

func (v violation) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s: %s: %s %s", v.Rule, v.Provider, v.Detail, v.At))
}

// moment is how a provider stood after a transaction.
type moment struct {
	state
	end position
	at  time.Time
	xid int64
	by  string // what the transaction was for
}

// alert is a row of provwatch.drift_alerts.
type alert struct {
	seq                         int64
	id, kind, provider          string
	providerID, envHash, dbHash string
	fields                      []string
	source, committedAt         string
	of                          position // the transaction that it is about, 0 unless from the WAL
	xid                         int64
	end                         position  // of the transaction that wrote it
	began, committed            time.Time // that transaction; began is zero if not known
}

// track follows one provider.
type track struct {
	wanted
	moments  []moment
	recorded state // as the alerts so far have it
	handled  int   // index of the latest moment that is accounted for
	alerts   []alert
	// A late provider is not named at first, and then for a while by some workers.
	named, joining bool
}

func (t *track) now() state { return t.moments[len(t.moments)-1].state }

// at returns the index of the latest moment at or before a position.
func (t *track) at(p position) int {
	i := len(t.moments) - 1
	for i > 0 && t.moments[i].end > p {
		i--
	}
	return i
}

// inLine is what a row may have at most to be stored in line in any case, in bytes.
const inLine = 1500

// entry is an audit entry.
type entry struct {
	id, action, provider, providerID string
	seq                              int64
	details                          struct {
		KeyID  string `json:"key_id"`
		Masked string `json:"masked_key"`
	}
}

// reset is a new start of the WAL source, or its end: changes may have passed
// unseen.
type reset struct {
	end      position // of the transaction that made it so
	at       time.Time
	reason   string
	announce bool // an alert has to say so
}

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

// present returns how many rows each name has.
func (c *checker) present() map[string]int {
	n := map[string]int{}
	for _, r := range c.rows {
		n[r.name]++
	}
	return n
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

// checkSeed checks a transaction that is not a writer's: it is a seed, inserts
// whole providers that were missing, with their keys and nothing else, and stages
// an audit entry for each.
func (c *checker) checkSeed(end position, at time.Time, before map[string]int, inserted []row, keys map[string][]string, secrets map[string][]sealed, staged []entry, written bool) {
	if written {
		c.violate(ruleSeedWrite, "", end, "an UPDATE, DELETE or TRUNCATE")
	}
	if len(inserted) > 0 {
		c.seeds++
	}
	byProvider := map[string][]entry{}
	for _, e := range staged {
		byProvider[e.providerID] = append(byProvider[e.providerID], e)
	}
	names := map[string]bool{}
	for _, r := range inserted {
		names[r.name] = true
		c.seeded = append(c.seeded, r.id)
		p := c.tracks[r.name]
		switch {
		case p == nil || !p.named && !p.joining:
			c.violate(ruleSeed, r.name, end, "the environment does not name it")
			continue
		case before[r.name] > 0:
			c.violate(ruleSeed, r.name, end, "%d rows of the name were there", before[r.name])
		}
		if s := compare(p.wanted, []row{c.rows[r.id]}); s.kind != inSync {
			c.violate(ruleSeedPart, r.name, end, "the row is %s: %v", s, s.fields)
		}
		if len(keys[r.id]) != len(p.keys) {
			c.violate(ruleSeedPart, r.name, end, "%d keys and not %d", len(keys[r.id]), len(p.keys))
		}
		c.checkSecrets(end, p, c.rows[r.id], secrets[r.id])
		c.checkEntries(end, p, r.id, keys[r.id], byProvider[r.id])
		delete(keys, r.id)
		delete(byProvider, r.id)
	}
	for id := range keys {
		c.violate(ruleSeed, c.rows[id].name, end, "keys were added to a provider that was there")
	}
	for _, entries := range byProvider {
		c.violate(ruleAudit, entries[0].provider, end, "%d entries of a provider that the transaction did not insert", len(entries))
	}
	if len(inserted) == 0 {
		return
	}
	// What went missing shortly before can be missing from the seed's view.
	const view = 20 * time.Second
	for name, p := range c.tracks {
		if p.named && before[name] == 0 && !names[name] && c.real(at).Sub(c.real(p.moments[len(p.moments)-1].at)) > view {
			c.violate(ruleSeedPart, name, end, "it was missing and is not inserted")
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
	c.delivered = append(c.delivered, e)
}

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
	if p := c.tracks[a.provider]; p != nil {
		p.alerts = append(p.alerts, a)
	}
}

// explain holds a transaction's alerts against the history.
func (c *checker) explain(t transaction, positions []change, alerts []alert) {
	streamed := map[string][]alert{} // alerts from the WAL, by provider
	var looked []alert
	for _, a := range alerts {
		p := c.tracks[a.provider]
		switch {
		case p == nil || !p.named && !p.joining:
			c.violate(rulePhantom, a.provider, t.end, "alert %d: the environment does not name the provider", a.seq)
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

	for _, ch := range positions {
		if ch.action == "DELETE" {
			c.resets = append(c.resets, reset{t.end, t.at, "the WAL source is retired", true})
			c.reading, c.gap = false, ""
			continue
		}
		at, err := parsePosition(ch.row.text("applied_lsn"))
		if err != nil {
			c.violate(ruleHistory, "", t.end, "%v", err)
			continue
		}
		if c.unread = ch.row.text("gap") != ""; c.unread {
			c.gap = ch.row.text("gap")
			if at <= c.applied {
				continue
			}
			// What the position passes with it is not known whole.
		} else if ch.action == "INSERT" || c.gap != "" {
			c.resets = append(c.resets, reset{t.end, t.at, c.gap, c.gap != ""})
			c.reading, c.gap, c.applied = true, "", at
			for _, p := range c.tracks {
				p.handled = max(p.handled, p.at(at))
			}
			continue
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
	for _, left := range streamed {
		for _, a := range left {
			c.violate(c.classify(a), a.provider, t.end, "alert %d, %s, of the transaction at %s: %s", a.seq, a.kind, a.of, c.around(a.provider, a.of))
		}
	}
	for _, a := range looked {
		c.look(a)
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

func parseAlert(t tuple) (alert, error) {
	a := alert{
		id: t.text("id"), kind: t.text("kind"), provider: t.text("provider"), providerID: t.text("provider_id"),
		envHash: t.text("env_hash"), dbHash: t.text("db_hash"), source: t.text("source"), committedAt: t.text("committed_at"),
	}
	var err error
	if a.seq, err = strconv.ParseInt(t.text("seq"), 10, 64); err != nil {
		return a, err
	}
	var fields []struct{ Name string }
	if err := json.Unmarshal([]byte(t.text("fields")), &fields); err != nil {
		return a, err
	}
	for _, f := range fields {
		a.fields = append(a.fields, f.Name)
	}
	if lsn := t["lsn"]; !lsn.null {
		if a.of, err = parsePosition(lsn.text); err != nil {
			return a, err
		}
		a.xid, err = strconv.ParseInt(t.text("xid"), 10, 64)
	}
	return a, err
}

func parseEntry(t tuple) entry {
	e := entry{id: t.text("id"), action: t.text("action"), provider: t.text("provider"), providerID: t.text("provider_id")}
	e.seq, _ = strconv.ParseInt(t.text("seq"), 10, 64)
	_ = json.Unmarshal([]byte(t.text("details")), &e.details)
	return e
}

func sameTime(text string, at time.Time) bool {
	parsed, err := time.Parse("2006-01-02 15:04:05.999999-07", text)
	return err == nil && parsed.Equal(at)
}
