package report

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"

	"provwatch/internal/retention"
)

// pruned is a [retention.Report] as JSON.
type pruned struct {
	DryRun           bool  `json:"dry_run"`
	OlderThanSeconds int64 `json:"older_than_seconds"`
	retention.Pruned
	HeldBy []retention.Holder `json:"held_by"`
	Audit  Delivery           `json:"audit,omitempty"`
}

// Pruned prints what was pruned, or in a dry run what would be. delivery is what becomes of
// the audit entries.
func (p *Printer) Pruned(r retention.Report, olderThan time.Duration, dryRun bool, delivery Delivery) error {
	if p.json {
		return p.encode(pruned{dryRun, int64(olderThan.Seconds()), r.Pruned, r.Holders, delivery})
	}
	verb := "Pruned"
	if dryRun {
		verb = "Would prune"
	}
	_, err := fmt.Fprintf(p.out, "%s what is older than %s: %s, %s, %s, %s.\n", verb, span(olderThan),
		upTo(english.Plural(int(r.Alerts), "alert", ""), r.AlertsUpTo),
		upTo(english.Plural(int(r.AuditEntries), "audit entry", "audit entries"), r.AuditUpTo),
		english.Plural(int(r.Acceptances), "acceptance that no longer holds", "acceptances that no longer hold"),
		english.Plural(int(r.Silences), "silence that has ended", "silences that have ended"))
	if err != nil {
		return err
	}
	for _, h := range r.Holders {
		if _, err := fmt.Fprintf(p.out, "Old rows of %s after seq %d stay: sink %s has not had them; \"worker sinks list\" shows how far it is.\n", h.Stream, h.Seq, cell(h.Sink)); err != nil {
			return err
		}
	}
	return p.delivery(delivery)
}

func upTo(what string, seq int64) string {
	if seq == 0 {
		return what
	}
	return fmt.Sprintf("%s up to seq %d", what, seq)
}

// span returns a duration in days where it is a number of days.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}
