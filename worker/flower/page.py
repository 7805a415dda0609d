"""The Flower page itself: what it shows, and to whom, unless somebody says otherwise."""

from __future__ import annotations

from flower.options import options

from worker.config.model import Settings

COLUMNS = "name,args,state,routing_key,result,exception,runtime,worker,kwargs,received"


def prepare(settings: Settings) -> None:
    """Our defaults for Flower; its own variables (FLOWER_…), file and arguments win.

    With the settings' password it asks for it; without one it listens to this host alone.
    """
    options.tasks_columns = COLUMNS
    if settings.flower_password is not None:
        options.basic_auth = [f"{settings.flower_user}:{settings.flower_password.get_secret_value()}"]
    else:
        options.address = "127.0.0.1"
