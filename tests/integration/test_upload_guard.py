"""Uploads say no to bytes that are not what was encrypted, and to places that are taken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_copy import Down
from tests.services import Database
from worker import flows, here
from worker.cli.show_run import say_end
from worker.config.load import load
from worker.errors import ObjectExists, StorageUnavailable
from worker.ledger.model import NewRun, Run
from worker.owner import me
from worker.runner import STEPS, perform
from worker.steps import patience
from worker.steps.context import Adapters
from worker.submit import submit


@pytest.fixture
def adapters(sample: Database, tmp_path: Path) -> Adapters:
    pg = sample.server
    return Adapters(
        load(
            {
                "DB_HOST": pg.host, "DB_PORT": str(pg.port), "DB_USER": pg.user, "DB_PASSWORD": pg.password,
                "DB_NAME": sample.name, "BACKUP_DIR": str(tmp_path / "backups"), "ALLOW_UNENCRYPTED": "true",
                "PGFLEET_STATE_DIR": str(tmp_path / "state"), "PGFLEET_SPOOL": str(tmp_path / "spool"),
                "PGFLEET_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.db'}", "PGFLEET_PG_BIN": str(pg.bin_dir),
                "PGFLEET_PART_SIZE": "5MiB", "PGFLEET_MAX_ATTEMPTS": "1",
            }
        )
    )  # fmt: skip


def run_until(adapters: Adapters, before: str, act: Callable[[Run], None]) -> Run:
    """Take a backup step by step, and do something once, just before the first step called `before`."""
    assert before in STEPS
    (run,) = submit(adapters, "backup", {}, requested_by="test", here=me())
    acted = False
    while hints := adapters.ledger.take_due(run_id=run.id, here=me(), resend_after=0, limit=1):
        if hints[0].name == before and not acted:
            act(adapters.ledger.run(run.id))
            acted = True
        perform(adapters, run.id, hints[0].step_id)
    assert acted
    return adapters.ledger.run(run.id)


def rot(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_without_harm_it_is_verified(adapters: Adapters) -> None:
    run = run_until(adapters, "backup.upload", lambda run: None)
    assert run.state == "verified"
    (again,) = submit(adapters, "verify", {"backup": "latest"}, requested_by="test", here=me())
    verified = here.work(adapters, again.id)
    assert (verified.state, verified.backup_id) == ("verified", run.backup_id), "it says what it has verified"


@pytest.mark.parametrize(("wanted", "state"), [(0, "failed"), (1, "verified")])
def test_one_of_two_destinations_is_down(
    adapters: Adapters, wanted: int, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other copy is whole; whether that is a success, the policy says."""
    settings, (alias,) = adapters.settings, adapters.settings.databases
    settings.__dict__["retry_base_seconds"] = 0.01
    away = settings.destinations["local"].model_copy(update={"alias": "away"})
    database = settings.databases[alias].model_copy(
        update={"destinations": ("local", "away"), "require_copies": wanted}
    )
    settings.destinations["away"], settings.databases[alias] = away, database
    adapters._stores["away"] = Down("away")  # type: ignore[assignment]
    (run,) = submit(adapters, "backup", {}, requested_by="test", here=me())
    ended = here.work(adapters, run.id)
    assert ended.state == state
    assert {copy["destination"]: copy["state"] for copy in ended.result["copies"]} == {
        "local": "verified",
        "away": "failed",
    }
    assert [entry.state for entry in adapters.catalog("local").entries()] == ["verified"]
    capsys.readouterr()  # the log's lines
    say_end(ended)
    told = capsys.readouterr()
    assert ("verified (1 of 2) in local" in told.out) == (state == "verified")
    assert ("away does not answer" in told.err) == (state == "failed")


@pytest.mark.parametrize(
    ("before", "code"), [("backup.encrypt", 5), ("backup.upload", 6), ("backup.upload_part", 6)]
)
def test_a_byte_that_rots_on_the_spool_is_never_verified(adapters: Adapters, before: str, code: int) -> None:
    def harm(run: Run) -> None:
        directory = adapters.spool.run_dir(run.id)
        rot(max(directory.iterdir(), key=lambda path: path.stat().st_size))

    run = run_until(adapters, before, harm)
    assert run.state == "failed"
    assert run.error is not None
    assert run.error["exit_code"] == code


def test_a_strangers_object_is_not_overwritten(adapters: Adapters) -> None:
    taken: list[Path] = []

    def occupy(run: Run) -> None:
        taken.append(Path(adapters.destination("local").path or "") / f"{run.backup_id}.dump")
        taken[0].parent.mkdir(exist_ok=True)
        taken[0].write_bytes(b"somebody else's")

    run = run_until(adapters, "backup.upload", occupy)
    assert run.state == "failed"
    assert run.error is not None
    assert run.error["type"] == ObjectExists.__name__
    assert taken[0].read_bytes() == b"somebody else's", "what the run clears away is its own"


def test_a_failed_run_leaves_the_upload_of_another_fleet(adapters: Adapters) -> None:
    """Of the same name, begun in the same second: neither adopted nor aborted; what the run itself has put goes."""
    theirs: list[str] = []

    def occupy(run: Run) -> None:
        store, key = adapters.store("local"), f"{run.backup_id}.dump"
        theirs.append(store.begin(key))
        store.put(f"{run.backup_id}.manifest.json.x", b"", size=0, sha256=hashlib.sha256().hexdigest())
        adapters.ledger.cancel(run.id, "the test")

    run = run_until(adapters, "backup.seal", occupy)
    assert run.state == "cancelled"
    store = adapters.store("local")
    assert [upload.upload_id for upload in store.open_uploads()] == theirs
    assert [info.key for info in store.list()] == [f"{run.backup_id}.manifest.json.x"]


@pytest.mark.parametrize("job", ["backup:goimg", None])
def test_a_scheduled_backup_waits_for_its_only_destination(
    adapters: Adapters, monkeypatch: pytest.MonkeyPatch, job: str | None
) -> None:
    """Nothing is dumped twice: the encrypted files stay on the spool. Who asked by hand is told at once."""
    monkeypatch.setattr(patience, "ASK_AGAIN", 0.0)
    (name,) = adapters.settings.databases
    new = NewRun(
        "backup", name, {"databases": [name]}, job=job, scheduled_for=1.0 if job else None, here=me()
    )
    run, _ = adapters.ledger.create_run(new, flows.first(new))
    store = adapters.store("local")
    away = True

    def put(*arguments: object, **named: object) -> None:
        if away:
            raise StorageUnavailable("It does not answer.", "")
        type(store).put(store, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "put", put)
    for _ in range(20):
        for hint in adapters.ledger.take_due(run_id=run.id, here=me(), resend_after=0, limit=1):
            perform(adapters, run.id, hint.step_id)
    ended = adapters.ledger.run(run.id)
    if job is None:
        assert (ended.state, ended.error and ended.error["exit_code"]) == ("failed", 6)
        return
    assert ended.open
    away = False
    assert here.work(adapters, run.id).state == "verified"
    (dump,) = adapters.ledger.steps(run.id, name="backup.dump")
    assert dump.attempts == 1


def test_a_process_is_dead_only_when_it_is_gone() -> None:
    from worker.owner import is_dead

    assert not is_dead(me())
    assert is_dead(me().rpartition("/")[0] + "/1")
