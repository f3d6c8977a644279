package daemon

import (
	"sync/atomic"

	"provwatch/internal/leader"
)

// leadership is what this worker leads by now. The goroutine of the [participant] writes
// it, and that of the WAL's stream its source; any goroutine reads it.
type leadership struct {
	term   atomic.Pointer[leader.Term] // nil while standing by
	source atomic.Pointer[SourceMode]  // nil for none yet
}

// currentTerm is nil while this worker stands by.
func (l *leadership) currentTerm() *leader.Term { return l.term.Load() }

func (l *leadership) leads() bool { return l.term.Load() != nil }

// currentSource is empty while this worker stands by, and until its term has a source.
func (l *leadership) currentSource() SourceMode {
	if source := l.source.Load(); source != nil {
		return *source
	}
	return ""
}

// setSource reports whether the source is another than before.
func (l *leadership) setSource(source SourceMode) (changed bool) {
	before := l.source.Swap(&source)
	return before == nil && source != "" || before != nil && *before != source
}
