-- What a restore must know of the server it writes to, in one row. No parameters.
-- to_jsonb: the settings for roles may be hidden from us; then they are null.
SELECT pg_catalog.current_setting('server_version_num')::int AS version_num,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       r.rolsuper AS superuser,
       r.rolsuper OR r.rolcreatedb AS may_create_databases,
       r.rolsuper OR r.rolcreaterole AS may_create_roles,
       ARRAY(SELECT d.datname::text FROM pg_catalog.pg_database d) AS databases,
       ARRAY(SELECT e.name::text FROM pg_catalog.pg_available_extensions e) AS extensions,
       ARRAY(SELECT o.rolname::text FROM pg_catalog.pg_roles o) AS roles,
       ARRAY(SELECT t.spcname::text FROM pg_catalog.pg_tablespace t) AS tablespaces,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')) AS shared_buffers,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       pg_catalog.current_setting('max_connections')::int
         - (SELECT count(*)::int FROM pg_catalog.pg_stat_activity a WHERE a.backend_type = 'client backend')
         AS free_connections,
       (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'data_directory') AS data_directory
  FROM pg_catalog.pg_roles r
 WHERE r.rolname = current_user
