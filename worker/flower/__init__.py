"""What Flower, and any other monitor of Celery's events, shows of the fleet: readable, small, without secrets.

Nothing here is needed for a run to end well: the truth is in the ledger.
"""
