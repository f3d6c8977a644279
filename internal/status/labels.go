package status

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize/english"

	"provwatch/internal/drift"
	"provwatch/internal/silence"
	"provwatch/internal/sink"
)

// The words for what there is to see, in the tables of commands and on the page. In JSON, in
// the database and in addresses there are the values themselves.
const (
	// NoRow is the difference of a provider that is missing.
	NoRow = "no row"
	// NotRecorded stands for a time of verification that is not recorded.
	NotRecorded = "not recorded yet"
	// RetryRequested marks a dead letter that the leader will send again.
	RetryRequested = "retry requested"
	// SilencedAlert marks an alert that no sink gets, and a drift whose alerts no sink gets now.
	SilencedAlert = "silenced"
	// Observes stands for the mode of a worker that writes nothing to the provider tables.
	Observes = "observes: writes nothing to the provider tables, and seeds nothing"
	// Empty stands for a value that is empty.
	Empty = "(empty)"
	// Ready and NotReady are whether a worker does its job.
	Ready    = "ready"
	NotReady = "not ready"
	// WithoutProviders is the state of a worker whose environment names no provider of a type
	// that the database knows.
	WithoutProviders = "without providers"
	// NoLeader stands for the leader where no worker leads.
	NoLeader = "none"
)

// Label returns the words for a state.
func (s State) Label() string {
	switch s {
	case SoftDeleted:
		return "soft-deleted"
	case Unsupported:
		return "unsupported type"
	case Unverified:
		return "not verified yet"
	case InSync:
		return "in sync"
	case NotComparable:
		return "not comparable"
	default:
		return string(s)
	}
}

// KindLabel returns the words for a kind of drift, or of an alert. A kind from the database can
// be any text, which is returned unchanged.
func KindLabel(kind drift.Kind) string {
	switch kind {
	case drift.Deleted:
		return SoftDeleted.Label()
	case drift.InSync:
		return InSync.Label()
	case drift.NotComparable:
		return NotComparable.Label()
	default:
		return string(kind)
	}
}

// NotLoadedLabel returns the words for a file of the environment whose content is another than
// the one in use.
func NotLoadedLabel(path string) string { return path + " on disk is not what is loaded" }

// Label returns the words for the files that a worker has not loaded. Its role and the paths are
// shown as the caller can show them.
func (n NotLoaded) Label(shown func(string) string) string {
	files := make([]string, len(n.Files))
	for i, path := range n.Files {
		files[i] = shown(path)
	}
	return fmt.Sprintf("%s on disk %s not what worker %s of role %s has loaded, since %s",
		english.OxfordWordSeries(files, "and"), english.PluralWord(len(files), "is", "are"), n.Worker, shown(n.Role), n.Since.Format(time.RFC3339))
}

// Label returns the words for an older environment, with the role as it can be shown.
func (o Older) Label(role string) string {
	return fmt.Sprintf("older than that of worker %s of role %s, which is newer since %s and was last seen at %s: this worker seeds, alerts and applies nothing",
		o.Worker, role, o.Since.Format(time.RFC3339), o.SeenAt.Format(time.RFC3339))
}

// OlderLabel returns the words for how many workers have an older environment, empty for none.
// Roles are shown as the caller can show them.
func (d Database) OlderLabel(shown func(role string) string) string {
	n := d.OlderEnvironments()
	if n == 0 {
		return ""
	}
	newest, have := d.Environments[0], "workers have"
	if n == 1 {
		have = "worker has"
	}
	text := fmt.Sprintf("%d %s an older environment than worker %s of role %s", n, have, newest.Worker, shown(newest.Role))
	if newest.Since != nil {
		text += ", which is newer since " + newest.Since.Format(time.RFC3339)
	}
	return text
}

// RenamedLabel returns the words for the name that the row of a missing provider has now.
func RenamedLabel(name string) string { return "renamed to " + name }

// AcceptedLabel returns the words for an accepted drift.
func AcceptedLabel(kind drift.Kind) string { return KindLabel(kind) + ", accepted" }

// UnmanagedLabel returns the words for a row that the environment does not name: whether it was
// alerted, or is known, which it is not.
func UnmanagedLabel(alerted bool) string {
	if alerted {
		return KindLabel(drift.Unmanaged) + ", alerted"
	}
	return KindLabel(drift.Unmanaged)
}

// Label returns the words for how the provider is.
func (p Provider) Label() string {
	if p.SilencedUntil != nil && (p.State == Drifted || p.State == SoftDeleted) {
		p.SilencedUntil = nil
		return p.Label() + ", " + SilencedAlert
	}
	switch {
	case p.Kind == drift.Unmanaged && p.State == Drifted:
		return UnmanagedLabel(true)
	case p.State == Drifted:
		return KindLabel(p.Kind)
	case p.State == Accepted && p.Kind != "":
		return AcceptedLabel(p.Kind)
	case p.State == Pending && p.Kind != "":
		return KindLabel(p.Kind) + ", " + Pending.Label()
	default:
		return p.State.Label()
	}
}

// SilencedLabel returns the words for what a silence is of, whose provider is given.
func SilencedLabel(provider string) string {
	if provider == silence.All {
		return "all providers"
	}
	return provider
}

// RepeatsLabel returns the words for an alert that repeats a silenced one, by its seq.
func RepeatsLabel(seq int64) string { return fmt.Sprintf("repeats #%d", seq) }

// HolderLabel returns the words for the leader where a session that is no worker holds the
// leader's lock.
func HolderLabel(holder string) string {
	return fmt.Sprintf("%s; %s holds the leader's lock and is no worker", NoLeader, holder)
}

// Label returns the words for the session, whose role is given as it can be shown.
func (s Session) Label(role string) string {
	text := fmt.Sprintf("session %d of role %s", s.PID, role)
	if s.Observes {
		text = "observing " + text
	}
	if s.Address != "" {
		text += " from " + s.Address
	}
	return text
}

// Label returns the words for whether a receiver reads the slot.
func (s Slot) Label() string {
	if s.Active {
		return "being read"
	}
	return "not being read"
}

// SinkLabel returns the words for how far a sink is with a stream.
func SinkLabel(p sink.Progress) string {
	switch {
	case p.DeadLetters > 0:
		return "dead letters"
	case p.Behind > 0:
		return "behind"
	case p.MovedAt.IsZero():
		return "nothing sent yet"
	default:
		return "delivering"
	}
}
