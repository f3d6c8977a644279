-- The epochs that came before the current one. A worker that has seen an epoch which is
-- neither knows that the database is from before it.

-- +goose Up
ALTER TABLE provwatch.alert_counter ADD COLUMN former_epochs uuid[] NOT NULL DEFAULT '{}';
