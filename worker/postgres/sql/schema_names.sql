-- Names of schemas by %(oids)s.
SELECT nspname FROM pg_namespace WHERE oid = ANY(%(oids)s::oid[])
