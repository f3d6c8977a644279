-- The publication of PostgreSQL 14, which has no column lists: whole rows travel,
-- and the worker drops what it does not need as it reads them.

DROP PUBLICATION IF EXISTS provwatch;
CREATE PUBLICATION provwatch FOR TABLE gateway.ai_providers, gateway.ai_provider_keys;

-- What was changed while a table was not published has passed unseen.
UPDATE provwatch.wal_position SET gap = 'the publication had to be created again' WHERE gap = '';
