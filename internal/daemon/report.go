package daemon

import (
	"github.com/dustin/go-humanize/english"

	"provwatch/internal/systemd"
	"provwatch/internal/verify"
)

// Supervisor runs a daemon again after it has failed.
type Supervisor interface {
	// Booted is called when the boot is done, on the goroutine of [Daemon.Run].
	Booted()
	// Describe is called when what the daemon does has changed, by any goroutine.
	Describe()
}

// report reports what a run does: to the supervisor, or in words to the service manager. Its
// methods may be called by several goroutines.
type report struct {
	observe    bool
	supervisor Supervisor // nil without one
	member     *systemd.Member
	health     *health
	verifier   *verify.Verifier
	leadership *leadership
}

// describe reports what the run does now.
func (r *report) describe() {
	if r.supervisor != nil {
		r.supervisor.Describe()
		return
	}
	r.member.Status(r.text())
}

func (r *report) text() string {
	if err := r.health.ready(); err != nil {
		return "not ready: " + err.Error()
	}
	watching := "watching " + english.Plural(r.verifier.Providers(), "provider", "")
	if r.observe {
		watching += ", observing"
	}
	if source := r.leadership.currentSource(); source != "" {
		return watching + ", leading, source " + string(source)
	}
	if r.health.isOlder() {
		return watching + ", standing by for a newer environment"
	}
	return watching + ", standing by"
}
