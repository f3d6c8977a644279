package soak

import (
	"strconv"
	"time"
)

// effects is what one transaction did to the tables, each in the order of its changes.
type effects struct {
	label  string         // what a writer's transaction is for
	before map[string]int // how many rows each name had before

	touched  map[string]bool     // names of the rows that it changed
	inserted []row               // id and name
	keys     map[string][]string // ids of inserted keys, by provider id
	secrets  map[string][]sealed
	applied  []update // to rows, as an apply does
	written  bool     // to the provider tables, other than by an INSERT or an apply

	silenced []string // silences that were made or ended, in the form of their audit entries
	staged   []entry
	unstaged []string // ids of entries that left the outbox
	pruned   pruned

	alerts    []alert
	gaps      int // alerts of a gap
	positions []change
	recorded  map[string]*state
	standing  []string             // ids of rows that were recorded as those of providers
	began     map[string]time.Time // when the recorded state was observed
}

// isOfWorker reports whether the transaction did what a worker alone does.
func (e *effects) isOfWorker() bool {
	return len(e.inserted) > 0 || len(e.keys) > 0 || len(e.applied) > 0 || e.written || len(e.staged) > 0
}

// effectsOf replays the changes of a transaction.
func (c *checker) effectsOf(t transaction) effects {
	e := effects{
		before: c.present(), touched: map[string]bool{}, keys: map[string][]string{}, secrets: map[string][]sealed{},
		recorded: map[string]*state{}, began: map[string]time.Time{},
	}
	for _, ch := range t.changes {
		switch ch.table {
		case "soak.history":
			e.label = ch.row.text("op") + " " + ch.row.text("providers")
			c.labels[ch.row.text("id")] = true
			c.mark(ch.row.text("op"), ch.row.text("providers"))
			c.silences.mark(ch.row.text("op"), ch.row.text("providers"), c.real(t.at))
			c.markVersion(ch.row.text("op"), ch.row.text("providers"))
		case "public.ai_providers":
			old := c.rows[ch.row.text("id")]
			c.apply(ch, t.end, e.touched)
			switch now := c.rows[old.id]; {
			case ch.action == "INSERT":
				e.inserted = append(e.inserted, row{name: ch.row.text("name"), id: ch.row.text("id")})
			case c.canBeApplied(old, now):
				e.applied = append(e.applied, update{old, now})
			default:
				e.written = true
			}
		case "public.ai_provider_keys":
			e.addKey(ch)
		case "public.dbcrypt_keys":
			c.encrypted = true
		case "provwatch.audit_outbox":
			if ch.action == "INSERT" {
				e.staged = append(e.staged, parseEntry(ch.row))
			} else if ch.action == "DELETE" {
				e.unstaged = append(e.unstaged, c.stagedID(ch.key.text("seq")))
			}
		case "provwatch.audit_log":
			if ch.action == "DELETE" {
				e.pruned.entries = append(e.pruned.entries, ch.key.text("id"))
			} else {
				c.deliver(ch, t.end)
			}
		case "provwatch.drift_alerts":
			c.addAlert(&e, t, ch)
		case "provwatch.silences":
			c.silence(&e, t, ch)
		case "provwatch.environments":
			c.recordEnvironment(t, ch)
		case "provwatch.wal_position":
			e.positions = append(e.positions, ch)
		case "provwatch.drift_state":
			c.addState(&e, ch)
		case "provwatch.unmanaged_rows":
			c.replayRow(ch)
		case "provwatch.sink_cursors", "provwatch.sink_dead_letters", "provwatch.pruned":
			c.pruning.replay(ch)
		}
	}
	return e
}

func (e *effects) addKey(ch change) {
	if ch.action != "INSERT" {
		e.written = true
		return
	}
	of := ch.row.text("provider_id")
	e.keys[of] = append(e.keys[of], ch.row.text("id"))
	e.secrets[of] = append(e.secrets[of], sealed{ch.row.text("api_key"), ch.row.text("api_key_key_id")})
}

// addAlert adds a row of the alerts. An alert about no provider counts at once.
func (c *checker) addAlert(e *effects, t transaction, ch change) {
	if ch.action == "DELETE" {
		seq, _ := strconv.ParseInt(ch.key.text("seq"), 10, 64)
		e.pruned.alerts = append(e.pruned.alerts, seq)
		return
	}
	if ch.action != "INSERT" {
		c.violate(ruleSeq, ch.row.text("provider"), t.end, "an alert was changed: %s", ch.action)
		return
	}
	a, err := parseAlert(ch.row)
	if err != nil {
		c.violate(ruleContent, a.provider, t.end, "%v", err)
	}
	a.end, a.committed = t.end, t.at
	switch a.kind {
	case "gap":
		e.gaps++
		c.count(a)
	case "rewound":
		if ch.row.text("certain") != "false" {
			c.violate(ruleRewind, "", t.end, "alert %d says for certain that alerts are gone: %s", a.seq, ch.row.text("reason"))
		}
		c.rewinds++
		c.count(a)
	default:
		e.alerts = append(e.alerts, a)
	}
}

func (c *checker) addState(e *effects, ch change) {
	if ch.action == "DELETE" {
		e.recorded[ch.key.text("provider")] = &state{kind: inSync}
		return
	}
	if id := ch.row.text("provider_id"); id != "" {
		e.standing = append(e.standing, id)
	}
	name := ch.row.text("provider")
	e.recorded[name] = &state{kind: ch.row.text("kind"), hash: ch.row.text("db_hash")}
	if at, err := parseTime(ch.row.text("observed_at")); err == nil {
		e.began[name] = c.real(at)
	}
}
