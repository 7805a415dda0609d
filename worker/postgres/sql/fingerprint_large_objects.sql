-- Ranges of about %(each)s large objects: first OID of each range, and how many there are in all.
SELECT n.oid, n.total
FROM (SELECT oid, row_number() OVER (ORDER BY oid) AS position, count(*) OVER () AS total
      FROM pg_largeobject_metadata) n
WHERE (n.position - 1) % %(each)s = 0
ORDER BY n.oid
