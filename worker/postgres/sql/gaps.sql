-- What a dump of this database leaves out by its nature. No parameters.
SELECT 'subscription' AS kind, s.subname AS name
  FROM pg_subscription s
 WHERE s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
UNION ALL
SELECT 'foreign', n.nspname || '.' || c.relname || ' (server ' || f.srvname || ')'
  FROM pg_foreign_table t
  JOIN pg_class c ON c.oid = t.ftrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_foreign_server f ON f.oid = t.ftserver
 ORDER BY 1, 2
