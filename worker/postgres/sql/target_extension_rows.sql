-- Tables of extensions that hold rows of their users, and the condition that tells these from the extension's own
-- (pg_extension_config_dump). No parameters.
SELECT n.nspname::text AS schema, c.relname::text AS name, coalesce(x.condition, '') AS condition
  FROM pg_catalog.pg_extension e
 CROSS JOIN LATERAL unnest(e.extconfig, e.extcondition) AS x (relation, condition)
  JOIN pg_catalog.pg_class c ON c.oid = x.relation AND c.relkind IN ('r', 'p')
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 1, 2
