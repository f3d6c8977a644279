package verify

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
)

// conditions are which providers drift, pending or not, and which cannot be compared, as of the last
// judgement of each. It logs a condition when it begins and when it ends.
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
	// silencing has the providers whose alerts are silenced, drifting or not, and
	// [provider.All] where all are: as last read.
	silencing map[string]bool
}

func newConditions(logger *slog.Logger) *conditions {
	return &conditions{logger: logger, drifting: map[string]drift.Kind{}, pending: map[string]drift.Kind{}, notComparable: map[string]string{}, credentials: map[string]string{}}
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
}
