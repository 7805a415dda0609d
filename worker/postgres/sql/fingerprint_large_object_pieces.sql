-- The pieces of the large objects %(oids)s from offset %(first)s to %(last)s, each %(size)s bytes: their hashes
-- summed for each object, and whether the object may go on behind the last one. Read by lo_get, as pg_dump does: holes are zeros, and
-- how the pages lie in pg_largeobject plays no part. OFFSET 0 keeps a piece from being read twice.
SELECT p.oid, sum(p.hash)::text, bool_or(p.start = %(last)s::int8 AND p.length = %(size)s::int4)
FROM (SELECT d.oid, d.start, octet_length(d.data) AS length,
             hash_record_extended(ROW(d.data), hashoidextended(d.oid, d.start + 1)) AS hash
      FROM (SELECT l.oid, s.start, lo_get(l.oid, s.start, %(size)s::int4) AS data
            FROM unnest(%(oids)s::oid[]) l (oid)
            CROSS JOIN generate_series(%(first)s::int8, %(last)s::int8, %(size)s::int8) s (start)
            OFFSET 0) d
      OFFSET 0) p
WHERE p.length > 0 OR p.start = 0
GROUP BY p.oid
