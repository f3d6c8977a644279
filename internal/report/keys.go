package report

import (
	"fmt"
	"strconv"

	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/table"

	"provwatch/internal/atrest"
	"provwatch/internal/reencrypt"
)

// KeyUse is how many rows store a secret with a key; an empty id stands for plain
// text.
type KeyUse struct {
	KeyID    string `json:"key_id"`
	Settings int64  `json:"settings"`
	APIKeys  int64  `json:"api_keys"`
}

// keyRow is a key, or what rows say that they are encrypted with, as JSON.
type keyRow struct {
	ID      string `json:"id"`
	Status  string `json:"status"` // as in [atrest.KeyInfo], or missing or plaintext
	Primary bool   `json:"primary"`
	// Of the rows that use it; null where there is no database.
	Settings *int64 `json:"settings"`
	APIKeys  *int64 `json:"api_keys"`
}

// Keys prints the keys of a keyset and, unless uses is nil, what each is used
// for, also those that the keyset lacks and plain text.
func (p *Printer) Keys(keys []atrest.KeyInfo, uses []KeyUse) error {
	rows := []keyRow{}
	shown := map[string]bool{}
	used := map[string]KeyUse{}
	for _, u := range uses {
		used[u.KeyID] = u
	}
	add := func(id, status string, primary bool) {
		row := keyRow{ID: id, Status: status, Primary: primary}
		if u := used[id]; uses != nil {
			row.Settings, row.APIKeys = &u.Settings, &u.APIKeys
		}
		rows, shown[id] = append(rows, row), true
	}
	for _, k := range keys {
		add(k.ID, k.Status, k.Primary)
	}
	for _, u := range uses {
		switch {
		case shown[u.KeyID]:
		case u.KeyID == "":
			add("", "plaintext", false)
		default:
			add(u.KeyID, "missing", false)
		}
	}
	if p.json {
		return p.encode(map[string]any{"keys": rows})
	}
	t := p.table("KEY", "STATUS", "SETTINGS", "API KEYS")
	for _, r := range rows {
		status, colors := r.Status, faint
		switch {
		case r.Primary:
			status, colors = "primary", green
		case r.Status == "missing":
			status, colors = "not in the keyset", red
		case r.Status == "plaintext":
			status, colors = "plain text", yellow
		}
		t.AppendRow(table.Row{cell(r.ID), p.paint(colors, status), count(r.Settings), count(r.APIKeys)})
	}
	return p.render(t)
}

func count(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

// KeyChanged prints what was done to a key, and the keyset as it is now.
func (p *Printer) KeyChanged(id, done string, keys []atrest.KeyInfo) error {
	if p.json {
		return p.encode(map[string]any{"id": id, "done": done, "keys": keys})
	}
	if _, err := fmt.Fprintf(p.out, "Key %s: %s.\n", p.paint(bold, id), done); err != nil {
		return err
	}
	return p.Keys(keys, nil)
}

// Reencryption prints what was re-encrypted, and with staged that its audit entries
// wait for a worker.
func (p *Printer) Reencryption(s reencrypt.Summary, staged bool) error {
	if p.json {
		summary := struct {
			reencrypt.Summary
			Audit string `json:"audit,omitempty"`
		}{Summary: s}
		if staged {
			summary.Audit = auditStaged
		}
		return p.encode(summary)
	}
	with := "in plain text now"
	if s.KeyID != "" {
		with = "encrypted with key " + s.KeyID + " now"
	}
	if _, err := fmt.Fprintf(p.out, "Settings of %s and %s written, %s.\n",
		english.Plural(s.Settings, "provider", ""), english.Plural(s.APIKeys, "API key", ""), with); err != nil {
		return err
	}
	if len(s.Failures) > 0 {
		t := p.table("PROVIDER", "LEFT AS IT WAS")
		for _, f := range s.Failures {
			t.AppendRow(table.Row{p.paint(red, cell(f.Provider)), cell(f.Reason)})
		}
		if err := p.render(t); err != nil {
			return err
		}
	}
	return p.staged(staged)
}
