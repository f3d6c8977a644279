package report

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/sink"
	"provwatch/internal/status"
)

// Status prints how providers are, and who verifies them.
func (p *Printer) Status(s status.Status) error {
	if p.json {
		return p.encode(s)
	}
	var counts []string
	for _, state := range status.States {
		if n := s.Counts[state]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, state.Label()))
		}
	}
	line := english.Plural(s.Total(), "provider", "")
	if len(counts) > 0 {
		line += ": " + strings.Join(counts, ", ")
	}
	if _, err := fmt.Fprintf(p.out, "%s.\n\n", line); err != nil {
		return err
	}
	if err := p.statusProviders(s); err != nil {
		return err
	}
	if err := p.accepted(s.Providers); err != nil {
		return err
	}
	if err := p.statusSilences(s); err != nil {
		return err
	}
	if err := p.notices(s.Notices); err != nil {
		return err
	}
	if err := p.watching(s.Database); err != nil {
		return err
	}
	if err := p.statusAlerts(s); err != nil {
		return err
	}
	if err := p.statusAudit(s); err != nil {
		return err
	}
	return p.statusSinks(s)
}

func (p *Printer) statusProviders(s status.Status) error {
	if len(s.Providers) == 0 {
		return nil
	}
	t := p.table("PROVIDER", "STATE", "CAUSE", "FIELD", "ENVIRONMENT", "DATABASE")
	for _, row := range s.Providers {
		colors := yellow
		switch row.State {
		case status.InSync:
			colors = green
		case status.Accepted:
			colors = faint
		case status.NotComparable:
			colors = red
		}
		p.rows(t, []string{cell(row.Name), p.paint(colors, cell(row.Label())), causeOf(row.Moved, "", 0, row.RenamedTo)}, differences(row.Kind, row.Fields))
	}
	if err := p.render(t); err != nil {
		return err
	}
	if s.MoreProviders {
		return p.lines(fmt.Sprintf("and %d more", s.Total()-len(s.Providers)))
	}
	return p.lines()
}

// accepted prints who accepted drifts. It prints nothing when no acceptance holds.
func (p *Printer) accepted(providers []status.Provider) error {
	t := p.table("ACCEPTED", "AT", "UNTIL", "BY", "REASON")
	for _, row := range providers {
		if row.AcceptedAt != nil {
			until := nothing
			if row.AcceptedUntil != nil {
				until = row.AcceptedUntil.Format(time.RFC3339)
			}
			t.AppendRow([]any{cell(row.Name), row.AcceptedAt.Format(time.RFC3339), until, cell(row.AcceptedBy), cell(row.AcceptedReason)})
		}
	}
	if t.Length() == 0 {
		return nil
	}
	if err := p.render(t); err != nil {
		return err
	}
	return p.lines()
}

// statusSilences prints nothing where no silence lasts.
func (p *Printer) statusSilences(s status.Status) error {
	if len(s.Silences) == 0 {
		return nil
	}
	if err := p.silences(s.Silences, false); err != nil {
		return err
	}
	if s.MoreSilences {
		return p.lines("and more; \"worker silences\" lists them")
	}
	return p.lines()
}

// notices prints nothing where there are none.
func (p *Printer) notices(notices []provider.Notice) error {
	if len(notices) == 0 {
		return nil
	}
	t := p.table("NOTICE", "PROBLEM", "REMEDY")
	for _, n := range notices[:min(len(notices), status.MaxPage)] {
		t.AppendRow([]any{cell(n.Provider), cell(n.Problem), n.Remedy})
	}
	if err := p.render(t); err != nil {
		return err
	}
	if more := len(notices) - status.MaxPage; more > 0 {
		return p.lines(fmt.Sprintf("and %d more", more))
	}
	return p.lines()
}

func (p *Printer) watching(d status.Database) error {
	var lines []string
	add := func(name, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-10s %s", name, fmt.Sprintf(format, args...)))
	}
	if d.Replica != nil {
		upTo := ""
		if d.Replica.ReplayedAt != nil {
			upTo = ", up to a commit at " + d.Replica.ReplayedAt.Format(time.RFC3339)
		}
		add("Replica:", "what it has replayed%s; only the primary knows which workers watch", upTo)
	}
	switch leader := d.Leader(); {
	case d.Replica != nil:
	case leader != nil:
		add("Leader:", "%s%s", leader.Label(cell(leader.Role)), since(leader.Since))
	case d.LockHolder != "":
		add("Leader:", "%s", status.HolderLabel(cell(d.LockHolder)))
	default:
		add("Leader:", "%s", status.NoLeader)
	}
	if d.Replica == nil {
		add("Listeners:", "%s", listeners(d.Workers))
	}
	if older := d.OlderLabel(cell); older != "" {
		add("Older:", "%s", older)
	}
	for _, n := range d.NotLoaded {
		add("Files:", "%s", n.Label(cell))
	}
	switch {
	case d.Replica != nil:
	case d.Slot == nil:
		add("Slot:", "none")
	default:
		add("Slot:", "%s, %s, %s, keeps %s of WAL", d.Slot.Name, d.Slot.Label(), d.Slot.WALStatus, humanize.IBytes(uint64(max(d.Slot.RetainedBytes, 0))))
	}
	switch {
	case d.VerifiedAt != nil:
		add("Verified:", "everything, last at %s", d.VerifiedAt.Format(time.RFC3339))
	case d.VerifiedUnread != "":
		add("Verified:", "not known: %s", cellLines(d.VerifiedUnread))
	case d.KeepsVerified:
		add("Verified:", "%s", status.NotRecorded)
	}
	waiting := strconv.Itoa(d.Undelivered) + english.PluralWord(d.Undelivered, " entry waits", " entries wait")
	if d.Oldest != nil {
		waiting += since(d.Oldest)
	}
	add("Audit:", "%s", waiting)
	return p.lines(lines...)
}

// listeners returns how many sessions listen, and how many of them observe.
func listeners(sessions []status.Session) string {
	observing := 0
	for _, s := range sessions {
		if s.Observes {
			observing++
		}
	}
	if observing == 0 {
		return strconv.Itoa(len(sessions))
	}
	return fmt.Sprintf("%d, of them %d observing", len(sessions), observing)
}

func (p *Printer) statusAlerts(s status.Status) error {
	if len(s.Alerts) == 0 {
		return p.lines("No alerts.")
	}
	t := p.table("ALERT", "DETECTED", "KIND", "PROVIDER", "CAUSE", "FIELD", "ENVIRONMENT", "DATABASE")
	for _, a := range s.Alerts {
		colors := yellow
		if a.Kind == drift.Resolved {
			colors = green
		}
		fields := differences(a.Kind, a.Fields)
		if !a.Kind.HasProvider() {
			fields = reasons(a.Reason, a.Certain)
		}
		p.rows(t, []string{"#" + strconv.FormatInt(a.Seq, 10), a.DetectedAt.Format(time.RFC3339), p.paint(colors, cell(status.KindLabel(a.Kind))), cell(a.Provider), alertCause(a.Moved, a.How, a.Resolves, a.RenamedTo, a.Repeats, a.Silenced)}, fields)
	}
	if err := p.render(t); err != nil {
		return err
	}
	return p.lines()
}

func (p *Printer) statusAudit(s status.Status) error {
	if len(s.Audit) == 0 {
		_, err := fmt.Fprintln(p.out, "No audit entries.")
		return err
	}
	t := p.table("AUDIT", "OCCURRED", "ACTOR", "ACTION", "PROVIDER", "DETAILS")
	for _, a := range s.Audit {
		details, err := json.Marshal(a.Details)
		if err != nil {
			return err
		}
		t.AppendRow([]any{
			"#" + strconv.FormatInt(a.Seq, 10), a.OccurredAt.Format(time.RFC3339), cell(a.Actor), cell(string(a.Action)), cell(a.Provider), cell(string(details)),
		})
	}
	return p.render(t)
}

// statusSinks prints nothing where there are no sinks.
func (p *Printer) statusSinks(s status.Status) error {
	if s.SinksUnread != "" {
		_, err := fmt.Fprintf(p.out, "\nSinks are not known: %s\n", cellLines(s.SinksUnread))
		return err
	}
	if len(s.Sinks) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(p.out); err != nil {
		return err
	}
	return p.sinks(sink.State{Sinks: s.Sinks, DeadLetters: s.DeadLetters})
}

// cellLines is [cell] of a text of several lines.
func cellLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = cell(line)
	}
	return strings.Join(lines, "\n")
}

// lines prints a paragraph.
func (p *Printer) lines(lines ...string) error {
	_, err := fmt.Fprintln(p.out, strings.Join(append(lines, ""), "\n"))
	return err
}

func since(t *time.Time) string {
	if t == nil {
		return ""
	}
	return " since " + t.Format(time.RFC3339)
}
