-- The large objects with %(low)s <= OID < %(high)s; NULL is to the end.
SELECT oid
FROM pg_largeobject_metadata
WHERE oid >= %(low)s::int8::oid AND (%(high)s::int8 IS NULL OR oid < %(high)s::int8::oid)
ORDER BY oid
