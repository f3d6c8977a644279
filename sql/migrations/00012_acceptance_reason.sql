-- Why an operator accepted a drift, in the operator's words.

-- +goose Up
ALTER TABLE provwatch.accepted_drift ADD COLUMN reason text NOT NULL DEFAULT '' CHECK (char_length(reason) <= 500);
