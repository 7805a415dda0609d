-- All relations of schemas. oids: the schemas.
SELECT c.oid FROM pg_class c WHERE c.relnamespace = ANY (%(oids)s::oid[])
