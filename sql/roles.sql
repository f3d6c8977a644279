-- Roles with exactly the privileges that provwatch needs, see docs/privileges.md.
-- Run it after "worker migrate", with psql or any other client, as a superuser or
-- as the owner of the provider tables and of the schema provwatch. It can be run
-- again, and must be after an upgrade: it takes back what these roles had on the
-- tables before it grants what they need. "worker roles" prints it:
--
--     worker roles | psql "$DATABASE_URL"
--
-- The roles are the server's, the grants this database's: a member has them in every
-- database of the server in which this was run, so that CONNECT is what keeps the
-- worker of one database out of another. None of them can log in; make a role that
-- can a member:
--
--     CREATE ROLE worker LOGIN PASSWORD '…' IN ROLE provwatch_wal;
--     ALTER ROLE worker REPLICATION; -- for the WAL: an attribute, which members do not inherit

BEGIN;

-- Whatever the client's search path is, no name below is resolved through a schema
-- that others may write to. Of that path only the schema with the provider tables
-- is needed. A session of the worker has kept it already.
DO $$
BEGIN
    IF pg_catalog.length(pg_catalog.current_setting('provwatch.search_path', true)) OPERATOR(pg_catalog.>) 0 THEN
        RETURN;
    END IF;
    PERFORM pg_catalog.set_config('provwatch.search_path', pg_catalog.current_setting('search_path'), true);
END
$$;
SET LOCAL search_path = pg_catalog, pg_temp;

-- Everything below needs the tables of provwatch. One error says so, instead of
-- one for each of them. Only the catalog is read: a view that another role planted
-- under the name of a table would run code with the rights of the role that runs
-- this.
DO $$
DECLARE
    latest CONSTANT text := 'not_loaded'; -- a table, a function or a column of the last of sql/migrations
    made text[] := ARRAY(
        SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'provwatch' AND c.relkind = 'r'
        UNION ALL
        SELECT c.relname || '.' || a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'provwatch' AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT p.proname::text FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'provwatch');
BEGIN
    IF NOT latest = ANY (made) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the database %I has %s: run "worker migrate" first, with the DATABASE_URL of the owner of its tables',
                current_database(),
                CASE WHEN 'schema_migrations' = ANY (made) THEN 'tables of an older provwatch' ELSE 'no tables of provwatch' END);
    END IF;
END
$$;

-- Creating them needs CREATEROLE, the first time.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['provwatch_notify', 'provwatch_wal', 'provwatch_observer', 'provwatch_operator', 'provwatch_reader', 'provwatch_sinks', 'provwatch_pruner', 'provwatch_applier'] LOOP
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

-- PUBLIC has what the owner's default privileges give it.
REVOKE ALL ON SCHEMA provwatch FROM PUBLIC, provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_sinks, provwatch_pruner, provwatch_applier;
REVOKE ALL ON ALL TABLES IN SCHEMA provwatch FROM PUBLIC, provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_sinks, provwatch_pruner, provwatch_applier;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA provwatch FROM PUBLIC, provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_sinks, provwatch_pruner, provwatch_applier;
REVOKE ALL ON ALL ROUTINES IN SCHEMA provwatch FROM PUBLIC, provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_sinks, provwatch_pruner, provwatch_applier;

-- To find the tables.
GRANT USAGE ON SCHEMA provwatch TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_sinks, provwatch_pruner, provwatch_applier;

-- The provider tables: %1$I is their schema, found as sql/statements/locate_tables.sql does.
DO $$
DECLARE
    homes text[];
    statement text;
BEGIN
    SELECT array_agg(found.nspname ORDER BY found.position) INTO homes FROM (
        SELECT n.nspname::text, min(path.position) AS position
        FROM (
            SELECT
                CASE WHEN entry.match[1] LIKE '"%' THEN replace(substr(entry.match[1], 2, length(entry.match[1]) - 2), '""', '"')
                    ELSE lower(entry.match[1] COLLATE "C") END::name AS name,
                entry.position
            FROM regexp_matches(current_setting('provwatch.search_path'), '"(?:[^"]|"")*"|[^",[:space:]]+', 'g')
                WITH ORDINALITY AS entry (match, position)
        ) AS path
        JOIN pg_catalog.pg_namespace n ON n.nspname = CASE path.name WHEN '$user' THEN current_user ELSE path.name END
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'ai_providers' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        WHERE left(n.nspname::text, 3) <> 'pg_' AND n.nspname NOT IN ('information_schema', 'provwatch')
        GROUP BY n.nspname
    ) AS found;
    IF homes IS NULL THEN
        RAISE EXCEPTION 'the table ai_providers is in no schema of the search_path'
            USING HINT = 'Set the search_path to the schema of the provider tables, and run "worker migrate" first.';
    END IF;
    IF cardinality(homes) > 1 THEN
        RAISE EXCEPTION 'the table ai_providers is in several schemas of the search_path (%)', array_to_string(homes, ', ')
            USING HINT = 'Set the search_path to the one of the gateway.';
    END IF;
    FOREACH statement IN ARRAY ARRAY[
        'REVOKE ALL ON %1$I.ai_providers, %1$I.ai_provider_keys FROM provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_sinks, provwatch_pruner, provwatch_applier',

        -- To find the tables.
        'GRANT USAGE ON SCHEMA %1$I TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_applier',

        -- To compare the providers with the environment.
        'GRANT SELECT (id, type, name, enabled, deleted, base_url, settings, settings_key_id, updated_at)
            ON %1$I.ai_providers TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator',
        'GRANT SELECT (id, provider_id, api_key, api_key_key_id)
            ON %1$I.ai_provider_keys TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator',

        -- To seed the missing ones.
        'GRANT INSERT (id, type, name, base_url, settings, settings_key_id) ON %1$I.ai_providers TO provwatch_notify, provwatch_wal, provwatch_operator',
        'GRANT INSERT (id, provider_id, api_key, api_key_key_id) ON %1$I.ai_provider_keys TO provwatch_notify, provwatch_wal, provwatch_operator',

        -- To write what the environment has changed, with --on-boot-drift=apply or --on-reload-drift=apply.
        'GRANT SELECT (id, name), UPDATE (type, base_url, settings, settings_key_id, updated_at) ON %1$I.ai_providers TO provwatch_applier',

        -- To resolve a drift by writing the environment's side to the tables.
        'GRANT UPDATE (type, enabled, deleted, base_url, settings, settings_key_id, updated_at) ON %1$I.ai_providers TO provwatch_operator',
        'GRANT DELETE ON %1$I.ai_provider_keys TO provwatch_operator',

        -- To report. A reader gets at no base URL and no settings, which can hold credentials.
        'GRANT SELECT (id, type, name, enabled, deleted) ON %1$I.ai_providers TO provwatch_reader'
    ] LOOP
        EXECUTE format(statement, homes[1]);
    END LOOP;

    -- To encrypt what is stored with a key that the gateway has as well, where it encrypts
    -- secrets. The table holds digests of keys, and no key.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = homes[1] AND c.relname = 'dbcrypt_keys' AND c.relkind = 'r'
    ) THEN
        EXECUTE format('REVOKE ALL ON %1$I.dbcrypt_keys FROM provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_sinks, provwatch_pruner, provwatch_applier', homes[1]);
        EXECUTE format('GRANT SELECT ON %1$I.dbcrypt_keys TO provwatch_notify, provwatch_wal, provwatch_operator', homes[1]);
    END IF;
END
$$;

REVOKE ALL ON ALL TABLES IN SCHEMA provwatch FROM provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_sinks, provwatch_pruner, provwatch_applier;

-- To find the tables.
GRANT USAGE ON SCHEMA provwatch TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader, provwatch_sinks, provwatch_pruner, provwatch_applier;

-- To tell whether the schema is up to date.
GRANT SELECT (version_id, is_applied) ON provwatch.schema_migrations TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator;

-- To make the digests that stand for base URLs with credentials. Readers and sinks
-- see digests, and who has the key can try passwords on them.
GRANT SELECT (key) ON provwatch.hash_key TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator;

-- To stage audit entries, and to read or delete none: seq is the table's own.
GRANT INSERT (id, occurred_at, actor, action, provider, provider_id, details)
    ON provwatch.audit_outbox TO provwatch_notify, provwatch_wal, provwatch_operator;
-- To deliver them. What is in the log is not changed, and read for the status page alone.
GRANT SELECT, DELETE ON provwatch.audit_outbox TO provwatch_notify, provwatch_wal, provwatch_observer;
GRANT SELECT (id), INSERT ON provwatch.audit_log TO provwatch_notify, provwatch_wal, provwatch_observer;
GRANT SELECT (last_seq), UPDATE (last_seq) ON provwatch.audit_counter TO provwatch_notify, provwatch_wal, provwatch_observer;

-- To lead, or to stand by for it.
GRANT EXECUTE ON FUNCTION provwatch.stand_by(integer) TO provwatch_notify, provwatch_wal, provwatch_observer;

-- To publish alerts, each once. Those published are not changed, and read for the status page alone.
GRANT INSERT ON provwatch.drift_alerts TO provwatch_notify, provwatch_wal, provwatch_observer;
GRANT SELECT (last_seq, generation, term, epoch, writer, xmin, system_identifier, timeline, table_oid, former_epochs),
    UPDATE (last_seq, generation, term, verified_at, epoch, writer, system_identifier, timeline, table_oid, former_epochs)
    ON provwatch.alert_counter TO provwatch_notify, provwatch_wal, provwatch_observer;
-- To set back cursors that are ahead of the alerts after a restore.
GRANT UPDATE (seq, moved_at) ON provwatch.sink_cursors TO provwatch_notify, provwatch_wal, provwatch_observer;
GRANT SELECT, INSERT, UPDATE, DELETE ON provwatch.drift_state, provwatch.not_comparable, provwatch.pending_drifts TO provwatch_notify, provwatch_wal, provwatch_observer;
-- A drift that was accepted is withdrawn when it no longer is what it was.
GRANT SELECT, DELETE ON provwatch.accepted_drift TO provwatch_notify, provwatch_wal, provwatch_observer;

-- To silence alerts that a silence matches.
GRANT SELECT ON provwatch.silences TO provwatch_notify, provwatch_wal, provwatch_observer;

-- What is recorded of rows that the environment does not name. An acceptance is
-- withdrawn when the row changes.
GRANT SELECT, INSERT, UPDATE, DELETE ON provwatch.unmanaged_rows, provwatch.pending_rows TO provwatch_notify, provwatch_wal, provwatch_observer;
GRANT SELECT, INSERT ON provwatch.unmanaged_baseline TO provwatch_notify, provwatch_wal, provwatch_observer;
GRANT SELECT, DELETE ON provwatch.accepted_rows TO provwatch_notify, provwatch_wal, provwatch_observer;
GRANT SELECT ON provwatch.unmanaged_rows TO provwatch_operator, provwatch_reader;
GRANT SELECT ON provwatch.accepted_rows, provwatch.pending_rows TO provwatch_reader;

-- What both sides of a provider last agreed on.
GRANT SELECT, INSERT, UPDATE ON provwatch.base_pairs TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator;
GRANT SELECT ON provwatch.base_pairs TO provwatch_reader;

-- To know whether another worker has a newer environment, and to be known.
GRANT SELECT ON provwatch.environments, provwatch.workers TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_operator, provwatch_reader;
GRANT INSERT (digest), UPDATE (generation, recorded_at) ON provwatch.environments TO provwatch_notify, provwatch_wal, provwatch_operator;
GRANT INSERT (worker, digest), UPDATE (digest, seen_at) ON provwatch.workers TO provwatch_notify, provwatch_wal, provwatch_operator;
GRANT DELETE ON provwatch.workers TO provwatch_notify, provwatch_wal;

-- To record which files of the environment are not loaded as they are on disk.
GRANT SELECT, INSERT (worker, paths), UPDATE (paths, seen_at), DELETE ON provwatch.not_loaded TO provwatch_notify, provwatch_wal, provwatch_observer;
GRANT SELECT ON provwatch.not_loaded TO provwatch_reader;

-- To read the WAL; and by notifications, to forget how far it was read.
GRANT SELECT, INSERT, UPDATE, DELETE ON provwatch.wal_position, provwatch.wal_mirror TO provwatch_wal, provwatch_observer;
GRANT DELETE ON provwatch.wal_position TO provwatch_notify;

-- To resolve a drift by accepting the database's side.
GRANT SELECT, INSERT, UPDATE, DELETE ON provwatch.accepted_drift TO provwatch_operator;
GRANT SELECT, INSERT, UPDATE ON provwatch.accepted_rows TO provwatch_operator;

-- To silence the alerts of providers, and to end a silence.
GRANT SELECT, INSERT (provider, author, reason, begins_at, ends_at), UPDATE (ends_at, ended_by) ON provwatch.silences TO provwatch_operator;

-- To see what sinks did not get, and to have it tried again.
GRANT SELECT ON provwatch.sink_cursors, provwatch.sink_dead_letters TO provwatch_operator;
GRANT UPDATE (retry) ON provwatch.sink_dead_letters TO provwatch_operator;
GRANT SELECT (last_seq) ON provwatch.alert_counter, provwatch.audit_counter TO provwatch_operator;
-- To report whether a worker leads, which delivers what is staged.
GRANT SELECT (term) ON provwatch.alert_counter TO provwatch_operator;

-- To know what was pruned, and is not lost.
GRANT SELECT ON provwatch.pruned TO provwatch_sinks, provwatch_reader;

-- For a worker that has sinks, in addition: to read what they are to get, and to keep how far they got.
GRANT SELECT ON provwatch.drift_alerts, provwatch.audit_log TO provwatch_sinks;
GRANT SELECT (last_seq) ON provwatch.alert_counter, provwatch.audit_counter TO provwatch_sinks;
GRANT SELECT (provider, kind) ON provwatch.drift_state TO provwatch_sinks;
GRANT SELECT (provider_id, kind) ON provwatch.unmanaged_rows TO provwatch_sinks;
GRANT SELECT, INSERT, UPDATE (seq, moved_at) ON provwatch.sink_cursors TO provwatch_sinks;
GRANT SELECT, INSERT, UPDATE (retry, attempts, reason, at), DELETE ON provwatch.sink_dead_letters TO provwatch_sinks;

-- For a worker that prunes, with --keep, and for "worker prune", in addition: to delete alerts,
-- audit entries and acceptances that are older than what is kept. No other role can delete
-- alerts or audit entries, an operator's neither.
GRANT SELECT (version_id, is_applied) ON provwatch.schema_migrations TO provwatch_pruner;
GRANT SELECT (id, seq, delivered_at), DELETE ON provwatch.audit_log TO provwatch_pruner;
GRANT SELECT, DELETE ON provwatch.drift_alerts TO provwatch_pruner;
GRANT SELECT, UPDATE (lapsed_at), DELETE ON provwatch.accepted_drift TO provwatch_pruner;
GRANT SELECT (id, ends_at), DELETE ON provwatch.silences TO provwatch_pruner;
GRANT SELECT ON provwatch.drift_state, provwatch.sink_cursors, provwatch.sink_dead_letters TO provwatch_pruner;
GRANT SELECT (last_seq) ON provwatch.audit_counter TO provwatch_pruner;
GRANT SELECT, INSERT, UPDATE (seq, pruned_at) ON provwatch.pruned TO provwatch_pruner;

-- For a worker that writes what the environment has changed, in addition: to renew the
-- acceptance of what differs still.
GRANT SELECT (provider), UPDATE (env_hash, db_hash, lapsed_at) ON provwatch.accepted_drift TO provwatch_applier;

-- To follow the alerts.
GRANT SELECT ON provwatch.drift_alerts TO provwatch_reader;
GRANT SELECT (epoch) ON provwatch.alert_counter TO provwatch_reader;

-- To report, with "worker status" and on the status page.
GRANT SELECT ON provwatch.drift_alerts TO provwatch_notify, provwatch_wal, provwatch_observer;
GRANT SELECT (seq, occurred_at, actor, action, provider, details) ON provwatch.audit_log TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_reader;
GRANT SELECT (verified_at, term) ON provwatch.alert_counter TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_reader;
GRANT SELECT (last_seq) ON provwatch.alert_counter, provwatch.audit_counter TO provwatch_reader;
GRANT SELECT ON provwatch.drift_state, provwatch.not_comparable, provwatch.accepted_drift, provwatch.silences, provwatch.pending_drifts, provwatch.audit_outbox TO provwatch_reader;
GRANT SELECT ON provwatch.sink_cursors, provwatch.sink_dead_letters TO provwatch_notify, provwatch_wal, provwatch_observer, provwatch_reader;

COMMIT;
