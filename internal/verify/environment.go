package verify

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// environment is what verifications compare the database with: the desired providers as
// they are compared, without credentials. Only its generation changes. A reload replaces it as
// a whole, and a verification keeps the environment that it began with.
type environment struct {
	names   []string           // sorted
	desired []provider.Desired // in the order of the names
	index   map[string]int     // of a name in these
	// unsupported are further names: those of providers whose type the database lacks. They
	// are not compared, and a row of such a name is not unmanaged.
	unsupported []string
	// dropped are the names that former environments of this process had, and this one lacks: see
	// [Verifier.dropped]. term is that in which it replaced the last of them.
	dropped map[string]bool
	term    int64
	// ended is set once the drifts of providers that it does not name were ended, in whatever term.
	ended atomic.Bool
	// applying is set while a reload writes to the rows what the environment has changed.
	applying bool

	// newest is the newest generation of environments when this one took its own, nil before. A
	// reload keeps it where the environments agree. Verifications, records, takeovers and reloads
	// write and read it, from any goroutine.
	newest atomic.Pointer[int64]

	// read is when the environment was read, by the clock of the process, and readAt by that of the
	// database, nil until [environment.since] was called.
	read   time.Time
	readAt atomic.Pointer[time.Time]
}

func newEnvironment(desired []provider.Desired, unsupported []string) *environment {
	e := &environment{read: time.Now(), desired: desired, names: make([]string, len(desired)), index: make(map[string]int, len(desired)), unsupported: unsupported}
	slices.SortFunc(e.desired, func(a, b provider.Desired) int { return strings.Compare(a.Name, b.Name) })
	for i, d := range e.desired {
		e.names[i], e.index[d.Name] = d.Name, i
	}
	return e
}

// agreesWith reports whether both environments have one generation: they name the same providers
// with the same values, as after a reload of other keys.
func (e *environment) agreesWith(other *environment) bool {
	return slices.EqualFunc(e.desired, other.desired, func(a, b provider.Desired) bool {
		return a.Name == b.Name && a.Canonical() == b.Canonical()
	})
}

// since returns when the environment was read, by the database's clock, which did not show the time
// at before now.
func (e *environment) since(at, now time.Time) time.Time {
	readAt := at.Add(e.read.Sub(now)).Truncate(time.Microsecond)
	if !e.readAt.CompareAndSwap(nil, &readAt) {
		readAt = *e.readAt.Load()
	}
	return readAt
}

// find returns the provider of a name.
func (e *environment) find(name string) (provider.Desired, bool) {
	i, named := e.index[name]
	if !named {
		return provider.Desired{}, false
	}
	return e.desired[i], true
}

// withholds reports whether a drift must not be recorded yet, pending or not: the environment
// has moved, and the reload that is writing that to the row ends the drift, or asks for a
// verification of everything.
func (e *environment) withholds(j drift.Judgement) bool {
	kind, moved := j.Alert, j.Moved
	if j.NewPending {
		kind, moved = j.Pending.Kind, j.Pending.Moved
	}
	return e.applying && moved == drift.EnvironmentMoved && (kind == drift.Changed || kind == drift.Missing)
}

// isNamed reports whether the environment names the provider, of a type that the database has.
func (e *environment) isNamed(name string) bool {
	_, named := e.index[name]
	return named
}

// mentions reports whether the environment names the provider, of whatever type.
func (e *environment) mentions(name string) bool {
	return e.isNamed(name) || slices.Contains(e.unsupported, name)
}

// lacks returns the names that the environment lacks.
func (e *environment) lacks(names []string) map[string]bool {
	lacking := map[string]bool{}
	for _, name := range names {
		if !e.mentions(name) {
			lacking[name] = true
		}
	}
	return lacking
}

// allNames returns the names of the providers of all types.
func (e *environment) allNames() []string { return slices.Concat(e.names, e.unsupported) }
