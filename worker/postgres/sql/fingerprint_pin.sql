-- Sets each setting of %(names)s to the value at the same place of %(values)s, for the session. One that this major
-- does not have is passed over.
SELECT s.name, set_config(s.name, s.value, false)
FROM unnest(%(names)s::text[], %(values)s::text[]) s (name, value)
JOIN pg_catalog.pg_settings p ON p.name = s.name
