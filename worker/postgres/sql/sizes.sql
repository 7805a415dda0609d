-- Bytes on disk of tables with their TOAST data, without indexes. oids: the tables, which must be locked.
SELECT t.oid, pg_table_size(t.oid)
  FROM unnest(%(oids)s::oid[]) AS t (oid)
