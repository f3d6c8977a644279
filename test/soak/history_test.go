package soak

import (
	"encoding/json"
	"strconv"
	"time"
)

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
	unmanaged                   bool // it is about the row of providerID
	fields                      []string
	source, committedAt         string
	of                          position // the transaction that it is about, 0 unless from the WAL
	xid                         int64
	silenced                    bool
	repeats, resolves           int64     // seqs, 0 for none
	detected                    time.Time // by the worker's clock, just before it was written
	end                         position  // of the transaction that wrote it
	began, committed            time.Time // that transaction; began is zero if not known
}

// subject is what the alert is about: a provider, or an unmanaged row.
func (a alert) subject() string {
	if a.unmanaged {
		return "row " + a.providerID
	}
	return a.provider
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

// entry is an audit entry.
type entry struct {
	id, action, provider, providerID string
	seq                              int64
	details                          struct {
		KeyID   string `json:"key_id"`
		Masked  string `json:"masked_key"`
		Silence int64  `json:"silence"`
		Expires string `json:"expires"`
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

func parseAlert(t tuple) (alert, error) {
	a := alert{
		id: t.text("id"), kind: t.text("kind"), provider: t.text("provider"), providerID: t.text("provider_id"),
		envHash: t.text("env_hash"), dbHash: t.text("db_hash"), source: t.text("source"), committedAt: t.text("committed_at"),
		unmanaged: t.text("unmanaged") == "true",
	}
	var err error
	if a.seq, err = strconv.ParseInt(t.text("seq"), 10, 64); err != nil {
		return a, err
	}
	a.silenced = t.text("silenced") == "true"
	a.repeats, _ = strconv.ParseInt(t.text("repeats"), 10, 64) // null is 0
	a.resolves, _ = strconv.ParseInt(t.text("resolves"), 10, 64)
	if a.detected, err = parseTime(t.text("detected_at")); err != nil {
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

// parseTime reads a time as test_decoding prints it.
func parseTime(text string) (time.Time, error) {
	return time.Parse("2006-01-02 15:04:05.999999-07", text)
}

func sameTime(text string, at time.Time) bool {
	parsed, err := parseTime(text)
	return err == nil && parsed.Equal(at)
}
