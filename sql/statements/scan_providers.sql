-- Every row of the provider table, the generation of what is recorded about them, and the
-- newest generation of environments, in one moment; at least one row. internal/verify reads it row by row: a
-- join with what is recorded would cost several times as much as the reading.
SELECT
    (SELECT generation FROM provwatch.alert_counter),
    coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0),
    p.id, p.name, p.type::text, p.base_url, p.enabled, p.deleted, p.settings, p.settings_key_id
FROM (SELECT) AS one
LEFT JOIN gateway.ai_providers p ON true
