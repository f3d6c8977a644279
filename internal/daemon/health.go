package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"provwatch/internal/lockwait"
	"provwatch/internal/postgres"
	"provwatch/internal/pubsub"
	"provwatch/internal/regularfile"
	"provwatch/internal/remedy"
	"provwatch/internal/rollout"
	"provwatch/internal/status"
	"provwatch/internal/web"
)

// health is what /readyz reports of one run. Its zero value is that of a worker that is still
// booting. Its methods may be called by several goroutines: each part of the run sets its
// own field, and HTTP, the page and the service manager read all of them.
type health struct {
	// display shows the health, and logger logs why the worker is not ready; either can be
	// nil. site renders the remedies of errors, except in the log, whose handler does it. All
	// three are set once.
	display Display
	logger  *slog.Logger
	site    remedy.Site

	mu        sync.Mutex // of what follows
	listening error
	verified  error
	// connecting is why the boot cannot go on yet, nil while it goes on.
	connecting error
	// privileges says which privileges the role lacks.
	privileges error
	// leader is why no live leader is seen by a worker that stands by.
	leader error
	// unverified and unrecorded say, while standing by, what the leader has not done.
	unverified, unrecorded error
	// waiting is what has not ended in time, and who holds it up.
	waiting error
	// waited is set once it has ended, while it stands as the reason for a little longer.
	waited bool
	// encryption says why secrets cannot be encrypted as the database wants it.
	encryption error
	// older is set while another worker has a newer environment; readiness does not depend on
	// it.
	older *rollout.OlderError
	// notComparable are providers that cannot be compared, each as a line, sorted;
	// readiness does not depend on them.
	notComparable []string

	listened bool // listening has been set
	looked   bool // verified has been set

	// Since when the listener is connected, and when a verification, and one of
	// everything, last succeeded; zero for never.
	listeningSince, lastVerified, lastResync time.Time

	// When the environment in use was read and from which files, and why what was read last
	// is not in use; readiness does not depend on it.
	loadedAt time.Time
	files    []regularfile.Snapshot
	refused  error

	// logged are the topics of the reasons that were logged since the worker was last ready.
	logged map[string]bool
}

// reason is one of the reasons why a worker is not ready.
type reason struct {
	kind string
	err  error
}

// topic is what the reason is about, so that it is logged once: see [postgres.Matter].
func (r reason) topic() string {
	var about interface{ Matter() string }
	if errors.As(r.err, &about) {
		return r.kind + " " + about.Matter()
	}
	return r.kind + " " + postgres.Matter(r.err)
}

// next returns the health of the next run, which keeps when everything was verified.
func (h *health) next(site remedy.Site) *health {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &health{lastVerified: h.lastVerified, lastResync: h.lastResync, display: h.display, logger: h.logger, site: site}
}

// starting reports whether nothing has failed, and no verification has ended.
func (h *health) starting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.looked && h.connecting == nil
}

// set changes the health, and logs and shows what is new of it.
func (h *health) set(change func()) {
	h.mu.Lock()
	before := h.text()
	change()
	after := h.text()
	news, again := h.news()
	h.mu.Unlock()
	for _, err := range news {
		h.logger.Warn("not ready: alerts might not be published", "error", err)
	}
	if again {
		h.logger.Info("ready again")
	}
	if before != after {
		h.show()
	}
}

// show has the display show the health.
func (h *health) show() {
	if h.display != nil {
		h.display.Changed(web.Health)
	}
}

// news returns the reasons that must be logged, and whether the worker is ready again
// after some were. h.mu is held.
func (h *health) news() (reasons []error, again bool) {
	if h.logger == nil {
		return nil, false
	}
	if h.err() == nil {
		again = len(h.logged) > 0
		h.logged = nil
		return nil, again
	}
	for _, r := range h.reasons() {
		if topic := r.topic(); !h.logged[topic] && len(h.logged) < maxLogged {
			if h.logged == nil {
				h.logged = map[string]bool{}
			}
			h.logged[topic] = true
			reasons = append(reasons, r.err)
		}
	}
	return reasons, false
}

// hasFailed reports whether something has failed that will be retried.
func (h *health) hasFailed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.connecting != nil || h.listening != nil || h.verified != nil
}

func (h *health) setListening(err error) {
	h.set(func() {
		h.listening, h.listened = err, true
		if h.listeningSince = time.Now(); err != nil {
			h.listeningSince = time.Time{}
		}
	})
}

func (h *health) setVerified(all bool, err error) {
	h.set(func() {
		h.verified, h.looked = err, true
		if err == nil {
			h.lastVerified = time.Now()
		}
		if err == nil && all {
			h.lastResync = h.lastVerified
		}
	})
}

// setLoaded records that an environment is in use, which was read from the files.
func (h *health) setLoaded(files []regularfile.Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loadedAt, h.files, h.refused = time.Now(), files, nil
}

// setRefused records why an environment that was read is not used.
func (h *health) setRefused(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = err
}

// notLoaded returns the files of the environment in use whose content is another by now, as
// they may be shown, each once. It reads a file only if the file was touched.
func (h *health) notLoaded() (paths []string) {
	h.mu.Lock()
	files := h.files
	h.mu.Unlock()
	for _, file := range files {
		if !file.Touched() || !file.Changed() {
			continue
		}
		// Several variables can name one file.
		if path := regularfile.Shown(file.Path); !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// ConnectionFailed implements [postgres.Waiting]: it records why the boot cannot go on yet,
// nil when it goes on.
func (h *health) ConnectionFailed(err error) { h.set(func() { h.connecting = err }) }

func (h *health) setPrivileges(err error) { h.set(func() { h.privileges = err }) }

// setWaiting records what has not ended in time, or with waited set what had not until now.
func (h *health) setWaiting(err error, waited bool) {
	h.set(func() { h.waiting, h.waited = err, waited })
}

func (h *health) setLeader(err error) { h.set(func() { h.leader = err }) }

// setOlder records that another worker has a newer environment, nil where none has.
func (h *health) setOlder(older *rollout.OlderError) { h.set(func() { h.older = older }) }

func (h *health) isOlder() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.older != nil
}

func (h *health) setUnverified(err error) { h.set(func() { h.unverified = err }) }

func (h *health) setUnrecorded(err error) { h.set(func() { h.unrecorded = err }) }

func (h *health) setEncryption(err error) { h.set(func() { h.encryption = err }) }

// setNotComparable takes the providers that cannot be compared, with the reasons.
func (h *health) setNotComparable(reasons map[string]string) {
	list := make([]string, 0, len(reasons))
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		list = append(list, name+": cannot be compared: "+reasons[name])
	}
	h.mu.Lock()
	changed := !slices.Equal(h.notComparable, list)
	h.notComparable = list
	h.mu.Unlock()
	if changed {
		h.show()
	}
}

// maxLogged bounds how many reasons are logged until the worker is ready again.
const maxLogged = 20

// maxRemarks bounds how many providers /readyz and the status page list.
const maxRemarks = 20

// remarks returns the lines that /readyz adds for a worker that is ready.
func (h *health) remarks() []string {
	h.mu.Lock()
	list := h.listed()
	if older := status.OlderOf(h.older); older != nil {
		list = append(list, "environment: "+older.Label(strconv.Quote(older.Role)))
	}
	h.mu.Unlock()
	for _, path := range h.notLoaded() {
		list = append(list, "environment: "+status.NotLoadedLabel(path))
	}
	return list
}

// listed returns the first of what cannot be compared, and how many more there are. h.mu
// is held.
func (h *health) listed() []string {
	list := slices.Clone(h.notComparable[:min(len(h.notComparable), maxRemarks)])
	if more := len(h.notComparable) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more cannot be compared", more))
	}
	return list
}

// listens reports whether the listener is connected.
func (h *health) listens() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listened && h.listening == nil
}

func (h *health) lacksPrivileges() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.privileges != nil
}

func (h *health) cannotEncrypt() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.encryption != nil
}

func (h *health) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.site.Error(h.err())
}

// text is the error of ready, empty for none. h.mu is held.
func (h *health) text() string {
	if err := h.err(); err != nil {
		return h.site.Text(err)
	}
	return ""
}

// worker returns what the status page shows of the health.
func (h *health) worker() status.Worker {
	notLoaded := h.notLoaded()
	h.mu.Lock()
	defer h.mu.Unlock()
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	w := status.Worker{
		NotReady: h.text(), Listening: h.listened && h.listening == nil, ListeningSince: at(h.listeningSince),
		LastVerified: at(h.lastVerified), LastResync: at(h.lastResync), EnvironmentRead: at(h.loadedAt),
		NotComparable: h.listed(), NotComparableTotal: len(h.notComparable), NotLoaded: notLoaded, Older: status.OlderOf(h.older),
	}
	if h.refused != nil {
		w.ReloadRefused = h.site.Text(h.refused)
	}
	return w
}

// err is why the worker is not ready. h.mu is held.
func (h *health) err() error {
	var all []error
	for _, r := range h.reasons() {
		all = append(all, r.err)
	}
	err := errors.Join(all...)
	switch {
	case !h.isBooting():
		return err
	case err != nil:
		return fmt.Errorf("booting: %w", err)
	}
	return errors.New("booting")
}

// isBooting reports whether the worker has not been ready yet. h.mu is held.
func (h *health) isBooting() bool { return h.connecting != nil || !h.listened || !h.looked }

// reasons returns why the worker is not ready, in the order of their weight. h.mu is held.
func (h *health) reasons() []reason {
	all, waiting := []reason{{"connecting", h.connecting}, {"listening", h.listening}}, reason{"waiting", h.waiting}
	var late *lockwait.LateError
	if errors.As(h.waiting, &late) && len(late.Holders) > 0 {
		all = slices.Insert(all, 0, waiting) // it is why the rest fails
	} else {
		all = append(all, waiting)
	}
	if !h.isBooting() {
		all = append(all, reason{"verified", h.verified}, reason{"leader", h.noLeader()},
			reason{"unrecorded", h.unrecorded}, reason{"unverified", h.unverified}, reason{"privileges", h.privileges}, reason{"encryption", h.encryption})
	}
	return slices.DeleteFunc(all, func(r reason) bool { return r.err == nil })
}

// noLeader is why no live leader is seen, with why this worker does not become it. h.mu is
// held.
func (h *health) noLeader() error {
	if h.leader == nil || h.older == nil {
		return h.leader
	}
	return fmt.Errorf("%w; %w; this worker may lead from %s on", h.leader, h.older, h.older.Until.Format(time.RFC3339))
}

// unable is why this worker cannot alert while another one may be able to, nil where it
// can alert or another one cannot either.
func (h *health) unable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var late *lockwait.LateError
	errors.As(h.waiting, &late)
	switch {
	case late != nil && len(late.Holders) > 0, isCommon(h.verified):
		return nil // it holds up other workers as well
	case h.verified != nil:
		return h.verified
	case h.privileges != nil:
		return h.privileges
	}
	if h.waited {
		return nil
	}
	return h.waiting
}

// isCommon reports whether the reason is one of the database, whichever worker leads.
func isCommon(err error) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case pgerrcode.DiskFull, pgerrcode.OutOfMemory, pgerrcode.ReadOnlySQLTransaction, pgerrcode.InvalidSchemaName, pgerrcode.UndefinedTable:
		return true
	}
	return pubsub.IsQueueFull(refused)
}
