"""docs/reference/errors.md: every kind of error with its cause, check and cure, and every message."""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

from scripts.reference.known import ERRORS
from scripts.reference.markdown import doc, joined, literal, made_by, table
from scripts.reference.messages import USAGE, Message, collect
from worker.errors import PgfleetError

_INTRO = f"""# Errors

{made_by()}

A command that fails says one sentence of what is wrong and one of what to do, on stderr; with `--json`, `error` has
`type`, `message`, `hint` and `exit_code`. Look for the words of the message here; `…` stands for a name, a number or
another program's words. [Exit codes](exit-codes.md) has the codes alone. A restore tells what a destination or server
said as its own DownloadFailed or RestoreFailed: go by the words, not by the type.

The type of a failed run's error is in `pgfleet run show RUN`. What a worker tries again by itself is marked so: a step
has five attempts (`PGFLEET_MAX_ATTEMPTS`), with growing pauses, and only then its run fails.
"""


class Advice(NamedTuple):
    about: str
    cause: str
    check: str
    cure: str


#: What is no exception: the end of a run as the ledger records it, and what the command line refuses by itself.
RECORDED = {
    "ClockLooksWrong": Advice(
        "A cleanup removed nothing, as it cannot tell what is old.",
        "A backup or a run is from the future, or the host's clock was set or is not the ledger's, by over an hour.",
        "`date` on the hosts of the workers and of the ledger; `pgfleet list` for a backup from the future.",
        "Set the clocks right (NTP) and start the workers again; move a backup away whose name is wrong.",
    ),
    "Killed": Advice(
        "The process that did the run by itself (`--here`) was killed, and no fleet was there to go on with it.",
        "A kill -9, or the kernel for want of memory.",
        "`pgfleet run show RUN` says how far it was: after `restore.swap` the restored database may be in its place.",
        "Start it again. What it had left behind was cleaned up; `pgfleet restore undo RUN` takes back a replace.",
    ),
    "Overdue": Advice(
        "The run was still open after its longest time, and was ended.",
        "No worker takes the queue of one of its steps, or a step waits for something that does not come.",
        '`pgfleet run show RUN` names the step; `pgfleet doctor` (its line "workers") the queues that are served.',
        "Start a worker for that queue, then ask for a new run. `PGFLEET_RUN_DEADLINE_SECONDS` is the longest time.",
    ),
    "PlanTooLarge": Advice(
        "A cleanup would have removed more than a fraction of a database's copies; it removed nothing.",
        "A retention setting was made shorter, the clock is wrong, or there was no cleanup for long.",
        "`pgfleet cleanup --dry-run` gives a reason for each copy.",
        "`pgfleet cleanup --force`, or correct the setting. `PGFLEET_CLEANUP_MAX_FRACTION` is the fraction.",
    ),
    "TooManyRewinds": Advice(
        "The run was started anew so often that it was given up.",
        "The spool that holds its files went away each time: a worker's host or volume is lost again and again.",
        "`pgfleet run show RUN`; the logs of the workers of the queue `dump`.",
        "Give that worker a spool that stays, then ask for a new run.",
    ),
    "WorkerLost": Advice(
        "The worker that did a step vanished, as often as the step has attempts.",
        "It was killed, mostly for want of memory, or its host lost the ledger.",
        "The kernel's log of that host (`dmesg`) and its container's memory limit.",
        "Give it more memory or fewer processes, then ask for a new run.",
    ),
    USAGE: Advice(
        "The command line cannot be understood. Click, the library that reads it, has further sentences of its own.",
        "An option or a value that the command does not have.",
        "`pgfleet COMMAND --help`, or [the commands](cli.md).",
        "Correct the command line. The exit code is 3.",
    ),
}
_LABELS = re.compile(r"^(Cause|Check|Cure): ", re.MULTILINE)


def advice(error: type[PgfleetError]) -> Advice:
    """Raises ValueError for a docstring that lacks one of the three."""
    about, *rest = _LABELS.split(doc(error))
    found = {label: " ".join(text.split()) for label, text in zip(rest[::2], rest[1::2], strict=True)}
    if list(found) != ["Cause", "Check", "Cure"]:
        raise ValueError(f"{error.__name__}: its docstring needs Cause:, Check: and Cure:, in this order")
    return Advice(" ".join(about.split()), *found.values())


def render() -> str:
    messages = {name: list(found) for name, found in groupby(collect(), lambda message: message.error)}
    kinds = [*ERRORS, *sorted(RECORDED)]
    overview = table(
        ("error", "exit code", "tried again", "means"),
        (
            (f"[{name}](#{name.lower()})", _code(name), "yes" if _retried(name) else "", _advice(name).about)
            for name in kinds
        ),
    )
    return joined(_INTRO, overview, *(_section(name, messages.get(name, [])) for name in kinds))


def _section(name: str, messages: list[Message]) -> str:
    found = _advice(name)
    error = ERRORS.get(name)
    parent = error.__mro__[1].__name__ if error not in (None, PgfleetError) else ""
    facts = [f"Exit code {_code(name)}."]
    if parent not in ("", "PgfleetError"):
        facts.append(f"A kind of [{parent}](#{parent.lower()}).")
    if _retried(name):
        facts.append("Tried again by itself.")
    rows = [(literal(message.text), literal(message.hint)) for message in messages]
    return joined(
        f"## {name}",
        " ".join(filter(None, [found.about, *facts])),
        f"- **Cause**: {found.cause}\n- **Check**: {found.check}\n- **Cure**: {found.cure}",
        table(("it says", "what to do"), rows) if rows else "",
    )


def _advice(name: str) -> Advice:
    return advice(ERRORS[name]) if name in ERRORS else RECORDED[name]


def _code(name: str) -> str:
    return str(ERRORS[name].exit_code) if name in ERRORS else "3" if name == USAGE else "1"


def _retried(name: str) -> bool:
    return name in ERRORS and ERRORS[name].retryable
