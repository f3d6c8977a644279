package report

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/table"

	"provwatch/internal/sink"
	"provwatch/internal/status"
)

// Sinks prints how far each sink is, and its dead letters.
func (p *Printer) Sinks(state sink.State) error {
	if p.json {
		return p.encode(state)
	}
	if len(state.Sinks) == 0 {
		_, err := fmt.Fprintln(p.out, "There is no sink; see \"worker run --help\".")
		return err
	}
	return p.sinks(state)
}

func (p *Printer) sinks(state sink.State) error {
	t := p.table("SINK", "STREAM", "SEQ", "BEHIND", "DEAD LETTERS", "MOVED")
	for _, s := range state.Sinks {
		moved := nothing
		if !s.MovedAt.IsZero() {
			moved = s.MovedAt.Format(time.RFC3339)
		}
		t.AppendRow(table.Row{cell(s.Sink), string(s.Stream), s.Seq, s.Behind, s.DeadLetters, moved})
	}
	if err := p.render(t); err != nil || len(state.DeadLetters) == 0 {
		return err
	}
	t = p.table("DEAD LETTER", "STREAM", "SEQ", "PROVIDER", "ATTEMPTS", "AT", "REASON")
	for _, l := range state.DeadLetters {
		reason := cell(l.Reason)
		if l.Retry {
			reason += " (" + status.RetryRequested + ")"
		}
		t.AppendRow(table.Row{
			p.paint(red, cell(l.Sink)), string(l.Stream), l.Seq, cell(l.Provider), l.Attempts, l.At.Format(time.RFC3339), reason,
		})
	}
	if _, err := fmt.Fprintln(p.out); err != nil {
		return err
	}
	return p.render(t)
}

// SinkRetries prints of how many dead letters a retry was requested.
func (p *Printer) SinkRetries(asked int64) error {
	if p.json {
		return p.encode(map[string]any{"asked": asked})
	}
	_, err := fmt.Fprintf(p.out, "The leader will retry %s; \"worker sinks list\" shows the remaining ones.\n", english.Plural(int(asked), "dead letter", ""))
	return err
}
