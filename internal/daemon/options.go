package daemon

import (
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/environment"
	"provwatch/internal/remedy"
	"provwatch/internal/rollout"
	"provwatch/internal/schema"
	"provwatch/internal/sink"
)

// Options configure a daemon.
type Options struct {
	// Environment is the provider configuration at the start; Reader reads it again at each
	// reload.
	Environment environment.Environment
	Reader      EnvironmentReader
	// Keys encrypts and decrypts secrets. They are those of the environment, and replaced
	// at each reload.
	Keys *dbcrypt.Ring

	Database       *pgxpool.Config
	ConnectTimeout time.Duration
	Migrate        schema.Mode

	// Observe makes the worker write nothing to the provider tables (--observe). It does not
	// seed, registers no key, and neither creates nor drops triggers and the publication.
	// [schema.Auto] counts as [schema.Check] then, and each drift of the boot is an alert.
	Observe bool
	// TolerateBootDrift makes a drift found by the seed an alert instead of an
	// error (--on-boot-drift=alert).
	TolerateBootDrift bool
	// ApplyBootDrift makes a start write what the environment has changed, or fail
	// (--on-boot-drift=apply). ApplyReloadDrift makes a reload write it, and alert the rest
	// (--on-reload-drift=apply).
	ApplyBootDrift, ApplyReloadDrift bool
	// RequireCredentials makes other credentials than the environment's a drift for
	// the seed, not for the watch (--compat=upstream-credentials).
	RequireCredentials bool
	CredentialDrift    drift.CredentialMode
	// Unmanaged is how enabled, live rows count that the environment does not name
	// (--unmanaged). Empty is [drift.IgnoreUnmanaged].
	Unmanaged drift.UnmanagedMode
	Resync    time.Duration
	// MaxBackOff bounds, before jitter, the wait until a lost connection or a failed
	// verification is tried again (--max-backoff). A worker can stay not ready for
	// that time after the cause has gone.
	MaxBackOff time.Duration
	// ProbeInterval is after how long a quiet listening connection is probed
	// (--probe-interval). AnswerTimeout is how long a probe, a connection of the
	// listener or a hinted verification may take (--answer-timeout). A server that has
	// stopped answering makes the worker not ready within the two together.
	ProbeInterval, AnswerTimeout time.Duration
	// TakeOverAfter is how long a leader may show no sign of life until a worker that
	// stands by takes over (--takeover-after).
	TakeOverAfter time.Duration

	// RollbackAfter is for how long a worker with a newer environment must not have been seen
	// until this worker leads again (--rollback-after).
	RollbackAfter time.Duration

	// Source is where changes come from (--source).
	Source SourceMode
	// SlotMaxLag is how many bytes of WAL the slot may retain (--slot-max-lag).
	SlotMaxLag int64

	// Sinks are what alerts and audit entries are delivered to beside NOTIFY.
	Sinks sink.Options

	// AlertAfter is how long a drift must last until it is alerted (--alert-after).
	AlertAfter time.Duration
	// Keep is for how long alerts, audit entries, acceptances that no longer hold and silences are
	// kept, 0 for ever (--keep).
	Keep time.Duration

	// AnnounceSeed notifies a running gateway of the rows that the seed inserts
	// (--announce-seed).
	AnnounceSeed bool
	// Site renders the remedies of errors that health and the status page show.
	Site remedy.Site

	// Serving is of the process.
	Serving Serving
	// StopBy tells, once ctx has ended, until when stopping may take.
	StopBy  func() time.Time
	Version string
	Logger  *slog.Logger
}

// EnvironmentReader reads the provider configuration. One goroutine calls it at a time.
type EnvironmentReader interface {
	ReadEnvironment() (environment.Environment, error)
}

// statementLimits is how many times --answer-timeout a statement of a running worker
// can take, unless it has a limit of its own.
const statementLimits = 3

// rolloutRole is what a run does with its environment.
func (o Options) rolloutRole() rollout.Role {
	if o.Observe {
		return rollout.Observes
	}
	return rollout.Seeds
}

// patience is how long a statement can wait for another session.
func (o Options) patience() time.Duration { return o.AnswerTimeout / 2 }
