-- The same of the rows of the names given, and of all enabled, live rows. Of a row of another name
-- nothing is read that the environment would be compared with: its settings can hold credentials.
SELECT
    (SELECT generation FROM provwatch.alert_counter),
    coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0),
    p.id, p.name, p.type::text, CASE WHEN named.name IS NOT NULL THEN p.base_url END, p.enabled, p.deleted,
    CASE WHEN named.name IS NOT NULL THEN p.settings END, CASE WHEN named.name IS NOT NULL THEN p.settings_key_id END
FROM (SELECT) AS one
LEFT JOIN (
    gateway.ai_providers p LEFT JOIN unnest($1::text[]) AS named (name) ON named.name = p.name
) ON p.enabled AND NOT p.deleted OR named.name IS NOT NULL
