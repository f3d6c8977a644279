-- When the acceptance of a drift ends, if the operator gave it an end.

-- +goose Up
ALTER TABLE provwatch.accepted_drift ADD COLUMN expires_at timestamptz CHECK (isfinite(expires_at));
