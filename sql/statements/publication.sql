-- The publication that the WAL source reads, run by internal/schema. It has no list
-- of columns for ai_providers: a column in a list can be neither dropped nor changed
-- in type, which would make the gateway's own upgrade fail. The worker drops what it
-- does not need as it reads. Of the keys nothing but their ids travels.

DROP PUBLICATION IF EXISTS provwatch;
CREATE PUBLICATION provwatch FOR TABLE
    gateway.ai_providers,
    gateway.ai_provider_keys (id);

-- What was changed while a table was not published has passed unseen.
UPDATE provwatch.wal_position SET gap = 'the publication had to be created again' WHERE gap = '';
