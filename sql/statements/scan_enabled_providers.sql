-- The same of the rows of the names given, and of all enabled, live rows.
SELECT
    (SELECT generation FROM provwatch.alert_counter),
    coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0),
    p.id, p.name, p.type::text, p.base_url, p.enabled, p.deleted, p.settings, p.settings_key_id
FROM (SELECT) AS one
LEFT JOIN gateway.ai_providers p ON p.name = ANY($1::text[]) OR p.enabled AND NOT p.deleted
