-- No function runs as its owner. Audit entries get their seq when they are
-- delivered, from a counter that only the roles that deliver may change. The
-- mirror holds what the hash of a Bedrock row needs (docs/architecture.md).

-- +goose Up

-- A database that ran an earlier form of migration 5 has a function that runs as
-- its owner, and anyone could hang it on a table of their own. CASCADE drops its
-- triggers, on whatever table they are.
DROP FUNCTION IF EXISTS provwatch.note_pruned() CASCADE;
DROP TABLE IF EXISTS provwatch.sink_gaps;

-- The trigger function sends provider ids as hints on ai_providers_changed; its
-- argument is the column that holds them. The triggers are in sql/statements/triggers.sql.
-- A statement that touches more than 64 providers sends one notification without
-- a hint instead, so that a bulk change costs its writer no more than a small
-- one. It is silent of inserts in a transaction that has set provwatch.seeding
-- (docs/specification.md, section 4). Every name in it is qualified, operators too,
-- since it runs with the rights and the search_path of the writer. A search_path of
-- its own would do as well, and cost each call some 10 µs for setting and resetting
-- it; qualified names cost nothing once they are parsed.
--
-- Whatever goes wrong in it must not fail the writer: it then sends a
-- notification without a hint.

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION provwatch.notify_change() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    hints pg_catalog.text[];
    lookup pg_catalog.text := 'SELECT ARRAY(SELECT %1$I::pg_catalog.text FROM changed';
BEGIN
    -- Anyone can set it, and must not be able to hide a change by it.
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' AND pg_catalog.current_setting('provwatch.seeding', true) OPERATOR(pg_catalog.=) 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'TRUNCATE' THEN
        IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
            lookup := lookup OPERATOR(pg_catalog.||) ' UNION SELECT %1$I::pg_catalog.text FROM former';
        ELSE
            lookup := lookup OPERATOR(pg_catalog.||) ' GROUP BY 1';
        END IF;
        EXECUTE pg_catalog.format(lookup OPERATOR(pg_catalog.||) ' ORDER BY 1 LIMIT 65)', TG_ARGV[0]) INTO hints;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'TRUNCATE' OR pg_catalog.cardinality(hints) OPERATOR(pg_catalog.>) 64 THEN
        PERFORM pg_catalog.pg_notify('ai_providers_changed', '');
    ELSE
        PERFORM pg_catalog.pg_notify('ai_providers_changed', hint) FROM pg_catalog.unnest(hints) AS hint;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    PERFORM pg_catalog.pg_notify('ai_providers_changed', '');
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- Only who creates a trigger needs to execute its function, not who writes to the
-- table.
REVOKE EXECUTE ON FUNCTION provwatch.notify_change() FROM PUBLIC;

-- What the hash of a Bedrock row needs. Settings of "_type" bedrock make a row of
-- type anthropic a Bedrock one. db_hash_anthropic is the hash against a Bedrock
-- provider that the environment calls anthropic. A region too long to be shown is
-- stored cut, and a base_url as long not at all. The mirror is read again, with
-- a new slot.
DELETE FROM provwatch.wal_mirror;
UPDATE provwatch.wal_position SET gap = 'the mirror gets more columns' WHERE gap = '';
ALTER TABLE provwatch.wal_mirror
    ADD COLUMN bedrock_settings   boolean NOT NULL,
    ADD COLUMN db_hash_anthropic  text NOT NULL,
    ADD COLUMN bedrock_region_cut boolean NOT NULL;

-- The seq of the last entry in audit_log. Who delivers locks the row until the
-- end of the transaction: so seq has no gaps and is in commit order.
CREATE TABLE provwatch.audit_counter (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    last_seq  bigint NOT NULL
);

-- Not unique: a row that someone else inserts with a seq that is still to come
-- must not block the delivery. Rows above the counter are no entries yet.
ALTER TABLE provwatch.audit_log DROP CONSTRAINT audit_log_seq_key;
CREATE INDEX audit_log_seq_idx ON provwatch.audit_log (seq, id);
ALTER TABLE provwatch.sink_dead_letters DROP CONSTRAINT sink_dead_letters_pkey, ADD PRIMARY KEY (sink, stream, seq, event_id);

-- Entries that were numbered by the outbox: there are gaps between them, which are
-- no lost entries.
WITH numbered AS (
    SELECT id, seq AS former, row_number() OVER (ORDER BY seq, id) AS seq FROM provwatch.audit_log
), cursors AS (
    UPDATE provwatch.sink_cursors c SET seq = (SELECT count(*) FROM numbered n WHERE n.former <= c.seq)
    WHERE c.stream = 'audit'
), letters AS (
    UPDATE provwatch.sink_dead_letters d SET seq = n.seq FROM numbered n WHERE d.stream = 'audit' AND d.event_id = n.id
)
UPDATE provwatch.audit_log l SET seq = n.seq FROM numbered n WHERE l.id = n.id;

INSERT INTO provwatch.audit_counter (last_seq) SELECT count(*) FROM provwatch.audit_log;

-- What can be staged can be delivered: read by a worker in bounded memory,
-- indexed, and written as JSON. An operator may insert into the outbox directly,
-- and must not be able to hold up what others have staged.
UPDATE provwatch.audit_outbox SET details = '{}' WHERE octet_length(details::text) > 262144 OR jsonb_typeof(details) <> 'object';
ALTER TABLE provwatch.audit_outbox ADD CONSTRAINT audit_outbox_deliverable CHECK (
    occurred_at >= '0001-01-01 00:00:00+00' AND occurred_at < '10000-01-01 00:00:00+00'
    AND octet_length(actor) BETWEEN 1 AND 1000 AND octet_length(action) BETWEEN 1 AND 1000 AND octet_length(provider) BETWEEN 1 AND 1000
    AND jsonb_typeof(details) = 'object' AND octet_length(details::text) <= 262144
);
ALTER TABLE provwatch.audit_log ADD CONSTRAINT audit_log_deliverable CHECK (
    occurred_at >= '0001-01-01 00:00:00+00' AND occurred_at < '10000-01-01 00:00:00+00'
    AND octet_length(actor) BETWEEN 1 AND 1000 AND octet_length(action) BETWEEN 1 AND 1000 AND octet_length(provider) BETWEEN 1 AND 1000
    AND jsonb_typeof(details) = 'object' AND octet_length(details::text) <= 262144
) NOT VALID; -- of entries that were delivered before
