"""Use cases without Celery, one file each. A step takes a Context and returns an Outcome."""
