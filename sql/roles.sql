-- Roles with exactly the privileges that provwatch needs, see docs/privileges.md.
-- Run it after "worker migrate", with psql or any other client, as a superuser or
-- as the owner of the provider tables and of the schema provwatch. It can be run
-- again, and must be after an upgrade: it takes back what these roles had on the
-- tables before it grants what they need. "worker roles" prints it:
--
--     worker roles | psql -v ON_ERROR_STOP=1 "$DATABASE_URL"
--
-- The roles are the server's, the grants this database's. Nobody can log in as
-- one of them; make a role that can a member:
--
--     CREATE ROLE worker LOGIN PASSWORD '…' IN ROLE provwatch_wal;
--     ALTER ROLE worker REPLICATION; -- for the WAL: an attribute, which members do not inherit

BEGIN;

-- Everything below needs the tables of provwatch. One error says so, in place of
-- one for each of them.
DO $$
DECLARE
    latest CONSTANT pg_catalog.int8 := 6; -- of sql/migrations
    applied pg_catalog.int8;
BEGIN
    IF pg_catalog.to_regclass('provwatch.schema_migrations') IS NOT NULL THEN
        SELECT pg_catalog.max(version_id) INTO applied FROM provwatch.schema_migrations WHERE is_applied;
    END IF;
    IF applied IS NULL OR applied OPERATOR(pg_catalog.<) latest THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = pg_catalog.format('the database %I has %s: run "worker migrate" first, with the DATABASE_URL of the owner of its tables',
                pg_catalog.current_database(),
                CASE WHEN applied IS NULL THEN 'no tables of provwatch' ELSE 'tables of an older provwatch' END);
    END IF;
END
$$;

-- Creating them needs CREATEROLE, the first time.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['provwatch_notify', 'provwatch_wal', 'provwatch_operator', 'provwatch_reader', 'provwatch_sinks'] LOOP
        IF to_regrole(name) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- for another database, at the same moment
            END;
        END IF;
    END LOOP;
END
$$;

REVOKE ALL ON ai_providers, ai_provider_keys FROM provwatch_notify, provwatch_wal, provwatch_operator, provwatch_reader, provwatch_sinks;
REVOKE ALL ON ALL TABLES IN SCHEMA provwatch FROM provwatch_notify, provwatch_wal, provwatch_operator, provwatch_reader, provwatch_sinks;

-- To find the tables. The provider tables are those of the search_path.
GRANT USAGE ON SCHEMA provwatch TO provwatch_notify, provwatch_wal, provwatch_operator, provwatch_reader, provwatch_sinks;
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO provwatch_notify, provwatch_wal, provwatch_operator, provwatch_reader',
        (SELECT relnamespace::regnamespace FROM pg_catalog.pg_class WHERE oid = 'ai_providers'::regclass));
END
$$;

-- To tell whether the schema is up to date.
GRANT SELECT (version_id, is_applied) ON provwatch.schema_migrations TO provwatch_notify, provwatch_wal, provwatch_operator;

-- To compare the providers with the environment, and to seed those that are missing.
GRANT SELECT (id, type, name, enabled, deleted, base_url, settings, settings_key_id, updated_at), INSERT (id, type, name, base_url, settings, settings_key_id)
    ON ai_providers TO provwatch_notify, provwatch_wal, provwatch_operator;
GRANT SELECT (id, provider_id, api_key, api_key_key_id), INSERT (id, provider_id, api_key, api_key_key_id)
    ON ai_provider_keys TO provwatch_notify, provwatch_wal, provwatch_operator;

-- To stage audit entries and to deliver them. The log itself is not changed, and read for the status page alone.
GRANT SELECT, INSERT, DELETE ON provwatch.audit_outbox TO provwatch_notify, provwatch_wal, provwatch_operator;
GRANT SELECT (id), INSERT ON provwatch.audit_log TO provwatch_notify, provwatch_wal, provwatch_operator;

-- To publish alerts, each once. Those published are not changed, and read for the status page alone.
GRANT INSERT ON provwatch.drift_alerts TO provwatch_notify, provwatch_wal;
GRANT SELECT (last_seq, generation), UPDATE (last_seq, generation, verified_at) ON provwatch.alert_counter TO provwatch_notify, provwatch_wal;
GRANT SELECT, INSERT, UPDATE, DELETE ON provwatch.drift_state TO provwatch_notify, provwatch_wal;
-- A drift that was accepted is withdrawn when it no longer is what it was.
GRANT SELECT, DELETE ON provwatch.accepted_drift TO provwatch_notify, provwatch_wal;

-- To read the WAL; and by notifications, to forget how far it was read.
GRANT SELECT, INSERT, UPDATE, DELETE ON provwatch.wal_position, provwatch.wal_mirror TO provwatch_wal;
GRANT DELETE ON provwatch.wal_position TO provwatch_notify;

-- To resolve a drift: write the environment's side to the provider tables, or accept the database's; and to
-- encrypt stored secrets anew.
GRANT UPDATE (type, enabled, deleted, base_url, settings, settings_key_id, updated_at) ON ai_providers TO provwatch_operator;
GRANT UPDATE (api_key, api_key_key_id), DELETE ON ai_provider_keys TO provwatch_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON provwatch.accepted_drift TO provwatch_operator;

-- To see what sinks did not get, and to have it tried again.
GRANT SELECT ON provwatch.sink_cursors, provwatch.sink_dead_letters TO provwatch_operator;
GRANT UPDATE (retry) ON provwatch.sink_dead_letters TO provwatch_operator;
GRANT SELECT (seq) ON provwatch.drift_alerts, provwatch.audit_log TO provwatch_operator;

-- For a worker that has sinks, in addition: to read what they are to get, and to keep how far they got.
GRANT SELECT ON provwatch.drift_alerts, provwatch.audit_log TO provwatch_sinks;
GRANT SELECT (provider, kind) ON provwatch.drift_state TO provwatch_sinks;
GRANT SELECT, INSERT, UPDATE (seq, moved_at) ON provwatch.sink_cursors TO provwatch_sinks;
GRANT SELECT, INSERT, UPDATE (retry, attempts, reason, at), DELETE ON provwatch.sink_dead_letters TO provwatch_sinks;
GRANT SELECT, DELETE ON provwatch.sink_gaps TO provwatch_sinks;

-- To follow the alerts.
GRANT SELECT ON provwatch.drift_alerts TO provwatch_reader;

-- To report, with "worker status" and on the status page. A reader gets at no base URL and no settings, which can
-- hold credentials: it sees what was recorded.
GRANT SELECT ON provwatch.drift_alerts TO provwatch_notify, provwatch_wal;
GRANT SELECT (seq, occurred_at, actor, action, provider, details) ON provwatch.audit_log TO provwatch_notify, provwatch_wal, provwatch_reader;
GRANT SELECT (verified_at) ON provwatch.alert_counter TO provwatch_notify, provwatch_wal, provwatch_reader;
GRANT SELECT ON provwatch.drift_state, provwatch.accepted_drift, provwatch.audit_outbox TO provwatch_reader;
GRANT SELECT (id, type, name, enabled, deleted) ON ai_providers TO provwatch_reader;
GRANT SELECT ON provwatch.sink_cursors, provwatch.sink_dead_letters TO provwatch_notify, provwatch_wal, provwatch_reader;

COMMIT;
