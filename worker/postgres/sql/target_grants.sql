-- The privileges of a database, one a row. Parameter: name. grantee null: PUBLIC.
SELECT g.rolname::text AS grantee, a.privilege_type AS privilege, a.is_grantable AS grantable
  FROM pg_catalog.pg_database d
 CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
  LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
 WHERE d.datname = %(name)s
 ORDER BY 1 NULLS FIRST, 2
