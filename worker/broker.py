"""The fleet's Celery settings, for workers and producers alike.

They follow what was measured about Celery, Redis and Flower when processes are killed and connections cut: early
acknowledgement, because the ledger and not the broker knows what is undone; no prefetch; no results.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Queue

QUEUES = ("control", "dump", "verify", "restore")


def make_app(broker_url: str) -> Celery:
    """A Celery application that talks to the fleet's broker; it has no tasks of its own."""
    app = Celery("pgfleet", broker=broker_url)
    app.conf.update(_SETTINGS)
    return app


_SETTINGS: dict[str, Any] = {
    "task_default_queue": "control",
    "task_queues": [Queue(name) for name in QUEUES],
    "task_create_missing_queues": True,
    "task_acks_late": False,
    "task_ignore_result": True,
    "task_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_send_sent_event": True,
    "task_track_started": True,
    "worker_send_task_events": True,
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_soft_shutdown_timeout": 5.0,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # Without these a broker that hangs blocks a producer for ever.
    "broker_transport_options": {
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "retry_on_timeout": True,
    },
    "enable_utc": True,
    "timezone": "UTC",
}
