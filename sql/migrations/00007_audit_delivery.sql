-- Audit entries get their seq when they are delivered, from a counter that only
-- the roles that deliver may change (docs/architecture.md).

-- +goose Up

-- A database that ran an earlier form of migration 5 has a function that runs as
-- its owner, and anyone could hang it on a table of their own. CASCADE drops its
-- triggers, on whatever table they are.
DROP FUNCTION IF EXISTS provwatch.note_pruned() CASCADE;
DROP TABLE IF EXISTS provwatch.sink_gaps;
-- The same for an earlier form of migration 2, which left this to PUBLIC.
REVOKE EXECUTE ON FUNCTION provwatch.notify_change() FROM PUBLIC;

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
ALTER TABLE provwatch.audit_outbox ADD CONSTRAINT audit_outbox_deliverable CHECK (
    occurred_at >= '0001-01-01 00:00:00+00' AND occurred_at < '10000-01-01 00:00:00+00'
    AND octet_length(actor) BETWEEN 1 AND 1000 AND octet_length(action) BETWEEN 1 AND 1000 AND octet_length(provider) BETWEEN 1 AND 1000
    AND jsonb_typeof(details) = 'object' AND octet_length(details::text) <= 262144
);
ALTER TABLE provwatch.audit_log ADD CONSTRAINT audit_log_deliverable CHECK (
    occurred_at >= '0001-01-01 00:00:00+00' AND occurred_at < '10000-01-01 00:00:00+00'
    AND octet_length(actor) BETWEEN 1 AND 1000 AND octet_length(action) BETWEEN 1 AND 1000 AND octet_length(provider) BETWEEN 1 AND 1000
    AND jsonb_typeof(details) = 'object' AND octet_length(details::text) <= 262144
);
