-- The server, and a probe: what each hash function that the checksums use gives for fixed input. Two servers
-- whose probes differ (another byte order, a changed function) give checksums that cannot be compared.
SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
       concat_ws(' ', hashint4extended(20260101, 7), hashint4extended(7, -20260101000000001), hashoidextended('16384', 7),
                 hashtextextended('pgfleet: the quick brown fox' COLLATE "C", 7), hashfloat8extended(1.1, 7),
                 uuid_hash_extended('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 7),
                 hash_record_extended(ROW('\x00ff10'::bytea), 7))
