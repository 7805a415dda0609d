"""What monitors of Celery's events are shown: texts, arguments, requests."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from celery import Celery

from worker.errors import ConfigError, DumpFailed
from worker.flower.progress import text
from worker.flower.shown import EntryTask, Said, ShownTask, TaskFailed, arguments, request_of
from worker.ledger.model import Hint
from worker.redaction import register

BACKUP = "shop-backup-20261124-020000"


@pytest.mark.parametrize(
    ("backup", "key", "shown"),
    [
        (None, "", ("shop", "run r1")),
        (BACKUP, "", ("shop", f"run r1 {BACKUP}")),
        (BACKUP, "dump@s3#3", ("shop dump@s3#3", f"run r1 {BACKUP}")),
        (BACKUP, f"{BACKUP}.dump.gpg@s3#3", ("shop dump.gpg@s3#3", f"run r1 {BACKUP}")),
        (None, f"s3:{BACKUP}", (f"shop s3:{BACKUP}", "run r1")),
    ],
)
def test_arguments(backup: str | None, key: str, shown: tuple[str, str]) -> None:
    assert arguments(Hint("r1", 7, "backup.seal", "dump", "shop", backup, key)) == shown


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [
        (1024, 4096, "25 %: 1.0 KiB of 4.0 KiB, 512 B/s"),
        (4096, 1024, "99 %: 4.0 KiB of 1.0 KiB, 2.0 KiB/s"),  # the total was a guess
        (1024, 0, "1.0 KiB, 512 B/s"),
    ],
)
def test_progress(done: int, total: int, said: str) -> None:
    assert text(done, total, 2.0) == said


def test_a_request_is_one_object_or_its_fields() -> None:
    assert request_of("drill", (), {"database": "shop"}) == {"database": "shop"}
    assert request_of("drill", ({"database": "shop"},), {}) == {"database": "shop"}
    assert request_of("drill", (None,), {}) == request_of("drill", (), {}) == {}
    for args, fields in ((("shop",), {}), (({}, {}), {}), (({},), {"database": "shop"})):
        with pytest.raises(ConfigError, match="neither one JSON object nor fields by name"):
            request_of("drill", args, fields)


def test_what_is_shown_is_no_repr_of_a_text() -> None:
    assert repr(Said("done in 1.0 s")) == "done in 1.0 s"
    error: TaskFailed = pickle.loads(pickle.dumps(TaskFailed("DumpFailed: no.", "Look.")))
    assert (repr(error), error.hint) == ("DumpFailed: no.", "Look.")


def failing(error: Exception) -> Any:
    app = Celery("test", broker="memory://")

    @app.task(base=ShownTask)
    def task() -> None:
        raise error

    return task


def test_an_error_leaves_a_task_as_a_sentence_and_what_to_do() -> None:
    with pytest.raises(TaskFailed) as known:
        failing(DumpFailed("No dump.", "Look at it."))()
    assert (repr(known.value), known.value.hint) == ("DumpFailed: No dump.", "Look at it.")
    assert known.value.__cause__ is None


def test_an_error_that_nobody_expects_shows_no_secret() -> None:
    register("hunter2-the-password")
    with pytest.raises(TaskFailed) as unknown:
        failing(ValueError("cannot parse hunter2-the-password"))()
    assert repr(unknown.value).startswith("ValueError: cannot parse ")
    assert "hunter2" not in repr(unknown.value)
    assert "log has the details" in unknown.value.hint


def test_monitors_get_no_traceback() -> None:
    class Info:
        traceback = "Traceback (most recent call last): …"

    info = Info()
    failing(ValueError())._get_current_object().on_failure(TaskFailed("a", "Do this."), "id", (), {}, info)
    assert info.traceback == "Do this."


def test_what_is_refused_is_not_sent_as_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(ShownTask, "apply_async", lambda self, args, kwargs, **options: sent.append(options))
    app = Celery("test", broker="memory://")

    @app.task(base=EntryTask, kind="backup")
    def entry(**fields: Any) -> None: ...

    entry.apply_async(kwargs={"databases": ["shop"]})
    entry.apply_async(kwargs={"password": "hunter2"})
    assert [options["kwargsrepr"] for options in sent] == [
        '{"databases": ["shop"]}',
        "not shown: what is refused may hold a secret",
    ]
