-- The schemas that a pattern means. name: its regular expression.
SELECT n.oid
  FROM pg_catalog.pg_namespace n
 WHERE n.nspname OPERATOR(pg_catalog.~) %(name)s::text COLLATE pg_catalog.default
