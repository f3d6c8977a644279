package daemon

import (
	"time"

	"provwatch/internal/drift"
	"provwatch/internal/observe"
	"provwatch/internal/pubsub"
	"provwatch/internal/regularfile"
	"provwatch/internal/verify"
	"provwatch/internal/web"
)

// instruments are the metrics of one run. What they measure also shows on the status page
// and in the health. Their methods may be called by several goroutines.
type instruments struct {
	*observe.Metrics
	page   *statusPage
	health *health
}

// loaded records that an environment is in use, which was read from the files.
func (i *instruments) loaded(files []regularfile.Snapshot) {
	i.health.setLoaded(files)
	i.Loaded(true)
	i.page.Changed(web.Health)
}

// refused records why an environment that was read is not used.
func (i *instruments) refused(err error) {
	i.health.setRefused(err)
	i.Loaded(false)
	i.page.Changed(web.Health)
}

// DriftsObserved implements [verify.Metrics].
func (i *instruments) DriftsObserved(drifting map[string]drift.Kind) {
	i.Metrics.DriftsObserved(drifting)
	byKind := drift.Count(drifting)
	i.page.drifts.Store(&byKind)
}

// PendingObserved implements [verify.Metrics].
func (i *instruments) PendingObserved(pending map[string]drift.Kind) {
	i.Metrics.PendingObserved(pending)
	i.page.Changed(web.Providers)
}

// SilencedObserved implements [verify.Metrics].
func (i *instruments) SilencedObserved(silenced map[string]bool) {
	i.Metrics.SilencedObserved(silenced)
	i.page.Changed(web.Providers)
}

// NotComparableObserved implements [verify.Metrics].
func (i *instruments) NotComparableObserved(reasons map[string]string) {
	i.Metrics.NotComparableObserved(reasons)
	i.health.setNotComparable(reasons)
}

// Verified implements [verify.Metrics].
func (i *instruments) Verified(scope verify.Scope, took time.Duration, err error) {
	i.Metrics.Verified(scope, took, err)
	switch {
	case err != nil:
		i.page.Changed(web.Health)
	case scope == verify.Hinted:
		// That of a full verification shows once the worker knows what came of it.
		i.page.Changed(web.Providers)
	}
}

// AlertPublished implements [verify.Metrics].
func (i *instruments) AlertPublished(kind drift.Kind, source pubsub.Source) {
	i.Metrics.AlertPublished(kind, source)
	i.page.Changed(web.Alerts)
}

// EntriesDelivered implements [audit.Metrics].
func (i *instruments) EntriesDelivered(n int) {
	i.Metrics.EntriesDelivered(n)
	i.page.Changed(web.Audit)
}

// TransactionsHandled implements [wal.Metrics].
func (i *instruments) TransactionsHandled(n int) {
	i.Metrics.TransactionsHandled(n)
	i.page.Changed(web.Providers)
}

// Leading shadows that of the metrics.
func (i *instruments) Leading(leads bool) {
	i.Metrics.Leading(leads)
	i.page.Changed(web.Leader)
}

// Older shadows that of the metrics.
func (i *instruments) Older(older bool) {
	i.Metrics.Older(older)
	i.page.Changed(web.Leader)
}

// SourceUsed shadows that of the metrics.
func (i *instruments) SourceUsed(source string) {
	i.Metrics.SourceUsed(source)
	i.page.Changed(web.Leader)
}

// SinkStored implements [sink.Metrics].
func (i *instruments) SinkStored(string, string) { i.page.Changed(web.Sinks) }
