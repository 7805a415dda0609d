"""What follows what: each flow as a graph of steps, by name. Pure: nothing here does any work.

    backup   dump ─▶ encrypt ─▶ upload ─▶ upload_part × N ─▶ seal ─▶ verify ─▶ verify_part × N ─▶ attest ─▶ conclude
             (one) (an archive) (an archive and a copy)    └──────────── (a copy) ─────────────────────┘   └ sweep
    verify   verify ─▶ verify_part × N ─▶ attest ─▶ conclude
    restore  choose ─▶ (thaw ─▶ fetch_part × N ─▶ decrypt) × artifacts ─▶ check ─▶ prepare ─▶ globals ─▶ load
             ─▶ finish ─▶ swap ─▶ conclude, and then record and sweep
    drill    choose … check ─▶ provision ─▶ roles ─▶ load ─▶ fingerprint ─▶ fingerprint_chunk × N ─▶ compare ─▶ control
             ─▶ conclude, whatever failed; then sweep, record  └ examine ────────────────────────┘
    copy     plan ─▶ open ─▶ part × N ─▶ seal ─▶ verify ─▶ verify_part × N ─▶ attest ─▶ conclude
    scrub    (plan ─▶ part × N ─▶ attest) × destinations ─▶ conclude
    cleanup  plan ─▶ tidy, (remove × N ─▶ sweep, lock) × destinations ─▶ conclude
    report   make          digest   send          audit    deliver, or settings

What somebody answers for (restore, drill, cleanup) ends with audit.record, however it ended.

A step's `group` and `needs` say what it waits for (`worker.ledger.model.NewStep`): a copy is sealed when nothing
under ``copy/<destination>/`` is undone. Each copy is a branch of its own: what fails in one leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from worker.flows import backup, drill, restore, told, upkeep
from worker.flows.rule import Result, Rule
from worker.ledger.model import NewRun, NewStep, RunKind, Step

_FLOWS = (backup, restore, drill, upkeep, told)
_FIRST: Mapping[RunKind, Callable[[Result], list[NewStep]]] = {
    kind: rule for flow in _FLOWS for kind, rule in flow.FIRST.items()
}
_FOLLOW: Mapping[str, Rule] = {name: rule for flow in _FLOWS for name, rule in flow.FOLLOW.items()}
_KEPT: Mapping[RunKind, tuple[str, ...]] = {
    kind: names for flow in _FLOWS for kind, names in flow.KEPT.items()
}


def first(new: NewRun) -> list[NewStep]:
    """The steps that a new run starts with."""
    return _FIRST[new.kind](new.request)


def follow(step: Step, result: Result, fan_out: Iterable[Result] = ()) -> Iterator[NewStep]:
    """The steps that come after `step` ended with `result`: one a value of `fan_out` where it has any.

    There may be many, so they are made one at a time.
    """
    rule = _FOLLOW.get(step.name)
    return rule(step, result, fan_out) if rule is not None else iter(())


def rewound(kind: RunKind) -> tuple[str, ...]:
    """The steps that a run starts again with when its spool is gone."""
    return _KEPT.get(kind, ())
