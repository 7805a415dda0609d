-- Sessions in database `name`, and whether we may end each: superusers' need a superuser, others membership
-- in their role or pg_signal_backend. Without autovacuum, which has no role: a rename or drop ends that by itself, and
-- only a superuser may.
SELECT a.pid,
       coalesce(a.usename::text, '') AS role,
       coalesce(nullif(a.application_name, ''), a.backend_type, '') AS application,
       me.rolsuper
         OR (NOT coalesce(r.rolsuper, false)
             AND (pg_catalog.pg_has_role(current_user, a.usesysid, 'USAGE')
                  OR pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'USAGE'))) AS ours_to_end
  FROM pg_catalog.pg_stat_activity a
  JOIN pg_catalog.pg_roles me ON me.rolname = current_user
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
 WHERE a.datname = %(name)s
   AND a.usesysid IS NOT NULL
   AND a.pid <> pg_catalog.pg_backend_pid()
 ORDER BY a.backend_start
