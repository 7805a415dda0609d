"""Backups of several archives, and copies in cold storage."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.restore_scene import Scene, content_of, libpq, tables
from worker import here, runner
from worker.cli import cli, place
from worker.errors import ObjectArchived
from worker.ledger.model import Run
from worker.local.postgres import Postgres
from worker.owner import me
from worker.steps.context import Adapters
from worker.storage.directory import DirectoryStore
from worker.submit import submit

TABLES = (
    "CREATE TABLE one (id int PRIMARY KEY, t text)",
    "CREATE TABLE two (id int PRIMARY KEY REFERENCES one, t text)",
    "CREATE TABLE three (id serial, t text)",
    "INSERT INTO one SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 4000) i",
    "INSERT INTO two SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 4000) i",
    "INSERT INTO three (t) SELECT 'x' FROM generate_series(1, 100) i",
    "CREATE INDEX ON two (t)",
    "CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM one JOIN two USING (id)",
)


@pytest.fixture
def scene(pg: Postgres, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, pg, pg, "split", more='split_bytes = "1kB"')
    pg.createdb("split")
    tables(pg, "split", TABLES)
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
    try:
        scene.backup()
        yield scene
    finally:
        for name in scene.databases() - {"sample_template"}:
            pg.dropdb(name)


def test_several_archives(scene: Scene) -> None:
    assert len(list((scene.root / "near").glob("*.data-*.dump"))) == 1
    scene.restored(as_name="whole")
    assert content_of(scene.target, "whole") == content_of(scene.source, "split")
    scene.restored(tables=["two"], as_name="part")
    assert content_of(scene.target, "part").keys() == {"public.two"}
    assert content_of(scene.target, "part")["public.two"] == content_of(scene.source, "split")["public.two"]


def test_one_of_several_archives_without_the_manifest_is_not_called_whole(scene: Scene) -> None:
    (dump,) = [path for path in (scene.root / "near").glob("*.dump") if ".data-" not in path.name]
    alone = dump.with_name("split-backup-20990101-000000.dump")
    alone.hardlink_to(dump)
    for request, told in ({}, True), ({"tables": ["three"]}, False), ({"schema_only": True}, False):
        notes = scene.restored(backup=alone.stem, dry_run=True, as_name="alone", **request)["notes"]
        assert any("has no rows of public." in note and "three" not in note for note in notes) is told, notes


def test_several_archives_by_hand(scene: Scene) -> None:
    """The commands of docs/recovery-without-pgfleet.md for such a backup, as written."""
    page = (Path(__file__).parents[2] / "docs" / "recovery-without-pgfleet.md").read_text()
    (commands,) = re.findall(r"```sh run several\n(.*?)```", page, re.DOTALL)
    (dump,) = [path for path in (scene.root / "near").glob("*.dump") if ".data-" not in path.name]
    scene.target.createdb("split_recovered", template="template0")
    env = {
        **libpq(scene.target, "postgres"), "PATH": f"{scene.target.bin_dir}:/usr/bin:/bin", "DATABASE": "split",
        "BACKUP": dump.name.removesuffix(".dump"),
    }  # fmt: skip
    subprocess.run(["bash", "-euc", commands], cwd=dump.parent, env=env, check=True, capture_output=True)
    assert content_of(scene.target, "split_recovered") == content_of(scene.source, "split")


class Cold(DirectoryStore):
    """Stands in for cold storage, which cannot be had here: thaws after it was looked at a few times."""

    asked: list[tuple[str, int, str]]
    looks: dict[str, int]

    def thaw(self, key: str, days: int, tier: Any) -> None:
        self.asked.append((key, days, tier))
        self.looks[key] = 3

    def thaw_state(self, key: str) -> Any:
        if key not in self.looks:
            return "none"
        self.looks[key] -= 1
        return "ready" if self.looks[key] <= 0 else "thawing"

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Any:
        if key.endswith(".dump") and self.looks.get(key, 1) > 0:
            raise ObjectArchived(f"{key} is in cold storage.", "Thaw it first.")
        return super().read(key, offset, length)


def cold(adapters: Adapters) -> tuple[Cold, Run]:
    """A restore of what is in cold storage, asked for."""
    store = Cold(adapters.destination("near"))
    store.asked, store.looks = [], {}
    adapters._stores["near"] = store
    request = {"target": "there", "as_name": "thawed", "destination": "near"}
    (run,) = submit(adapters, "restore", request, requested_by="test", here=me())
    return store, run


def test_an_archived_copy_is_thawed_first(scene: Scene) -> None:
    adapters = scene.adapters()
    store, run = cold(adapters)
    ended = here.work(adapters, run.id)
    assert ended.state == "succeeded", ended.error
    assert {(days, tier) for _, days, tier in store.asked} == {(7, "Standard")}
    assert len(store.asked) == 2, "each archive once"
    (thaw, *_) = adapters.ledger.steps(run.id, name="restore.thaw")
    assert thaw.attempts == 1, "waiting is no attempt"
    assert re.search(r"ready about \d{4}-\d\d-\d\dT\d\d:\d\d", thaw.data["waiting_for"])
    assert content_of(scene.target, "thawed") == content_of(scene.source, "split")


def test_runs_say_until_about_when_a_thaw_takes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = scene.adapters(PGFLEET_RECONCILE_SECONDS="60")
    _, run = cold(adapters)
    while hints := adapters.ledger.take_due(run_id=run.id, here=me(), resend_after=0):
        for hint in hints:
            assert runner.perform(adapters, hint.run_id, hint.step_id) is None
    monkeypatch.setattr(place, "adapters", lambda: adapters)
    for command in (["runs"], ["run", "show", run.id]):
        shown = CliRunner().invoke(cli, command)
        assert shown.exit_code == 0, shown.output
        about = r"is being thawed in near \(Standard\), ready about \d{4}-\d\d-\d\dT\d\d:\d\d"
        assert len(re.findall(rf"^{run.id} restore.thaw: .*{about}", shown.output, re.MULTILINE)) == 2
    assert adapters.ledger.cancel(run.id, "test")
    assert "ready about" not in CliRunner().invoke(cli, ["runs"]).output
