package daemon

import (
	"context"
	"errors"
	"sync"

	"provwatch/internal/schema"
)

// roleUse is what the role is used for now.
func (d *daemon) roleUse() schema.Use {
	if source, _ := d.source.Load().(string); d.Source == WALSource || source == string(WALSource) {
		return schema.WAL | d.sinkUse()
	}
	return schema.Notifications | d.sinkUse()
}

// checkPrivileges looks whether the role still has its privileges: the worker
// goes on without, and says on /readyz and once in the log what is missing.
func (d *daemon) checkPrivileges(ctx context.Context) {
	lacking := schema.CheckPrivileges(ctx, d.pool, d.roleUse())
	var unusable *schema.UnusableError
	if lacking != nil && !errors.As(lacking, &unusable) {
		return // not known
	}
	d.health.setPrivileges(lacking)
	if !d.told.isNewError("privileges", lacking) {
		return
	}
	if lacking != nil {
		d.Logger.ErrorContext(ctx, "the role has lost privileges", "error", lacking)
	} else {
		d.Logger.InfoContext(ctx, "the role has its privileges again")
	}
}

// mindPrivileges checks the privileges when err is that one was denied, or when
// something has succeeded while one was missing.
func (d *daemon) mindPrivileges(ctx context.Context, err error) {
	if schema.IsDenied(err) || err == nil && d.health.lacksPrivileges() {
		d.checkPrivileges(ctx)
	}
}

// told is what was last logged of matters that come up again and again. Its zero
// value has told nothing.
type told struct {
	mu   sync.Mutex
	last map[string]string
}

// isNewError is [told.isNews] of an error; nil for none.
func (t *told) isNewError(matter string, err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	return t.isNews(matter, text)
}

// isNews reports whether text is other than what was last told of the matter, and
// takes it for told.
func (t *told) isNews(matter, text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last[matter] == text {
		return false
	}
	if t.last == nil {
		t.last = map[string]string{}
	}
	t.last[matter] = text
	return true
}
