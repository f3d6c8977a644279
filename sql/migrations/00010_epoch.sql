-- Gaps and rewinds are rows of drift_alerts, in its sequence, without a provider. How a
-- leader learns that the sequence was rewound, as by a restore.

-- +goose Up

-- The epoch of the sequence of alerts: it begins anew with each row "rewound". writer is
-- the transaction that has last written the row, which PostgreSQL also notes in the row
-- itself (xmin), other than after a dump and restore; "0" while a difference is not dealt
-- with. The others say where the row was written. What is null is not recorded yet.
--
-- A later migration that writes the row, or makes PostgreSQL write the table anew, must
-- set writer to null.
ALTER TABLE provwatch.alert_counter
    ADD COLUMN epoch             uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN writer            xid8,
    ADD COLUMN system_identifier bigint,
    ADD COLUMN timeline          integer,
    ADD COLUMN table_oid         oid;

-- Why, of a gap and of a rewind; and of a rewind, whether the sequence was set back for certain.
ALTER TABLE provwatch.drift_alerts
    ADD COLUMN epoch   uuid,
    ADD COLUMN reason  text NOT NULL DEFAULT '',
    ADD COLUMN certain boolean;
UPDATE provwatch.drift_alerts SET epoch = (SELECT epoch FROM provwatch.alert_counter);
ALTER TABLE provwatch.drift_alerts ALTER COLUMN epoch SET NOT NULL;

-- The server of which applied_lsn is a position.
ALTER TABLE provwatch.wal_position ADD COLUMN system_identifier bigint;
