-- What the connected server and database are, in one row. No parameters.
-- to_jsonb: the columns for the locale's provider came with 15, datlocale with 17.
SELECT pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_setting('server_version_num')::int AS version_num,
       pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate AS collate,
       d.datctype AS ctype,
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') AS locale_provider,
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale') AS locale,
       (SELECT coalesce(pg_catalog.jsonb_object_agg(e.extname, e.extversion), '{}')
          FROM pg_catalog.pg_extension e) AS extensions,
       ARRAY(SELECT t.spcname::text
               FROM pg_catalog.pg_tablespace t
              WHERE t.spcname NOT IN ('pg_default', 'pg_global')
                AND (t.oid = d.dattablespace
                     OR t.oid IN (SELECT c.reltablespace FROM pg_catalog.pg_class c))
              ORDER BY 1) AS tablespaces,
       -- no row where we may not see it: pg_monitor may
       pg_catalog.string_to_array(pg_catalog.replace(coalesce(
         (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'shared_preload_libraries'), ''),
         ' ', ''), ',') AS preload,
       pg_catalog.pg_database_size(d.oid) AS size_bytes,
       r.rolsuper AS superuser,
       r.rolsuper OR r.rolbypassrls AS bypasses_rls,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       coalesce((SELECT CASE m.rolname
                          WHEN 'rds_superuser' THEN 'rds'
                          WHEN 'cloudsqlsuperuser' THEN 'cloudsql'
                          ELSE 'azure'
                        END
                   FROM pg_catalog.pg_roles m
                  WHERE m.rolname IN ('rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin')
                  ORDER BY m.rolname
                  LIMIT 1), '') AS managed
  FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
 WHERE d.datname = pg_catalog.current_database()
   AND r.rolname = current_user
