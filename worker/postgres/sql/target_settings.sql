-- ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET of a database. Parameter: name.
SELECT r.rolname::text AS role,
       split_part(c.line, '=', 1) AS setting,
       substr(c.line, strpos(c.line, '=') + 1) AS value
  FROM pg_catalog.pg_db_role_setting s
  JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
 CROSS JOIN LATERAL unnest(s.setconfig) c (line)
 WHERE d.datname = %(name)s
 ORDER BY 1 NULLS FIRST, 2
