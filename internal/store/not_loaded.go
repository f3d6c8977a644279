package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// RecordNotLoaded records the files of its environment whose content on disk a worker has not
// loaded, by their paths as these may be shown. Without paths, it deletes the record.
func (q *Queries) RecordNotLoaded(ctx context.Context, worker uuid.UUID, paths []string) error {
	var err error
	if len(paths) == 0 {
		err = q.clearNotLoaded(ctx, worker)
	} else {
		err = q.recordNotLoaded(ctx, recordNotLoadedParams{Worker: worker, Paths: paths})
	}
	if err != nil {
		return fmt.Errorf("write to provwatch.not_loaded: %w", err)
	}
	return nil
}

// ForgetNotLoaded forgets the files of workers that were last seen more than a day ago.
func (q *Queries) ForgetNotLoaded(ctx context.Context) error {
	if err := q.forgetNotLoaded(ctx); err != nil {
		return fmt.Errorf("delete from provwatch.not_loaded: %w", err)
	}
	return nil
}
