"""PostgreSQL: its client programs, connections, the held snapshot, the dump, the questions in SQL."""
