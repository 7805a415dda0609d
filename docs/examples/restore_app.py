"""A small web application that asks the fleet for a restore and follows it.

    BROKER_URL=redis://… LEDGER_URL=postgresql://… flask --app restore_app run

    curl localhost:5000/restores -H 'Idempotency-Key: ticket-4711' -d '{"database": "goimg", "target": "staging"}'
    curl localhost:5000/restores/1m837nj0qj5e

It knows the broker and the ledger, and no bucket, no key, no database password: what it may name are aliases, and
whether a target may be replaced is for the workers' configuration to say.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from flask import Flask, request

from worker.client import Client
from worker.errors import ConfigError, PgfleetError, RunNotFound

STATUS = {ConfigError: 400, RunNotFound: 404}
ASKED_FOR = ("backup", "target", "as_name", "replace", "confirm", "tables", "dry_run")


def create_app(client: Client | None = None) -> Flask:
    app = Flask(__name__)
    fleet = client or Client(os.environ["BROKER_URL"], os.environ["LEDGER_URL"], name="restore-app")

    @app.post("/restores")
    def ask() -> tuple[dict[str, Any], int]:
        """Returns at once. The same Idempotency-Key again is the same restore: safe to send twice."""
        wanted = request.get_json(force=True)
        if not isinstance(wanted, dict) or set(wanted) - {"database", *ASKED_FOR} or "database" not in wanted:
            raise ConfigError(
                "That is no restore.", f"Send database, and of {', '.join(ASKED_FOR)} what you need."
            )
        options = {name: wanted[name] for name in ASKED_FOR if name in wanted}
        key = request.headers.get("Idempotency-Key")
        run = fleet.request_restore(wanted["database"], idempotency_key=key, **options)
        return {"run_id": run.id, "state": run.state}, 202

    @app.get("/restores/<run_id>")
    def follow(run_id: str) -> dict[str, Any]:
        """How far it is; once it has ended, what it came to."""
        return asdict(fleet.restored(run_id))

    @app.errorhandler(PgfleetError)
    def explain(error: PgfleetError) -> tuple[dict[str, Any], int]:
        return {"error": error.message, "hint": error.hint}, STATUS.get(type(error), 503)

    return app
