// Package retention deletes alerts, audit entries, acceptances and silences that are older than what
// is kept (docs/retention.md): the leading worker all the while ([Runner]), and "worker
// prune" once ([Prune]).
//
// Both go through the tables in the order of seq, a page at a time, each page in a short
// transaction of its own. What must stay is decided by the statements that delete, in the
// snapshot in which they delete (sql/queries/retention.sql). So it does not matter how many
// prune at a time, nor where one of them is killed.
package retention

// pageSize is how many rows of each table a transaction reads, and deletes at most.
const pageSize = 1000

// Pruned is what was deleted, or in a dry run what would be.
type Pruned struct {
	Alerts       int64 `json:"alerts"`
	AlertsUpTo   int64 `json:"alerts_up_to"` // seq of the last one, 0 for none
	AuditEntries int64 `json:"audit_entries"`
	AuditUpTo    int64 `json:"audit_up_to"` // seq of the last one, 0 for none
	Acceptances  int64 `json:"acceptances"`
	Silences     int64 `json:"silences"`
}

// Rows returns the number of rows.
func (p Pruned) Rows() int64 { return p.Alerts + p.AuditEntries + p.Acceptances + p.Silences }

func (p *Pruned) add(more Pruned) {
	p.Alerts += more.Alerts
	p.AuditEntries += more.AuditEntries
	p.Acceptances += more.Acceptances
	p.Silences += more.Silences
	p.AlertsUpTo = max(p.AlertsUpTo, more.AlertsUpTo)
	p.AuditUpTo = max(p.AuditUpTo, more.AuditUpTo)
}
