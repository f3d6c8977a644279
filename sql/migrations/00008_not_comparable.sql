-- Rows that cannot be compared, the key of digests, and the gateway's keys where an
-- earlier version has made the provider tables.

-- +goose Up

-- Providers of which the row could not be compared when it was last looked at, with
-- the reason. What drift_state has of them stands meanwhile.
CREATE TABLE provwatch.not_comparable (
    provider    text PRIMARY KEY,
    reason      text NOT NULL,
    observed_at timestamptz NOT NULL DEFAULT now()
);

-- The canonical hash of a base URL with a password in it gives the password away to
-- whoever tries many. Of such a URL a digest is stored and published that has this
-- key, which readers and sinks do not see.
CREATE TABLE provwatch.hash_key (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- From the server's strong random numbers; 244 of the 256 bits are random.
    key       bytea NOT NULL DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
        CHECK (octet_length(key) >= 32)
);
INSERT INTO provwatch.hash_key DEFAULT VALUES;

-- It has canonical hashes in place of digests: it is read again, with a new slot.
DELETE FROM provwatch.wal_mirror;
UPDATE provwatch.wal_position SET gap = 'base URLs with credentials get keyed digests' WHERE gap = '';
ALTER TABLE provwatch.wal_mirror RENAME COLUMN undecodable TO not_comparable;

-- As migration 1 makes it now. Rows that a keyset of an earlier version has encrypted
-- have no key there, and stay as they are until they are decrypted.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM provwatch.schema_migrations WHERE version_id = 1 AND is_applied)
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'gateway' AND c.relname = 'dbcrypt_keys') THEN
        CREATE TABLE gateway.dbcrypt_keys (
            number             integer PRIMARY KEY,
            active_key_digest  text UNIQUE,
            revoked_key_digest text UNIQUE,
            created_at         timestamptz DEFAULT now(),
            revoked_at         timestamptz,
            test               text NOT NULL
        );
        ALTER TABLE gateway.ai_providers ADD FOREIGN KEY (settings_key_id) REFERENCES gateway.dbcrypt_keys (active_key_digest) NOT VALID;
        ALTER TABLE gateway.ai_provider_keys ADD FOREIGN KEY (api_key_key_id) REFERENCES gateway.dbcrypt_keys (active_key_digest) NOT VALID;
    END IF;
END
$$;
-- +goose StatementEnd
