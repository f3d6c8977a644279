package soak

import (
	"encoding/json"
	"fmt"
	"slices"
)

// notice is what one notification says, reduced to what identifies it.
type notice struct {
	channel, payload string
}

// epoch is what one listening session received, from the moment at which LISTEN
// was in effect.
type epoch struct {
	from    position
	notices []notice
	last    bool // the session was there to the end
}

const (
	driftChannel  = "ai_provider_drift"
	seededChannel = "ai_provider_seeded"
	auditChannel  = "ai_provider_audit"
	statusChannel = "provwatch_status"
)

// payload is what the channels' payloads have of interest.
type payload struct {
	ID         string `json:"id"`
	Seq        int64  `json:"seq"`
	Kind       string `json:"kind"`
	Provider   string `json:"provider"`
	ProviderID string `json:"provider_id"`
	DBHash     string `json:"db_hash"`
	Action     string `json:"action"`
	LSN        string `json:"lsn"`
	Silenced   bool   `json:"silenced"`
	Repeats    int64  `json:"repeats"`
	Resolves   int64  `json:"resolves"`
	Truncated  bool   `json:"truncated"`
}

// event is something that was committed and has to be notified of.
type event struct {
	id  string
	end position
}

// checkNotices holds what was received against what was committed: within one
// session everything is notified of once and in order, without a gap.
func (c *checker) checkNotices(epochs []epoch) []violation {
	var found []violation
	var alerts, entries, seeds []event
	rows := map[string]alert{}
	for _, a := range c.alerts {
		alerts = append(alerts, event{a.id, a.end})
		rows[a.id] = a
	}
	for _, e := range c.delivered {
		entries = append(entries, event{e.id, 0})
	}
	for _, id := range c.seeded {
		seeds = append(seeds, event{id, 0})
	}
	for i, e := range epochs {
		received, wrong := e.received(rows)
		found = append(found, wrong...)
		for channel, events := range map[string][]event{driftChannel: alerts, auditChannel: entries, seededChannel: seeds} {
			if detail := e.compare(channel, events, received[channel]); detail != "" {
				found = append(found, violation{Rule: ruleNotify, Detail: fmt.Sprintf("session %d %s", i, detail)})
			}
		}
	}
	return found
}

// received returns the ids that the session received on each channel, and the payloads
// that are not as their row.
func (e epoch) received(rows map[string]alert) (ids map[string][]string, wrong []violation) {
	ids = map[string][]string{}
	for _, n := range e.notices {
		var p payload
		if err := json.Unmarshal([]byte(n.payload), &p); err != nil {
			wrong = append(wrong, violation{Rule: ruleNotify, Detail: n.channel + ": " + err.Error()})
			continue
		}
		switch n.channel {
		case driftChannel:
			a, known := rows[p.ID]
			if !known || a.seq != p.Seq || a.kind != p.Kind || a.provider != p.Provider || a.providerID != p.ProviderID || a.dbHash != p.DBHash ||
				a.silenced != p.Silenced || a.repeats != p.Repeats || a.resolves != p.Resolves {
				wrong = append(wrong, violation{Rule: ruleNotify, Provider: p.Provider, Detail: fmt.Sprintf("the payload of alert %d is not as the row: %s", p.Seq, n.payload)})
			}
			ids[n.channel] = append(ids[n.channel], p.ID)
		case auditChannel:
			ids[n.channel] = append(ids[n.channel], p.ID)
		case seededChannel:
			ids[n.channel] = append(ids[n.channel], p.ProviderID)
		}
	}
	return ids, wrong
}

// compare compares what the session received on a channel with what was committed. It
// returns what is wrong, empty when nothing is.
func (e epoch) compare(channel string, events []event, have []string) string {
	if len(have) == 0 {
		return ""
	}
	var all []string
	for _, event := range events {
		all = append(all, event.id)
	}
	at := slices.Index(all, have[0])
	switch {
	case at < 0 || at+len(have) > len(all) || !slices.Equal(all[at:at+len(have)], have):
		return fmt.Sprintf("received on %s what was not committed in this order: %d from %s", channel, len(have), have[0])
	case at > 0 && channel == driftChannel && events[at-1].end > e.from:
		return fmt.Sprintf("did not receive alert %s", all[at-1])
	case e.last && at+len(have) < len(all):
		return fmt.Sprintf("did not receive the last %d on %s", len(all)-at-len(have), channel)
	}
	return ""
}
