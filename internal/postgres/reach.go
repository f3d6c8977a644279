package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/remedy"
	"provwatch/internal/retry"
)

// UnreachableError says that the database could not be connected to; exit code
// 4 (docs/specification.md, section 8).
type UnreachableError struct {
	Address string // host and database, without credentials
	Remedy  remedy.Advice
	Err     error
}

func (e *UnreachableError) Error() string {
	return e.problem().Error()
}

func (e *UnreachableError) problem() error {
	return withRemedy(fmt.Errorf("cannot connect to PostgreSQL at %s: %w", e.Address, e.Err), e.Remedy)
}

// Remedies returns the remedies in the text.
func (e *UnreachableError) Remedies() []remedy.Remedy { return remedy.Of(e.problem()) }

func (e *UnreachableError) Unwrap() error { return e.Err }

// Waiting gets why a connection has not been made yet.
type Waiting interface {
	// ConnectionFailed gets the error of each attempt that is repeated, as it would be
	// returned.
	ConnectionFailed(err error)
}

// Connector connects to a database that may be away: it retries with backoff until
// Timeout has passed.
type Connector struct {
	Config  *pgxpool.Config
	Timeout time.Duration
	Logger  *slog.Logger
	Waiting Waiting // nil for none
}

// Connect opens a pool. It retries with backoff until the server answers or Timeout has
// passed. An error that waiting does not mend, such as a wrong password that is not
// read again, ends it at once. Errors are [*UnreachableError], or ctx's own.
func (c Connector) Connect(ctx context.Context) (*pgxpool.Pool, error) {
	config := c.Config
	address := addressOf(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, &UnreachableError{Address: address, Remedy: remedy.Advice{remedy.CheckConnection()}, Err: err}
	}
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var last error
	for attempt := range (retry.Policy{}).Attempts(limited) {
		err := pool.Ping(limited)
		if err == nil {
			return pool, nil
		}
		if limited.Err() != nil {
			break
		}
		last = err
		if _, final := diagnose(err, config); final {
			break
		}
		wait, _ := attempt.Failed()
		c.Logger.WarnContext(ctx, "database not reachable yet, retrying", "address", address, "error", Brief(err), "retry_in", wait)
		c.report(err)
	}
	// The pool makes its first connection with a context of its own, which a server
	// that takes connections and says nothing keeps waiting.
	Close(pool, closeTimeout)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if last == nil {
		last = fmt.Errorf("no answer within %s", c.Timeout)
	}
	return nil, unreachable(config, last)
}

// Persist calls do, and retries with backoff while do loses the
// connection, until Timeout has passed since the first loss: the server may be
// restarting, or another one be taking its place. The error is then an
// [*UnreachableError], and otherwise that of do, or ctx's own.
func (c Connector) Persist(ctx context.Context, do func() error) error {
	config := c.Config
	err := do()
	if !passes(err) {
		return final(config, err)
	}
	c.Logger.WarnContext(ctx, "connection lost, retrying", "address", addressOf(config), "error", Brief(err))
	c.report(err)
	for attempt := range (retry.Policy{Within: c.Timeout}).Attempts(ctx) {
		err = do()
		if !passes(err) {
			return final(config, err)
		}
		if ctx.Err() != nil {
			break
		}
		if wait, again := attempt.Failed(); again {
			c.Logger.WarnContext(ctx, "connection lost, retrying", "address", addressOf(config), "error", Brief(err), "retry_in", wait)
			c.report(err)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return unreachable(config, err)
}

// passes reports whether a start goes on once the connection is back.
func passes(err error) bool { return IsConnectionLoss(err) && !IsPooling(err) }

// final returns an error that ends a start, with the remedy of a pooler.
func final(config *pgxpool.Config, err error) error {
	if IsPooling(err) {
		return unreachable(config, err)
	}
	return err
}

// Explain adds the remedy to the error of a running worker where waiting alone cannot
// mend it: where the login is refused, the server is full, or a pooler keeps no session.
func Explain(config *pgxpool.Config, err error) error {
	if !IsLoginRefused(err) && !IsPooling(err) && !isFull(err) {
		return err
	}
	advice, _ := diagnose(err, config)
	return withRemedy(Brief(err), advice)
}

// withRemedy adds a remedy to the text of an error.
func withRemedy(err error, advice remedy.Advice) error {
	return remedy.Problem(append([]any{err, "; "}, advice...)...)
}

// report reports the error of an attempt that is repeated.
func (c Connector) report(err error) {
	if c.Waiting != nil {
		c.Waiting.ConnectionFailed(unreachable(c.Config, err))
	}
}

func unreachable(config *pgxpool.Config, err error) *UnreachableError {
	advice, _ := diagnose(err, config)
	if IsPooling(err) {
		err = &PoolingError{} // which says all that there is to say
	}
	return &UnreachableError{Address: addressOf(config), Remedy: advice, Err: Brief(err)}
}

func addressOf(config *pgxpool.Config) string {
	c := config.ConnConfig
	return fmt.Sprintf("%s:%d/%s", c.Host, c.Port, c.Database)
}
