package report

import (
	"fmt"
	"strings"
	"time"

	"provwatch/internal/drift"
	"provwatch/internal/pubsub"
	"provwatch/internal/status"
)

// Alert prints one alert, in a line or more.
func (p *Printer) Alert(a pubsub.DriftAlert) error {
	if p.json {
		return p.encodeLine(a)
	}
	colors := yellow
	if a.Kind == drift.Resolved {
		colors = green
	}
	about := cell(string(a.Source))
	if cause := alertCause(a.Moved, a.How, a.Resolves, a.RenamedTo, a.Repeats, a.Silenced); cause != "" {
		about += "; " + cause
	}
	_, err := fmt.Fprintf(p.out, "%s  #%d  %s  %s  (%s)\n", a.DetectedAt.UTC().Format(time.RFC3339), a.Seq,
		p.paint(colors, cell(status.KindLabel(a.Kind))), p.paint(bold, cell(a.Provider)), about)
	if err != nil {
		return err
	}
	if !a.Kind.HasProvider() {
		for _, f := range reasons(a.Reason, a.Certain) {
			if _, err := fmt.Fprintf(p.out, "    %s  %s\n", f.Name, cell(f.DB)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, f := range drift.Displayed(a.Kind, a.Fields) {
		if _, err := fmt.Fprintf(p.out, "    %s  env %s  db %s\n", cell(f.Name), value(f.Env), value(f.DB)); err != nil {
			return err
		}
	}
	return nil
}

// alertCause is causeOf of an alert, with what silences have done about it.
func alertCause(moved drift.Moved, how drift.How, resolves int64, renamedTo string, repeats int64, silenced bool) string {
	var parts []string
	if cause := causeOf(moved, how, resolves, renamedTo); cause != "" {
		parts = append(parts, cause)
	}
	if repeats != 0 {
		parts = append(parts, status.RepeatsLabel(repeats))
	}
	if silenced {
		parts = append(parts, status.SilencedAlert)
	}
	return strings.Join(parts, "; ")
}

// causeOf returns the words for what an alert comes from: which side has moved, and the name
// that the row has now, or how a drift ended.
func causeOf(moved drift.Moved, how drift.How, resolves int64, renamedTo string) string {
	cause := moved.Label()
	if cause == "" {
		cause = how.Ending(resolves)
	}
	if renamedTo != "" {
		cause = strings.TrimPrefix(cause+", "+status.RenamedLabel(renamedTo), ", ")
	}
	if cause == "" {
		return ""
	}
	return cell(cause)
}
