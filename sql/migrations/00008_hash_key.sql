-- The canonical hash of a base URL with a password in it gives the password away to
-- whoever tries many. Of such a URL a digest is stored and published that has this
-- key, which readers and sinks do not see.

-- +goose Up
CREATE TABLE provwatch.hash_key (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- From the server's strong random numbers; 244 of the 256 bits are random.
    key       bytea NOT NULL DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
        CHECK (octet_length(key) >= 32)
);
INSERT INTO provwatch.hash_key DEFAULT VALUES;

-- Written before by the canonical hash: what is recorded of them is compared anew.
DELETE FROM provwatch.wal_mirror;
UPDATE provwatch.wal_position SET gap = 'base URLs with credentials get keyed digests' WHERE gap = '';
