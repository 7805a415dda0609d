"""How a doctor asks: several probes at once, each within a time, and whatever goes wrong becomes an answer."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from worker.errors import ConfigError, MissingDependency, PgfleetError
from worker.redaction import redact

PROBE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """name: what was looked at. detail: what was found. hint: what to do. exit_code: 0 unless it failed."""

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    hint: str = ""
    exit_code: int = 0


class Probe(NamedTuple):
    """name: of the check that tells when `ask` breaks off. `ask` may raise; its checks until then count."""

    name: str
    ask: Callable[[], Iterable[Check]]


def ok(name: str, detail: str) -> Check:
    return Check(name, "ok", detail)


def warning(name: str, detail: str, hint: str) -> Check:
    return Check(name, "warning", detail, hint)


def failed(name: str, detail: str, hint: str, exit_code: int = 1) -> Check:
    return Check(name, "failed", detail, hint, exit_code)


def from_error(name: str, error: PgfleetError) -> Check:
    """2 for what is not installed, 3 for a wrong setting, 1 for the rest."""
    code = error.exit_code if isinstance(error, MissingDependency | ConfigError) else 1
    return failed(name, error.message, error.hint, code)


def examine(probes: Sequence[Probe], seconds: float = PROBE_SECONDS) -> Iterator[Check]:
    """The checks of all probes, in their order; they run at once. After `seconds` a probe is given up."""
    deadline = time.monotonic() + seconds
    answers = [_start(probe) for probe in probes]
    for probe, answer in zip(probes, answers, strict=True):
        yield from _collect(probe, answer, deadline, seconds)


def exit_code(checks: Iterable[Check]) -> int:
    """0 when nothing failed; else 2, 3 or 1, looked for in that order: first what cannot be set right here."""
    codes = {check.exit_code for check in checks if check.status == "failed"}
    return next((code for code in (2, 3, 1) if code in codes), 0)


def _start(probe: Probe) -> queue.SimpleQueue[Check | None]:
    """Its checks as they are made, then None. The thread is left behind when it hangs, and ends with us."""
    answer: queue.SimpleQueue[Check | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            for check in probe.ask():
                answer.put(check)
        except PgfleetError as error:
            answer.put(from_error(probe.name, error))
        except Exception as error:  # noqa: BLE001 - a doctor that breaks down over one organ helps nobody
            detail = redact(f"This check broke off: {type(error).__name__}: {error}")
            answer.put(failed(probe.name, detail, "Please report this."))
        finally:
            answer.put(None)

    threading.Thread(target=ask, name=f"probe {probe.name}", daemon=True).start()
    return answer


def _collect(
    probe: Probe, answer: queue.SimpleQueue[Check | None], deadline: float, seconds: float
) -> Iterator[Check]:
    while True:
        try:
            check = answer.get(timeout=max(0.001, deadline - time.monotonic()))
        except queue.Empty:
            yield failed(
                probe.name,
                f"No answer within {seconds:g} s.",
                "Find out what it waits for: network, lock, disk.",
            )
            return
        if check is None:
            return
        yield check
