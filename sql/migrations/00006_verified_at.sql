-- When everything was last verified, for whoever is not the leader.

-- +goose Up

-- In the row that the leader writes anyway. Null until the first leader that
-- notes it has verified everything.
ALTER TABLE provwatch.alert_counter ADD COLUMN verified_at timestamptz;
