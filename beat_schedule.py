"""What beat sends: ticks only. What is due comes from the ledger, so two beats or a lost tick do no harm."""

from __future__ import annotations

from typing import Any


def entries(reconcile_seconds: float) -> dict[str, dict[str, Any]]:
    """Celery's ``beat_schedule``. A tick that waited longer than two periods is of no use any more."""
    return {
        "reconcile": {
            "task": "pgfleet.reconcile",
            "schedule": reconcile_seconds,
            "options": {"queue": "control", "expires": reconcile_seconds * 2},
        }
    }
