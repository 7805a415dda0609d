"""What can be counted and timed: read from destinations, ledger, broker, spool and keys; told to Prometheus.

`names` declares every metric once; `holdings`, `activity` and `surroundings` read; `collector` says it in families.
"""
