-- One database as others may see it: may we rename it, what hangs on it. Parameter: name. No row: there is none.
SELECT d.oid,
       pg_catalog.pg_get_userbyid(d.datdba) AS owner,
       pg_catalog.pg_has_role(current_user, d.datdba, 'USAGE') AS ours,
       d.datallowconn AS allows_connections,
       d.datistemplate AS is_template,
       d.datconnlimit AS connection_limit,
       t.spcname AS tablespace,
       pg_catalog.shobj_description(d.oid, 'pg_database') AS comment,
       CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') THEN pg_catalog.pg_database_size(d.oid) END AS bytes,
       (SELECT count(*)::int FROM pg_catalog.pg_prepared_xacts x WHERE x.database = d.datname) AS prepared,
       (SELECT count(*)::int FROM pg_catalog.pg_replication_slots s WHERE s.database = d.datname) AS slots
  FROM pg_catalog.pg_database d
  JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
 WHERE d.datname = %(name)s
