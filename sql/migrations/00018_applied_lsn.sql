-- What the WAL shows of a row from before an apply is no drift from the environment that was
-- applied.

-- +goose Up

-- Where the WAL was when an apply last wrote to the provider's row, null for never. An epoch
-- that begins forgets it: positions of another server are not to be compared with it.
ALTER TABLE provwatch.base_pairs ADD COLUMN applied_lsn pg_lsn;
