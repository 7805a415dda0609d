"""The plots of a database: how large its backups are, how well they are compressed, what takes how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from worker.core import human
from worker.ledger.model import Run
from worker.metrics.holdings import USABLE, Holding
from worker.steps.inventory import Listed
from worker.web.charts import Bar, Plot, Point
from worker.web.sources import Drill, Steps

_BACKUPS = 90
#: Stage → its steps: what one waits for, from the dump to the proof that all bytes arrived.
STAGES: Mapping[str, tuple[str, ...]] = {
    "dump": ("backup.dump",),
    "encrypt": ("backup.encrypt",),
    "upload": ("backup.upload", "backup.upload_part", "backup.seal"),
    "verify": ("backup.verify", "backup.verify_part", "backup.attest"),
}
Row = dict[str, float | str | datetime | None]


def of_database(
    holding: Holding | None,
    made: Sequence[tuple[Run, Steps]],
    drills: Sequence[Drill],
    target_seconds: float,
) -> list[Plot]:
    """Those of which there is something to see."""
    items = list(_usable(holding))
    found = [
        _sizes(items),
        _ratios(items),
        _durations([(run, steps) for run, steps in made if run.state == "verified"]),
        _recovery(drills, target_seconds),
    ]
    return [plot for plot in found if plot.bars or plot.points]


def _usable(holding: Holding | None) -> Iterator[tuple[Listed, datetime, int]]:
    """(backup, taken at, stored bytes of one copy), oldest first."""
    for item in reversed(holding.backups[:_BACKUPS] if holding is not None else []):
        copies = [copy for copy in item.copies.values() if copy.state in USABLE]
        if copies:
            yield item, copies[0].at, max(copy.size for copy in copies)


def _sizes(items: Sequence[tuple[Listed, datetime, int]]) -> Plot:
    bars = [
        Bar(at, [(next(iter(item.copies.values())).type, size)], f"{_day(at)}: {human.size(size)}")
        for item, at, size in items
    ]
    desc = f"{len(items)} backups, the newest {human.size(items[-1][2])}" if items else ""
    legend = {name: name for name in ("daily", "weekly", "monthly")}
    return Plot("size", "Stored size", desc, human.size, bars=bars, binary=True, legend=legend)


def ratio(item: Listed) -> float | None:
    """Bytes on the source's disk for one stored byte, as the manifest has it."""
    for copy in item.copies.values():
        if copy.manifest is not None and copy.manifest.size:
            source = sum(table.bytes for table in copy.manifest.tables)
            return source / copy.manifest.size if source else None
    return None


def _ratios(items: Sequence[tuple[Listed, datetime, int]]) -> Plot:
    points = [
        Point(at, found, f"{_day(at)}: {found:.1f} to 1")
        for item, at, _ in items
        if (found := ratio(item)) is not None
    ]
    desc = f"{points[-1].value:.1f} source bytes for a stored byte in the newest backup" if points else ""
    return Plot("ratio", "Compression ratio", desc, lambda value: f"{value:.3g} : 1", points=points)


def durations(steps: Steps) -> dict[str, float]:
    """Stage → seconds from the begin of its first step to the end of its last, over all destinations; no second is
    counted twice: a stage begins where the one before has ended.
    """
    found: dict[str, float] = {}
    reached = 0.0
    for stage, names in STAGES.items():
        own = [row for row in steps if row["name"] in names and row["started_at"] and row["ended_at"]]
        if not own:
            continue
        began = max(reached, min(row["started_at"] for row in own))
        ended = max(row["ended_at"] for row in own)
        found[stage] = max(0.0, ended - began)
        reached = max(reached, ended)
    return found


def _durations(made: Sequence[tuple[Run, Steps]]) -> Plot:
    bars = []
    for run, steps in reversed(made[:_BACKUPS]):
        pieces = durations(steps)
        told = ", ".join(f"{stage} {human.duration(seconds)}" for stage, seconds in pieces.items())
        at = datetime.fromtimestamp(run.started_at or run.created_at, UTC)
        bars.append(Bar(at, list(pieces.items()), f"{_day(at)}: {told}"))
    desc = f"{len(bars)} backups; the newest: {bars[-1].title}" if bars else ""
    legend = {stage: stage for stage in STAGES}
    return Plot("duration", "Duration by step", desc, human.duration, bars=bars, legend=legend)


def _recovery(drills: Sequence[Drill], target: float) -> Plot:
    points = [
        Point(
            drill.at,
            drill.seconds,
            f"{_day(drill.at)}: {human.duration(drill.seconds)}, {drill.verdict.replace('_', ' ')}",
            "" if drill.verdict == "proven" else drill.verdict,
        )
        for drill in drills
        if drill.seconds is not None
    ]
    newest = points[-1] if points else None
    desc = (
        f"{len(points)} drills; the newest took {human.duration(newest.value)} of {human.duration(target)} allowed"
        if newest
        else ""
    )
    return Plot("recovery", "Recovery time in drills", desc, human.duration, points=points, target=target)


def table(holding: Holding | None, made: Sequence[tuple[Run, Steps]]) -> list[Row]:
    """The same as numbers, newest first."""
    steps = {run.backup_id: rows for run, rows in made if run.backup_id and run.state == "verified"}
    found: list[Row] = []
    for item, at, size in reversed(list(_usable(holding))):
        row: Row = {"id": item.backup_id, "at": at, "size": size, "ratio": ratio(item)}
        pieces = durations(steps.get(item.backup_id, []))
        found.append(row | {stage: pieces.get(stage) for stage in STAGES})
    return found


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"
