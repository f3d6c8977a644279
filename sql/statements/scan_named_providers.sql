-- The same of the rows of the names given.
SELECT
    (SELECT generation FROM provwatch.alert_counter),
    p.id, p.name, p.type::text, p.base_url, p.enabled, p.deleted, p.settings, p.settings_key_id
FROM (SELECT) AS one
LEFT JOIN gateway.ai_providers p ON p.name = ANY($1::text[])
