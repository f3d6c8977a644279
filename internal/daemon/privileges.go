package daemon

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/schema"
)

// privileges checks whether the role still has its privileges. Several goroutines call its
// methods.
type privileges struct {
	pool       *pgxpool.Pool
	mode       SourceMode
	uses       uses
	leadership *leadership
	health     *health
	logger     *slog.Logger

	order  checkOrder
	logged logDedup
}

// use is what the role is used for now.
func (p *privileges) use() schema.Use {
	if p.mode == WALSource {
		return p.uses.of(WALSource)
	}
	return p.uses.of(p.leadership.currentSource())
}

// check checks the privileges. The worker goes on without the missing ones; /readyz and one
// line of the log name them.
func (p *privileges) check(ctx context.Context) {
	check := p.order.begin()
	lacking := schema.CheckPrivileges(ctx, p.pool, p.use())
	var unusable *schema.UnusableError
	if lacking != nil && !errors.As(lacking, &unusable) {
		return // not known
	}
	done, isLatest := p.order.use(check)
	if !isLatest {
		return
	}
	defer done()
	p.health.setPrivileges(lacking)
	if !p.logged.isNewError("privileges", lacking) {
		return
	}
	if lacking != nil {
		p.logger.ErrorContext(ctx, "the role has lost privileges", "error", lacking)
	} else {
		p.logger.InfoContext(ctx, "the role has its privileges again")
	}
}

// react checks the privileges when the error is that one was denied, or when something has
// succeeded while one was missing.
func (p *privileges) react(ctx context.Context, err error) {
	if schema.IsDenied(err) || err == nil && p.health.lacksPrivileges() {
		p.check(ctx)
	}
}
