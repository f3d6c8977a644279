package daemon

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/schema"
	"provwatch/internal/store"
)

const (
	// encryptionTimeout bounds a look at the keys of the database.
	encryptionTimeout = 5 * time.Second
	// encryptionPause is the time between two looks for a key that can encrypt, while none
	// can.
	encryptionPause = 5 * time.Second
)

// encryption checks whether a configured key still is a key that the gateway encrypts with.
// Several goroutines call its methods.
type encryption struct {
	pool       *pgxpool.Pool
	keys       *dbcrypt.Ring
	migrate    schema.Mode
	observe    bool // no secret is written, and no key registered
	privileges *privileges
	health     *health
	logger     *slog.Logger

	order  checkOrder
	logged logDedup
}

// check checks the keys. The worker goes on without a usable one; /readyz and one line of
// the log report what is wrong. A key of a reload is registered like a key of the boot.
func (e *encryption) check(ctx context.Context) {
	if e.observe {
		return
	}
	limited, cancel := context.WithTimeout(ctx, encryptionTimeout)
	defer cancel()
	check := e.order.begin()
	_, err := store.On(e.pool).Sealer(limited, e.keys)
	var unusable *dbcrypt.UnusableError
	if errors.As(err, &unusable) && registerKey(limited, e.pool, e.keys, e.migrate, e.logger) == nil {
		_, err = store.On(e.pool).Sealer(limited, e.keys)
	}
	if err != nil && !errors.As(err, &unusable) {
		e.privileges.react(ctx, err)
		return // not known
	}
	done, isLatest := e.order.use(check)
	if !isLatest {
		return
	}
	defer done()
	e.health.setEncryption(err)
	if !e.logged.isNewError("encryption", err) {
		return
	}
	if err != nil {
		e.logger.ErrorContext(ctx, "the keys that encrypt secrets cannot be used", "error", err)
	} else {
		e.logger.InfoContext(ctx, "the keys that encrypt secrets can be used again")
	}
}

// registerKey registers the first configured key where provwatch made the provider tables
// and the role may.
func registerKey(ctx context.Context, pool *pgxpool.Pool, keys *dbcrypt.Ring, migrate schema.Mode, logger *slog.Logger) error {
	if migrate != schema.Auto {
		return nil
	}
	digest, err := store.On(pool).RegisterKey(ctx, keys)
	if err == nil && digest != "" {
		logger.InfoContext(ctx, "encryption key registered in dbcrypt_keys", "key", digest)
	}
	return err
}
