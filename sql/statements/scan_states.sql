-- Every provider that is recorded as in sync because it is, and not because its
-- drift was accepted, and whose row could be compared, with the hash that both sides
-- had; and the generation. At least one row, and in one moment.
-- The condition is that of drift.Judgement.IsSettled: a scan leaves these rows out where
-- both sides still have the hash.
SELECT c.generation, s.provider, s.provider_id, s.env_hash
FROM provwatch.alert_counter c
LEFT JOIN (
    SELECT provider, provider_id, env_hash
    FROM provwatch.drift_state
    WHERE kind = 'in_sync' AND env_hash = db_hash AND credentials = ''
        AND NOT EXISTS (SELECT FROM provwatch.accepted_drift a WHERE a.provider = drift_state.provider)
        AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = drift_state.provider)
) AS s ON true
