package verify

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
)

// conditions are which providers drift, pending or not, and which cannot be compared, as of the last
// judgement of each, and which rows the environment does not name. It logs a condition when it
// begins and when it ends.
//
// Verifications, and what announces their records, read and write the maps from any
// goroutine, under mu. It is not held while anything is logged or measured.
type conditions struct {
	logger *slog.Logger

	// measuring puts those in turn that measure, so that the latest conditions are measured last.
	measuring sync.Mutex

	mu       sync.Mutex
	drifting map[string]drift.Kind
	pending  map[string]drift.Kind // drifts that are not alerted yet
	// notComparable has the reason of each provider that cannot be compared, and
	// credentials the difference of credentials that was last logged of each provider.
	notComparable, credentials map[string]string
	// standing has the rows of providers that cannot be compared, with the providers' names. Of a
	// provider that never could be, nothing that is recorded shows its row.
	// latest has the row of each of these names that stood last.
	standing map[uuid.UUID]string
	latest   map[string]uuid.UUID
	// silencing has the providers whose alerts are silenced, drifting or not, and
	// [provider.All] where all are: as last read.
	silencing map[string]bool
	// unmanaged has the name of each unmanaged row that drifts, pendingRows that of each whose
	// drift is pending, and warned the ids of the rows that were warned of. rows counts the
	// unmanaged rows: each verification of everything counts them, and changes since are added.
	unmanaged, pendingRows map[uuid.UUID]string
	warned                 map[uuid.UUID]struct{}
	rows                   int
}

func newConditions(logger *slog.Logger) *conditions {
	return &conditions{
		logger: logger, drifting: map[string]drift.Kind{}, pending: map[string]drift.Kind{}, notComparable: map[string]string{}, credentials: map[string]string{},
		standing: map[uuid.UUID]string{}, latest: map[string]uuid.UUID{}, unmanaged: map[uuid.UUID]string{}, pendingRows: map[uuid.UUID]string{}, warned: map[uuid.UUID]struct{}{},
	}
}

// setNotComparable replaces the providers that cannot be compared. It logs nothing.
func (c *conditions) setNotComparable(reasons map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notComparable = map[string]string{}
	maps.Copy(c.notComparable, reasons)
}

// judged takes over a judgement. Of a provider that cannot be compared it logs each
// reason once. desired is that of the provider, the zero value where the environment does
// not name it.
func (c *conditions) judged(ctx context.Context, j drift.Judgement, desired provider.Desired) {
	name := j.Observation.Provider
	before, after := c.swap(j)
	switch {
	case before == after:
	case after == "":
		c.logger.InfoContext(ctx, "provider can be compared again", "provider", name)
	default:
		advice := remedy.Advice{"add the key that its API keys are encrypted with, or replace them with \"",
			remedy.Run("resolve", name, "--take", "env", "--with-keys"), `"`}
		if desired.Name != "" && j.Observation.Unreadable != nil {
			advice = remedy.Advice{dbcrypt.Repair(j.Observation.Unreadable, desired.Variables)}
		}
		c.logger.WarnContext(ctx, "provider cannot be compared with the environment", "provider", name, "error", after, "remedy", advice)
	}
}

// swap replaces what is known of a provider, and returns why it could not be compared
// before and cannot be now, each empty for no reason.
func (c *conditions) swap(j drift.Judgement) (before, after string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := j.Observation.Provider
	before = c.notComparable[name]
	if j.Reason == "" {
		delete(c.notComparable, name)
	} else {
		c.notComparable[name] = j.Reason
		c.standing[j.Observation.ProviderID], c.latest[name] = name, j.Observation.ProviderID
	}
	if j.Kind == drift.InSync {
		delete(c.drifting, name)
	} else {
		c.drifting[name] = j.Kind
	}
	switch {
	case j.Pending != nil:
		c.pending[name] = j.Pending.Kind
	case j.Reason == "": // else it stands
		delete(c.pending, name)
	}
	return before, j.Reason
}

// inSync takes over that all providers of the environment are in sync but the suspects,
// which are sorted: their drift may have ended while another worker led, or by a seed.
func (c *conditions) inSync(ctx context.Context, e *environment, suspects []string) {
	for _, name := range c.endInSync(e, suspects) {
		c.logger.InfoContext(ctx, "provider can be compared again", "provider", name)
	}
}

// endInSync returns the providers that could not be compared, and can be now.
func (c *conditions) endInSync(e *environment, suspects []string) (comparable []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	isInSync := func(name string) bool {
		_, isSuspect := slices.BinarySearch(suspects, name)
		return e.isNamed(name) && !isSuspect
	}
	maps.DeleteFunc(c.drifting, func(name string, _ drift.Kind) bool { return isInSync(name) })
	maps.DeleteFunc(c.pending, func(name string, _ drift.Kind) bool { return isInSync(name) })
	for name := range c.notComparable {
		if isInSync(name) {
			delete(c.notComparable, name)
			comparable = append(comparable, name)
		}
	}
	slices.Sort(comparable)
	return comparable
}

// observed returns of an observation what the mode judges. With [drift.WarnCredentials] it
// logs how credentials differ, or that they cannot be compared: each difference once.
func (c *conditions) observed(ctx context.Context, o drift.Observation, mode drift.CredentialMode) drift.Observation {
	if mode == drift.WarnCredentials {
		c.warn(ctx, o)
	}
	return mode.Judged(o)
}

func (c *conditions) warn(ctx context.Context, o drift.Observation) {
	difference := o.Credentials
	if o.UnreadableCredentials != nil {
		difference = o.UnreadableCredentials.Error()
	}
	c.mu.Lock()
	before := c.credentials[o.Provider]
	c.credentials[o.Provider] = difference
	c.mu.Unlock()
	switch {
	case before == difference:
	case o.UnreadableCredentials != nil:
		c.logger.WarnContext(ctx, "credentials in the database cannot be compared with the environment", "provider", o.Provider, "error", o.UnreadableCredentials)
	case o.Credentials != "":
		c.logger.WarnContext(ctx, "credentials in the database differ from the environment", "provider", o.Provider, "difference", o.Credentials)
	}
}

// forgetUnnamed forgets the providers that the environment does not name.
func (c *conditions) forgetUnnamed(e *environment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.drifting, func(name string, _ drift.Kind) bool { return !e.isNamed(name) })
	maps.DeleteFunc(c.pending, func(name string, _ drift.Kind) bool { return !e.isNamed(name) })
	maps.DeleteFunc(c.notComparable, func(name, _ string) bool { return !e.isNamed(name) })
	maps.DeleteFunc(c.credentials, func(name, _ string) bool { return !e.isNamed(name) })
}

// rowsOfIncomparable returns the rows that stand, or stood last, for providers which cannot be
// compared.
func (c *conditions) rowsOfIncomparable() map[uuid.UUID]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.standing)
}

// allVerified takes over that everything was verified: the former rows of providers are recorded. Only
// the row that stands for a provider which cannot be compared is not.
func (c *conditions) allVerified() {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.standing, func(id uuid.UUID, name string) bool { return c.notComparable[name] == "" || c.latest[name] != id })
	maps.DeleteFunc(c.latest, func(name string, _ uuid.UUID) bool { return c.notComparable[name] == "" })
}

// takenOver forgets which rows stood for providers that cannot be compared: while another worker led,
// they can have been disabled.
func (c *conditions) takenOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.standing)
	clear(c.latest)
}

// judgedRow takes over a judgement of a row. With [drift.WarnUnmanaged] it logs each row that
// is not known, once. isChange is set where the rows were counted before it.
func (c *conditions) judgedRow(ctx context.Context, j drift.Judgement, mode drift.UnmanagedMode, isChange bool) {
	o := j.Observation
	isThere, warn := o.Kind == drift.Unmanaged, false
	c.mu.Lock()
	if !isThere && !o.IsNamed {
		delete(c.standing, o.ProviderID)
	}
	_, warned := c.warned[o.ProviderID]
	_, pending := c.pendingRows[o.ProviderID]
	was := j.Before != "" || warned || pending
	switch {
	case isChange && isThere && !was:
		c.rows++
	case isChange && !isThere && was:
		c.rows = max(c.rows-1, 0)
	}
	if delete(c.unmanaged, o.ProviderID); j.Kind == drift.Unmanaged {
		c.unmanaged[o.ProviderID] = o.Provider
	}
	if delete(c.pendingRows, o.ProviderID); j.Pending != nil {
		c.pendingRows[o.ProviderID] = o.Provider
	}
	if delete(c.warned, o.ProviderID); isThere && j.Kind == "" && mode == drift.WarnUnmanaged {
		c.warned[o.ProviderID], warn = struct{}{}, !warned
	}
	c.mu.Unlock()
	if warn {
		c.logger.WarnContext(ctx, "unmanaged provider", "provider", o.Provider, "provider_id", o.ProviderID.String(), "fields", drift.List(drift.Unmanaged, o.Fields))
	}
}

// rowsScanned takes over how many rows the environment does not name, and that all of them
// but the suspects are known.
func (c *conditions) rowsScanned(rows int, suspects []uuid.UUID) {
	isKnown := func(id uuid.UUID) bool {
		_, is := slices.BinarySearchFunc(suspects, id, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
		return !is
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows = rows
	for _, names := range []map[uuid.UUID]string{c.unmanaged, c.pendingRows} {
		maps.DeleteFunc(names, func(id uuid.UUID, _ string) bool { return isKnown(id) })
	}
	maps.DeleteFunc(c.warned, func(id uuid.UUID, _ struct{}) bool { return isKnown(id) })
}

// ignoreRows forgets all unmanaged rows.
func (c *conditions) ignoreRows() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.unmanaged)
	clear(c.pendingRows)
	clear(c.warned)
	c.rows = 0
}

// addRows adds the unmanaged rows, of which it has the names, to the kinds of providers. A provider
// of the name of an alerted row stays: it can have got that name since.
func addRows(providers map[string]drift.Kind, rows map[uuid.UUID]string) {
	for _, name := range rows {
		if _, is := providers[name]; !is {
			providers[name] = drift.Unmanaged
		}
	}
}

// silence replaces the providers whose alerts are silenced. It reports whether they were
// others.
func (c *conditions) silence(silencing map[string]bool) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed = !maps.Equal(c.silencing, silencing)
	c.silencing = silencing
	return changed
}

// measure hands the conditions to the metrics.
func (c *conditions) measure(metrics Metrics) {
	c.measuring.Lock()
	defer c.measuring.Unlock()
	c.mu.Lock()
	notComparable, drifting, pending, silenced := maps.Clone(c.notComparable), maps.Clone(c.drifting), maps.Clone(c.pending), map[string]bool{}
	rows := c.rows
	addRows(drifting, c.unmanaged)
	addRows(pending, c.pendingRows)
	for name := range drifting {
		if c.silencing[name] || c.silencing[provider.All] {
			silenced[name] = true
		}
	}
	c.mu.Unlock()
	metrics.SilencedObserved(silenced)
	metrics.PendingObserved(pending)
	metrics.DriftsObserved(drifting)
	metrics.NotComparableObserved(notComparable)
	metrics.UnmanagedObserved(rows)
}
