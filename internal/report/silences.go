package report

import (
	"fmt"
	"time"

	"provwatch/internal/silence"
	"provwatch/internal/status"
)

// silenced is the result of "worker silence" as JSON.
type silenced struct {
	Silences []silence.Silence `json:"silences"`
	Audit    Delivery          `json:"audit,omitempty"`
}

// Silenced prints silences that were made. delivery is what becomes of the audit entries.
func (p *Printer) Silenced(added []silence.Silence, delivery Delivery) error {
	if p.json {
		return p.encode(silenced{added, delivery})
	}
	for _, s := range added {
		if _, err := fmt.Fprintf(p.out, "Silence %d: alerts of %s do not go to sinks until %s.\n", s.ID, p.paint(bold, cell(status.SilencedLabel(s.Provider))), s.Ends.Format(time.RFC3339)); err != nil {
			return err
		}
	}
	return p.delivery(delivery)
}

// listedSilences are silences as JSON.
type listedSilences struct {
	Silences []silence.Silence `json:"silences"`
	More     bool              `json:"more"`
}

// Silences prints silences, of which there can be more. With ended, some of them can have
// ended.
func (p *Printer) Silences(list []silence.Silence, more, ended bool) error {
	if p.json {
		return p.encode(listedSilences{list, more})
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(p.out, "No silences.")
		return err
	}
	if err := p.silences(list, ended); err != nil {
		return err
	}
	if more {
		_, err := fmt.Fprintln(p.out, "and more")
		return err
	}
	return nil
}

// silences prints a table of silences. With ended, a column shows whether they last.
func (p *Printer) silences(list []silence.Silence, ended bool) error {
	header := []string{"SILENCE", "PROVIDER", "SINCE", "UNTIL", "BY", "REASON"}
	if ended {
		header = append(header, "ENDED")
	}
	t := p.table(header...)
	for _, s := range list {
		row := []any{s.ID, cell(status.SilencedLabel(s.Provider)), s.Begins.Format(time.RFC3339), s.Ends.Format(time.RFC3339), cell(s.Author), cell(s.Reason)}
		switch {
		case !ended:
		case s.Active:
			row = append(row, nothing)
		case s.EndedBy != "":
			row = append(row, "by "+cell(s.EndedBy))
		default:
			row = append(row, "expired")
		}
		t.AppendRow(row)
	}
	return p.render(t)
}

// unsilenced is the result of "worker unsilence" as JSON.
type unsilenced struct {
	Silence silence.Silence `json:"silence"`
	Changed bool            `json:"changed"`
	Audit   Delivery        `json:"audit,omitempty"`
}

// Unsilenced prints a silence that was ended or, where done is false, had ended before.
// delivery is what becomes of the audit entry.
func (p *Printer) Unsilenced(s silence.Silence, done bool, delivery Delivery) error {
	if p.json {
		return p.encode(unsilenced{s, done, delivery})
	}
	if !done {
		_, err := fmt.Fprintf(p.out, "Silence %d had ended at %s; nothing was written.\n", s.ID, s.Ends.Format(time.RFC3339))
		return err
	}
	if _, err := fmt.Fprintf(p.out, "Silence %d of %s is over.\n", s.ID, p.paint(bold, cell(status.SilencedLabel(s.Provider)))); err != nil {
		return err
	}
	return p.delivery(delivery)
}
