-- Every row of the provider table, and the generation of what is recorded about
-- them, in one moment; at least one row. internal/verify reads it row by row: a
-- join with what is recorded would cost several times as much as the reading.
SELECT
    (SELECT generation FROM provwatch.alert_counter),
    p.id, p.name, p.type::text, p.base_url, p.enabled, p.deleted, p.settings, p.settings_key_id
FROM (SELECT) AS one
LEFT JOIN gateway.ai_providers p ON true
