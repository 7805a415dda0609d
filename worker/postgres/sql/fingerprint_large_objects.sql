-- Ranges of %(each)s large objects (the last one shorter): the first OID of each, and the size of all on disk.
SELECT n.oid, pg_table_size('pg_largeobject')
FROM (SELECT oid, row_number() OVER (ORDER BY oid) AS position FROM pg_largeobject_metadata) n
WHERE mod(n.position - 1, %(each)s::int8) = 0
ORDER BY n.oid
