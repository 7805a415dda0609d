-- Which server this is, by whatever name it was reached. No parameters.
-- A clone or a standby has its origin's cluster, but was not started in the same microsecond.
SELECT s.system_identifier::text AS cluster,
       pg_catalog.pg_postmaster_start_time()::text AS started
  FROM pg_catalog.pg_control_system() s
