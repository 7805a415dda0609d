-- How large all large objects are on disk, roughly.
SELECT pg_table_size('pg_largeobject')
