"""The Celery application: ``celery -A worker.app worker|beat|flower``."""

from __future__ import annotations

import sys

from celery import Celery

import beat_schedule
from worker import log, presence, tasks
from worker.broker import make_app
from worker.config.load import load
from worker.errors import ConfigError


def _app() -> Celery:
    try:
        settings = load()
    except ConfigError as error:
        # The celery command would show a traceback; a setting that is wrong deserves a sentence.
        sys.stderr.write(f"Error: {error.message}\n" + (f"Hint:  {error.hint}\n" if error.hint else ""))
        raise SystemExit(error.exit_code) from None
    log.setup(settings.log_format, settings.log_level)
    made = make_app(settings.broker_url.get_secret_value())
    made.conf.beat_schedule = beat_schedule.entries(settings.reconcile_seconds)
    tasks.configure(settings)
    tasks.register(made)
    presence.configure(settings)
    presence.connect(made)
    if "flower" in sys.argv[1:]:
        from worker.flower import page  # late: nobody else needs a web server

        page.prepare(settings)
    return made


app = _app()
