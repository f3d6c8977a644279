
-- Makes the triggers fire in every session, also where session_replication_role is
-- replica. It takes the owner of the tables, while the triggers themselves take the
-- privilege TRIGGER. Run after triggers.sql, in the same transaction.

ALTER TABLE gateway.ai_providers
    ENABLE ALWAYS TRIGGER provwatch_provider_insert,
    ENABLE ALWAYS TRIGGER provwatch_provider_update,
    ENABLE ALWAYS TRIGGER provwatch_provider_delete,
    ENABLE ALWAYS TRIGGER provwatch_provider_truncate;
ALTER TABLE gateway.ai_provider_keys
    ENABLE ALWAYS TRIGGER provwatch_key_insert,
    ENABLE ALWAYS TRIGGER provwatch_key_update,
    ENABLE ALWAYS TRIGGER provwatch_key_delete,
    ENABLE ALWAYS TRIGGER provwatch_key_truncate;
