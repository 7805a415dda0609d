-- Who holds, or waits for, a lock that keeps readers out of these tables; holders first. oids: the tables.
-- pid is null for a prepared transaction.
SELECT n.nspname || '.' || c.relname AS table_name,
       l.pid,
       coalesce(a.application_name, '') AS application,
       coalesce(a.usename, '') AS role,
       coalesce(a.xact_start, a.query_start) AS since
  FROM pg_locks l
  JOIN pg_class c ON c.oid = l.relation
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'relation'
   AND l.mode = 'AccessExclusiveLock'
   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
   AND l.relation = ANY (%(oids)s::oid[])
   AND l.pid IS DISTINCT FROM pg_backend_pid()
 ORDER BY l.granted DESC, since
 LIMIT 1
