-- Sets each setting of %(settings)s (a JSON object, name → value) for the session. One that this major does not have
-- is passed over. Qualified throughout: it runs under the search_path of the role or database.
SELECT s.key, pg_catalog.set_config(s.key, s.value, false)
FROM pg_catalog.jsonb_each_text(%(settings)s::pg_catalog.jsonb) s
JOIN pg_catalog.pg_settings p ON p.name OPERATOR(pg_catalog.=) s.key
