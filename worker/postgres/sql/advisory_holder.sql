-- Who holds a session advisory lock. high, low: the halves of its 64-bit key.
SELECT l.pid,
       coalesce(a.application_name, '') AS application,
       coalesce(a.usename, '') AS role,
       a.backend_start AS since
  FROM pg_locks l
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory'
   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
   AND l.classid::bigint = %(high)s
   AND l.objid::bigint = %(low)s
   AND l.objsubid = 1
   AND l.granted
