package daemon

import "provwatch/internal/schema"

// uses is what a run uses its role for.
type uses struct {
	observe bool // it writes nothing to the provider tables
	sinks   bool // it has sinks
	prunes  bool // it prunes old rows
	applies bool // it writes to the rows what the environment has changed
}

// uses returns what a run with the options uses its role for.
func (o Options) uses() uses {
	return uses{observe: o.Observe, sinks: len(o.Sinks.Sinks) > 0, prunes: o.Keep > 0, applies: o.ApplyBootDrift || o.ApplyReloadDrift}
}

// of returns what the role is used for where alerts come from the source: the WAL, or any
// other.
func (u uses) of(source SourceMode) schema.Use {
	var use schema.Use
	switch {
	case u.observe && source == WALSource:
		use = schema.Observing | schema.ObservingWAL
	case u.observe:
		use = schema.Observing
	case source == WALSource:
		use = schema.WAL
	default:
		use = schema.Notifications
	}
	if u.sinks {
		use |= schema.Sinks
	}
	if u.prunes {
		use |= schema.Pruning
	}
	if u.applies {
		use |= schema.Applying
	}
	return use
}
