-- The server's clock now, in seconds since 1970. No parameters.
SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8
