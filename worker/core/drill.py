"""What a drill comes to: three verdicts, the time it took, and what that means. Values only.

`proven`: a copy was restored, compared with the fingerprint of its source and found to be the same, and the control
showed that a change would have been found. `refuted`: it differs. `could_not_run`: anything else, and never a pass.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

from worker.core.backup import Value
from worker.errors import ConfigError

Verdict = Literal["proven", "refuted", "could_not_run"]

#: Security gate S9-PROD-004 is about half an hour, whatever target a database has.
GATE_SECONDS = 1800
#: Steps → what they do for the one who waits. The first group is the recovery; the second only proves it.
RECOVERY: Mapping[str, tuple[str, ...]] = {
    "choose": ("restore.choose",),
    "fetch": ("restore.thaw", "restore.fetch_part"),
    "decrypt": ("restore.decrypt",),
    "check archive": ("restore.check",),
    "start server": ("drill.provision",),
    "roles": ("drill.roles",),
    "load": ("drill.load",),
}
PROOF: Mapping[str, tuple[str, ...]] = {
    "fingerprint": ("drill.fingerprint", "drill.fingerprint_chunk"),
    "examine": ("drill.examine",),
    "compare": ("drill.compare",),
    "control": ("drill.control",),
}
#: Hours until an archived object can be read, the vendor's longest figure: class → tier
#: (Amazon S3 user guide, "Understanding archive retrieval options").
_THAW_HOURS: Mapping[str, Mapping[str, float]] = {
    "GLACIER": {"Expedited": 5 / 60, "Standard": 5.0, "Bulk": 12.0},
    "DEEP_ARCHIVE": {"Expedited": 12.0, "Standard": 12.0, "Bulk": 48.0},
}


class Phase(Value):
    """began: seconds since the drill began. seconds: wall time from its first step's begin to its last one's end."""

    name: str
    recovery: bool
    began: float
    seconds: float
    bytes: int = 0


class Rto(Value):
    """seconds: from the first step to a database that could take connections, statistics included; the proof that
    follows is not part of a recovery. cold_seconds: the same from a copy in `cold_class`, thawed first.
    """

    seconds: float
    target_seconds: int
    phases: tuple[Phase, ...] = ()
    cold_class: str = ""
    cold_seconds: float | None = None

    @property
    def exceeded(self) -> bool:
        return self.seconds > self.target_seconds


class Timed(NamedTuple):
    """A step's name, begin and end (epoch seconds), and bytes."""

    name: str
    began: float
    ended: float
    bytes: int


def phases(steps: Sequence[Timed], began: float) -> tuple[Phase, ...]:
    """Of the steps that have ended, in the order in which they began."""
    found = []
    for group, recovery in ((RECOVERY, True), (PROOF, False)):
        for name, members in group.items():
            own = [step for step in steps if step.name in members]
            if own:
                first, last = min(step.began for step in own), max(step.ended for step in own)
                size = sum(step.bytes for step in own)
                found.append(
                    Phase(
                        name=name,
                        recovery=recovery,
                        began=round(first - began, 3),
                        seconds=round(last - first, 3),
                        bytes=size,
                    )
                )
    return tuple(sorted(found, key=lambda phase: phase.began))


def rto(found: Sequence[Phase], target_seconds: int, cold_class: str = "", tier: str = "Standard") -> Rto:
    """Over the phases of the recovery. cold_class: the storage class of a colder copy, "" when there is none."""
    ends = [phase.began + phase.seconds for phase in found if phase.recovery]
    begins = [phase.began for phase in found if phase.recovery]
    seconds = round(max(ends) - min(begins), 3) if ends else 0.0
    hours = _THAW_HOURS.get(cold_class, {}).get(tier)
    return Rto(
        seconds=seconds,
        target_seconds=target_seconds,
        phases=tuple(found),
        cold_class=cold_class if hours is not None else "",
        cold_seconds=round(seconds + hours * 3600, 3) if hours is not None else None,
    )


OLDER = "drill-older:"
_AGES = (7, 30, 90)  # days before the slot, in turn


def scheduled(database: str, destinations: Sequence[str], slot: datetime) -> list[tuple[str, dict[str, Any]]]:
    """(job, request) of the drills that a slot of the schedule owes: the newest backup, and one that has aged.

    A month's slot moves on to the next destination, and so do the weeks within it.
    """
    turn = slot.year * 12 + slot.month + (slot.day - 1) // 7
    age = _AGES[turn // max(1, len(destinations)) % len(_AGES)]
    newest: dict[str, Any] = {"database": database}
    older: dict[str, Any] = {"database": database, "before": (slot - timedelta(days=age)).isoformat()}
    if destinations:
        newest["destination"] = destinations[turn % len(destinations)]
        older["destination"] = destinations[(turn + 1) % len(destinations)]
    return [(f"drill:{database}", newest), (f"{OLDER}{database}", older)]


class Control(Value):
    """The negative control. ok: the comparison failed on `table` and on nothing else after `change`.

    skipped: why there was none; a drill that found differences needs none.
    """

    table: str = ""
    change: str = ""
    ok: bool = False
    found: tuple[str, ...] = ()
    skipped: str = ""


def verdict_of(*, compared: bool, differences: bool, control: bool) -> Verdict:
    """control: whether it passed; if not, that there is no difference means nothing."""
    if compared and differences:
        return "refuted"
    return "proven" if compared and control else "could_not_run"


def reservation(compared: Mapping[str, int] | None) -> str:
    """What a proof does not rest on (see `worker.core.compare.Compared`); empty for one that rests on everything."""
    if not compared:
        return ""
    if not compared["tables"]:
        return "there is no table in it"
    return "" if compared["checksums"] else "row counts only, no content"


class Check(Value):
    """One more thing that was looked at in the copy. kind: foreign key, trigger, index, table, question."""

    kind: str
    what: str
    ok: bool
    expected: str = ""
    found: str = ""


class Gate(Value):
    """A security gate and how it stands. state: pass, fail, or open when the drill cannot tell."""

    id: str
    title: str
    state: Literal["pass", "fail", "open"]
    why: str


def gates(
    verdict: Verdict, encrypted: bool | None, recipients: Sequence[str], measured: Rto
) -> tuple[Gate, Gate]:
    """S9-PROD-003 and S9-PROD-004 as this drill sees them."""
    minutes = GATE_SECONDS // 60
    if encrypted is None:
        first: tuple[Literal["pass", "fail", "open"], str] = ("open", "There is no manifest that says.")
    elif encrypted:
        first = (
            ("pass", f"Encrypted to {', '.join(recipients)}, and decrypted in this drill.")
            if verdict != "could_not_run"
            else ("open", "It is encrypted, but this drill did not run to its end.")
        )
    else:
        first = ("fail", "The backup is stored unencrypted (ALLOW_UNENCRYPTED).")
    if verdict == "could_not_run":
        second: tuple[Literal["pass", "fail", "open"], str] = (
            "open",
            "There is no restored database to time.",
        )
    elif verdict == "refuted":
        second = ("fail", "What was restored is not what was backed up.")
    elif measured.seconds <= GATE_SECONDS:
        second = ("pass", f"Restored in {measured.seconds:.0f} s, of {GATE_SECONDS} s allowed.")
    else:
        second = ("fail", f"It took {measured.seconds:.0f} s; {GATE_SECONDS} s are allowed.")
    return (
        Gate(id="S9-PROD-003", title="Database backups are encrypted", state=first[0], why=first[1]),
        Gate(id="S9-PROD-004", title=f"Recovery in under {minutes} minutes", state=second[0], why=second[1]),
    )


class Question(NamedTuple):
    """What a user wants to know of the restored copy. expect: as written, such as ``> 0``."""

    name: str
    expect: str
    sql: str


_EXPECT = re.compile(r"--\s*expect:\s*(?P<op>=|<>|!=|>=|<=|>|<)\s*(?P<value>\S.*?)\s*")
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "!=": operator.ne,
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


def question(name: str, text: str) -> Question:
    """Of a .sql file whose first line is ``-- expect: > 0``. Raises ConfigError."""
    first, _, sql = text.lstrip("\ufeff").partition("\n")
    match = _EXPECT.fullmatch(first.strip())
    if match is None or not sql.strip():
        raise ConfigError(
            f"The drill's question {name} does not begin with what is expected.",
            "Write `-- expect: > 0` on its first line (= <> > >= < <=), and one query below.",
        )
    return Question(name, f"{match['op']} {match['value']}", sql)


def answers(expect: str, value: object) -> bool:
    """Whether a value is as expected: compared as numbers where both are, else as text. NULL never is."""
    if value is None:
        return False
    sign, _, wanted = expect.partition(" ")
    wanted = wanted.strip("'")
    try:
        return _OPERATORS[sign](Decimal(str(value)), Decimal(wanted))
    except InvalidOperation:
        return _OPERATORS[sign](str(value), wanted)
