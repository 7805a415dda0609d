"""pgfleet: PostgreSQL backups run by a fleet of Celery workers, and proven restorable."""

__version__ = "0.1.0"
