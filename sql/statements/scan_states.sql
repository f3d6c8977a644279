-- The generation, and every provider that is recorded as in sync because it is, with the
-- hash that both sides had. Its drift was not accepted, none is pending, its row could be
-- compared, and its base is recorded. At least one row, and in one moment.
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
        AND NOT EXISTS (SELECT FROM provwatch.pending_drifts d WHERE d.provider = drift_state.provider)
        AND EXISTS (SELECT FROM provwatch.base_pairs b WHERE b.provider = drift_state.provider
            AND b.env_hash = drift_state.env_hash AND b.origin = 'agreement' AND b.named)
) AS s ON true
