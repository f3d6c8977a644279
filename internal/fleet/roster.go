package fleet

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize/english"

	"provwatch/internal/daemon"
	"provwatch/internal/systemd"
	"provwatch/internal/web"
)

// namesInStatus bounds the status that the service manager gets: it drops a message of
// more than 4 KiB.
const namesInStatus = 10

// roster lists the daemons of all targets, and reports how they do. The targets are added
// before any of them runs; afterwards several goroutines call its methods.
type roster struct {
	daemons []namedDaemon
	status  *systemd.Member // of all of them, in words
}

type namedDaemon struct {
	name   string // of the target
	daemon *daemon.Daemon
}

// add adds the daemon of a target.
func (r *roster) add(target string, d *daemon.Daemon) {
	r.daemons = append(r.daemons, namedDaemon{target, d})
}

// join has the service manager get the status of all targets.
func (r *roster) join(service *systemd.Service) {
	r.status = service.Join(r)
	r.status.Ready()
}

// Targets implements [web.Roster]: it returns what this worker knows of all targets by
// itself.
func (r *roster) Targets() []web.Target {
	list := make([]web.Target, 0, len(r.daemons))
	for _, d := range r.daemons {
		shown := web.Target{Name: d.name, Worker: d.daemon.Worker(), Starting: d.daemon.Starting()}
		if shown.Worker.Leads {
			shown.Drifts = d.daemon.Drifts()
		}
		list = append(list, shown)
	}
	return list
}

// Alive implements [observe.Health]: the process is alive while each target is.
func (r *roster) Alive() error {
	for _, d := range r.daemons {
		if err := d.daemon.Alive(); err != nil {
			return fmt.Errorf("target %s: %w", d.name, err)
		}
	}
	return nil
}

// Ready implements [observe.Health]. Its error names every target that is not ready.
func (r *roster) Ready() (remarks []string, err error) {
	var all []error
	for _, d := range r.daemons {
		lines, err := d.daemon.Ready()
		for _, line := range lines {
			remarks = append(remarks, "target "+d.name+": "+line)
		}
		if err != nil {
			all = append(all, fmt.Errorf("target %s: %w", d.name, err))
		}
	}
	return remarks, errors.Join(all...)
}

// describe reports to the service manager how the targets do.
func (r *roster) describe() {
	var missing []string
	for _, d := range r.daemons {
		if _, err := d.daemon.Ready(); err != nil {
			missing = append(missing, d.name)
		}
	}
	text := fmt.Sprintf("watching %d of %s", len(r.daemons)-len(missing), english.Plural(len(r.daemons), "target", ""))
	if len(missing) > 0 {
		more := ""
		if n := len(missing) - namesInStatus; n > 0 {
			missing, more = missing[:namesInStatus], fmt.Sprintf(" and %d more", n)
		}
		text += ", not ready: " + strings.Join(missing, ", ") + more
	}
	r.status.Status(text)
}
