-- The relations that a pattern of pg_dump --exclude-table means.
-- name, schema: regular expressions; without a schema only what the search_path shows.
SELECT c.oid
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p')
   AND c.relname OPERATOR(pg_catalog.~) %(name)s::text COLLATE pg_catalog.default
   AND CASE WHEN %(schema)s::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)
            ELSE n.nspname OPERATOR(pg_catalog.~) %(schema)s::text COLLATE pg_catalog.default END
