"""The embedded stack: PostgreSQL, Valkey, an S3 server, keys and the fleet as child processes of this one.

For trying pgfleet, and for its tests. Everything listens on loopback at free ports and dies with us.
"""
