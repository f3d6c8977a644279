-- The publication of PostgreSQL 14, which has no column lists: whole rows travel,
-- and the worker drops what it does not need as it reads them.

DROP PUBLICATION IF EXISTS provwatch;
CREATE PUBLICATION provwatch FOR TABLE gateway.ai_providers, gateway.ai_provider_keys;
