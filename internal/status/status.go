// Package status collects the state of the providers and of the workers from the database
// and the environment, for "worker status" and for the status page. It has the
// words for it (labels.go), and writes nothing.
package status

import (
	"math"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/audit"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/remedy"
	"provwatch/internal/rollout"
	"provwatch/internal/silence"
	"provwatch/internal/sink"
)

// State is how a provider is.
type State string

// The states, the most urgent first.
const (
	Drifted State = "drifted" // missing, disabled or changed, or unmanaged and alerted
	// NotComparable is a live row that cannot be decoded or decrypted.
	NotComparable State = "not_comparable"
	SoftDeleted   State = "deleted"     // and stays so: no seed resurrects it
	Pending       State = "pending"     // a drift that is not alerted yet, see [drift.Pending]
	Unmanaged     State = "unmanaged"   // an enabled, live row that the environment does not name, and that was not alerted
	Unsupported   State = "unsupported" // of a type that the database's enum lacks: neither seeded nor compared
	Unverified    State = "unverified"  // named by the environment, and not looked at yet
	Accepted      State = "accepted"    // a drift that an operator accepted, and that is as it was then
	InSync        State = "in_sync"
)

// States are all states in their order, which is that of a listing. Their index
// is their rank in sql/queries/status.sql.
var States = []State{Drifted, NotComparable, SoftDeleted, Pending, Unmanaged, Unsupported, Unverified, Accepted, InSync}

// Status is how things are at one moment. Nothing in it is a secret: URLs are
// without userinfo and query, keys are not in it.
type Status struct {
	At       time.Time `json:"at"` // by the database's clock
	Worker   *Worker   `json:"worker,omitempty"`
	Database Database  `json:"database"`
	// Counts has each state. It is of all providers, whatever was searched for. Unmanaged rows
	// that were alerted count as drifted. Of Providers it has the states that they are listed
	// with, and of others the recorded ones.
	Counts    map[State]int `json:"counts"`
	Providers []Provider    `json:"providers"`
	// Notices are about enabled rows that the gateway does not serve as they suggest.
	// Nil where the role cannot read what they need.
	Notices []provider.Notice `json:"notices,omitzero"`
	// MoreProviders is set when there are more than Providers: after Next.
	MoreProviders bool         `json:"more_providers"`
	Next          Cursor       `json:"-"`
	Alerts        []Alert      `json:"alerts"` // the latest first
	MoreAlerts    bool         `json:"more_alerts"`
	Audit         []AuditEntry `json:"audit"` // the latest first
	MoreAudit     bool         `json:"more_audit"`
	// Silences are the ones that last, the first to end first.
	Silences     []silence.Silence `json:"silences"`
	MoreSilences bool              `json:"more_silences"`
	// Sinks are empty where there are none, and where SinksUnread is why they are not
	// known.
	Sinks       []sink.Progress   `json:"sinks"`
	DeadLetters []sink.DeadLetter `json:"dead_letters"` // at most MaxDeadLetters, the latest first
	SinksUnread string            `json:"sinks_unread,omitempty"`
}

// MaxDeadLetters is how many dead letters are collected. "worker sinks list" has
// more.
const MaxDeadLetters = 20

// Total returns how many providers there are.
func (s Status) Total() int {
	total := 0
	for _, n := range s.Counts {
		total += n
	}
	return total
}

// Worker is what a running worker knows of itself.
type Worker struct {
	ID      string    `json:"id"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Leads   bool      `json:"leads"`
	// Observes is set for a worker that writes nothing to the provider tables (--observe).
	Observes bool `json:"observes"`
	// PID is the server's process of the listening session, while it leads.
	PID    int    `json:"pid,omitempty"`
	Source string `json:"source,omitempty"` // of alerts, while leading: wal, notify, resync
	// NotReady is why the worker does not do its job, empty when it does.
	NotReady       string     `json:"not_ready,omitempty"`
	Listening      bool       `json:"listening"`
	ListeningSince *time.Time `json:"listening_since,omitempty"`
	LastResync     *time.Time `json:"last_resync,omitempty"` // when everything was last verified
	LastVerified   *time.Time `json:"last_verified,omitempty"`
	Providers      int        `json:"providers"` // that the environment names
	// NotComparable are the first of the providers that cannot be compared, while leading,
	// each as a line, with a line of how many more there are. NotComparableTotal is how
	// many there are.
	NotComparable      []string `json:"not_comparable,omitempty"`
	NotComparableTotal int      `json:"not_comparable_total,omitempty"`
	// EnvironmentRead is when the environment in use was read. ReloadRefused is why
	// what was read since is not in use, empty when it is.
	EnvironmentRead *time.Time `json:"environment_read,omitempty"`
	ReloadRefused   string     `json:"reload_refused,omitempty"`
	// NotLoaded are the paths of the environment's files whose content on disk is another
	// than the one in use.
	NotLoaded []string `json:"not_loaded,omitempty"`
	// Older is set while the environment is older than that of another worker: this worker
	// then seeds, alerts and applies nothing.
	Older *Older `json:"older_environment,omitempty"`
}

// Older is what a worker with an older environment knows of a worker with a newer one.
type Older struct {
	Worker     string    `json:"newer_worker"`
	Role       string    `json:"newer_role"`
	Generation int64     `json:"newer_generation"`
	Since      time.Time `json:"newer_since"`   // when the newer environment was recorded
	SeenAt     time.Time `json:"newer_seen_at"` // when the worker was last seen
	Until      time.Time `json:"until"`         // when the environment is no longer older, unless a newer one is seen again
}

// OlderOf returns what there is to see of an older environment, nil for another.
func OlderOf(e *rollout.OlderError) *Older {
	if e == nil {
		return nil
	}
	return &Older{Worker: e.Worker.String(), Role: e.Role, Generation: e.Generation, Since: e.Since, SeenAt: e.SeenAt, Until: e.Until}
}

// Database is the state of the workers, as the database has it.
type Database struct {
	Name   string `json:"name"`
	Server string `json:"server_version"`
	// Replica is set for a hot standby. Who watches is known to its primary alone:
	// Workers and Slot are then not set.
	Replica *Replica  `json:"replica,omitempty"`
	Workers []Session `json:"workers,omitzero"`
	// LockHolder is a session, or a prepared transaction, that holds the leader's lock while
	// no worker leads, empty where none does: standbys wait for it until they take over.
	LockHolder string `json:"leaders_lock_held_by,omitempty"`
	// Environments are the workers that were lately seen, with the generation of their
	// environment, the newest first. A worker that observes has none.
	Environments []WorkerEnvironment `json:"environments,omitzero"`
	// NotLoaded are the workers that were lately seen, and have not loaded a file of their
	// environment as it is on disk. A worker that observes is among them.
	NotLoaded []NotLoaded `json:"not_loaded,omitempty"`
	// Slot is the replication slot of the WAL source, nil when there is none.
	Slot *Slot `json:"slot,omitempty"`
	// VerifiedAt is when the leader has last verified everything: then a
	// verification ended that has compared every provider with the leader's
	// environment, and has published all that was new. Nil when none is recorded, for
	// which VerifiedUnread can have a reason.
	VerifiedAt     *time.Time `json:"verified_at,omitempty"`
	VerifiedUnread string     `json:"verified_unread,omitempty"`
	// KeepsVerified is false for a database that an earlier version has migrated.
	KeepsVerified bool       `json:"-"`
	Undelivered   int        `json:"undelivered_audit_entries"`
	Oldest        *time.Time `json:"oldest_undelivered,omitempty"`
}

// Replica is how far a server is that replays the WAL of another.
type Replica struct {
	// ReplayedAt is when the last transaction that it has replayed was committed;
	// nil when there was none since it started.
	ReplayedAt *time.Time `json:"replayed_at,omitempty"`
}

// Leader returns the session that leads, nil when none does.
func (d Database) Leader() *Session {
	for i := range d.Workers {
		if d.Workers[i].Leads {
			return &d.Workers[i]
		}
	}
	return nil
}

// WorkerEnvironment is a worker and the generation of its environment.
type WorkerEnvironment struct {
	Worker string `json:"worker"`
	Role   string `json:"role"`
	// Generation is 0, and Since nil, where the environment is not recorded: no worker has
	// seeded from it, applied it or led with it.
	Generation int64      `json:"generation"`
	Since      *time.Time `json:"since,omitempty"`
	SeenAt     time.Time  `json:"seen_at"`
	// Older is set where a worker of the list has a newer environment.
	Older bool `json:"older"`
}

// NotLoaded is a worker whose environment on disk is not what it has loaded.
type NotLoaded struct {
	Worker string    `json:"worker"`
	Role   string    `json:"role"`
	Files  []string  `json:"files"` // the paths, as they may be shown
	Since  time.Time `json:"since"` // when the worker first recorded such a file
	SeenAt time.Time `json:"seen_at"`
}

// OlderEnvironments returns how many workers have an older environment. Environments also lists
// commands that are done and workers that have ended, so that those which listen and do not lead
// are the most that it returns.
func (d Database) OlderEnvironments() int {
	older, standbys := 0, 0
	for _, e := range d.Environments {
		if e.Older {
			older++
		}
	}
	for _, w := range d.Workers {
		if !w.Leads && !w.Observes {
			standbys++
		}
	}
	return min(older, standbys)
}

// Session is the listening session of a worker.
type Session struct {
	PID  int    `json:"pid"`
	Role string `json:"role"`
	// Address and Since are empty by unix socket, and for a role that cannot see them of
	// another role.
	Address string     `json:"address,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
	Leads   bool       `json:"leads"`
	// Observes is set for a worker that writes nothing to the provider tables.
	Observes bool `json:"observes"`
}

// Slot is the state of a replication slot, as pg_replication_slots has it.
type Slot struct {
	Name          string `json:"name"`
	Active        bool   `json:"active"`
	WALStatus     string `json:"wal_status"`
	RetainedBytes int64  `json:"retained_bytes"`
}

// Provider is how one provider is.
type Provider struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Kind is how it drifts, or how it did when that was accepted; empty for a provider in
	// sync and for an unmanaged row that was not alerted.
	Kind    drift.Kind    `json:"kind,omitempty"`
	Type    provider.Type `json:"type,omitempty"`
	BaseURL string        `json:"base_url,omitempty"` // as it may be shown
	Fields  []drift.Field `json:"fields,omitempty"`
	// Moved is which side of a drift has moved, empty where nothing is known of it.
	Moved drift.Moved `json:"moved,omitempty"`
	// RenamedTo is the name that the row of a missing provider was given, empty where none
	// is known.
	RenamedTo string `json:"renamed_to,omitempty"`
	// Since is when what is recorded of it last changed, and when it began to drift of a
	// pending one.
	Since      *time.Time `json:"since,omitempty"`
	AcceptedBy string     `json:"accepted_by,omitempty"`
	AcceptedAt *time.Time `json:"accepted_at,omitempty"`
	// AcceptedUntil is when the acceptance ends, nil where it has no end.
	AcceptedUntil *time.Time `json:"accepted_until,omitempty"`
	// AcceptedReason is the operator's reason, empty where none was given.
	AcceptedReason string `json:"accepted_reason,omitempty"`
	// SilencedUntil is when the last silence ends that matches it now, nil for none.
	SilencedUntil *time.Time `json:"silenced_until,omitempty"`
}

// namesOf returns the names of providers, in their order.
func namesOf(providers []Provider) []string {
	names := make([]string, len(providers))
	for i, p := range providers {
		names[i] = p.Name
	}
	return names
}

// Alert is one drift alert.
type Alert struct {
	Seq         int64         `json:"seq"`
	Kind        drift.Kind    `json:"kind"`
	Provider    string        `json:"provider"`
	Fields      []drift.Field `json:"fields"`
	Source      pubsub.Source `json:"source"`
	DetectedAt  time.Time     `json:"detected_at"`
	CommittedAt *time.Time    `json:"committed_at,omitempty"`
	Epoch       uuid.UUID     `json:"epoch"`
	// Moved, How, Resolves and RenamedTo are as in the payload.
	Moved    drift.Moved `json:"moved,omitempty"`
	How      drift.How   `json:"how,omitempty"`
	Resolves int64       `json:"resolves,omitempty"`
	// RenamedTo, Silenced and Repeats are as in the payload.
	RenamedTo string `json:"renamed_to,omitempty"`
	Silenced  bool   `json:"silenced,omitempty"`
	Repeats   int64  `json:"repeats,omitempty"`
	// Reason and Certain are as in the payload: of alerts that are about no provider.
	Reason  string `json:"reason,omitempty"`
	Certain *bool  `json:"certain,omitempty"`
}

// AuditEntry is one delivered audit entry.
type AuditEntry struct {
	Seq        int64         `json:"seq"`
	OccurredAt time.Time     `json:"occurred_at"`
	Actor      string        `json:"actor"`
	Action     audit.Action  `json:"action"`
	Provider   string        `json:"provider"`
	Details    audit.Details `json:"details"`
}

// Cursor is where a page of providers begins: after this one.
type Cursor struct {
	State State
	Name  string
}

// Query selects the part to show.
type Query struct {
	// States limits the providers, none for all. Search is a part of their names.
	States []State
	Search string
	After  Cursor
	// AlertsBefore and AuditBefore are the seq to go back from, 0 for the latest.
	AlertsBefore, AuditBefore int64
	// Limits, each at most [MaxPage].
	Providers, Alerts, Audit int
	// RollbackAfter is for how long a worker counts as there after it was seen
	// (--rollback-after), 0 for [rollout.Window].
	RollbackAfter time.Duration
	// Site renders the remedies of what cannot be read.
	Site remedy.Site
}

// MaxPage is the most of anything that is collected at once.
const MaxPage = 200

// limit returns a limit of a query as it counts.
func limit(n int) int { return min(max(n, 1), MaxPage) }

// before returns the seq to go back from, for 0 one after all.
func before(seq int64) int64 {
	if seq <= 0 {
		return math.MaxInt64
	}
	return seq
}

// Environment is what the environment asks for, where it is known.
type Environment struct {
	// Desired returns the provider of a name. Nil: the environment is not known.
	Desired func(name string) (provider.Desired, bool)
	// Names are all names, which distinguish the unmanaged providers. Nil: the
	// recorded names do, which are the names of the leader's environment.
	Names []string
	// Unsupported are the names of the providers whose type the database's enum lacks, where
	// Names is nil. [Collect] finds them among Names otherwise.
	Unsupported []string
}

// EnvironmentOf returns the environment of the providers given.
func EnvironmentOf(providers []provider.Desired) Environment {
	byName := make(map[string]provider.Desired, len(providers))
	names := make([]string, len(providers))
	for i, d := range providers {
		byName[d.Name], names[i] = d, d.Name
	}
	return Environment{Names: names, Desired: func(name string) (provider.Desired, bool) {
		d, named := byName[name]
		return d, named
	}}
}
