package daemon

import (
	"context"
	"errors"
	"time"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/store"
)

const (
	// encryptionTimeout bounds a look at the keys of the database.
	encryptionTimeout = 5 * time.Second
	// encryptionPause is how often it is looked for a key that can encrypt, while none
	// can.
	encryptionPause = 5 * time.Second
)

// checkEncryption looks whether a configured key still is one that the gateway encrypts
// with: the worker goes on without, and says on /readyz and once in the log what is
// wrong. A key that a reload has brought is registered as one of the boot is.
func (d *daemon) checkEncryption(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, encryptionTimeout)
	defer cancel()
	_, err := store.On(d.pool).Sealer(limited, d.Keys)
	var unusable *dbcrypt.UnusableError
	if errors.As(err, &unusable) && d.registerKey(limited, d.pool) == nil {
		_, err = store.On(d.pool).Sealer(limited, d.Keys)
	}
	if err != nil && !errors.As(err, &unusable) {
		d.mindPrivileges(ctx, err)
		return // not known
	}
	d.health.setEncryption(err)
	if !d.told.isNewError("encryption", err) {
		return
	}
	if err != nil {
		d.Logger.ErrorContext(ctx, "the keys that encrypt secrets cannot be used", "error", err)
	} else {
		d.Logger.InfoContext(ctx, "the keys that encrypt secrets can be used again")
	}
}
