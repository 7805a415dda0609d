"""The reference is what the program says now: the committed pages are the generated ones, nothing is undescribed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from scripts.reference import ledger, manifest, tasks
from scripts.reference.errors import RECORDED, advice
from scripts.reference.exit_codes import MEANINGS
from scripts.reference.json_schema import fields
from scripts.reference.known import ERRORS
from scripts.reference.messages import Message, collect
from scripts.reference.pages import DIRECTORY, PAGES
from tests.docs.conftest import ROOT
from worker import __version__, runner
from worker.config.load import load
from worker.config.model import Server
from worker.core import cron
from worker.core.backup import Manifest
from worker.core.drill import question
from worker.core.requests import parse
from worker.core.versions import choose
from worker.errors import PgfleetError
from worker.ledger import Ledger
from worker.ledger.model import RunKind, RunState, StepState
from worker.local.environment import program
from worker.postgres.failures import connection_error
from worker.storage.names import check_name


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    """As `make reference` does, by a process of its own: click's commands remember how they were called before."""
    program = "from scripts.reference.pages import PAGES as P; import json; print(json.dumps({n: P[n]() for n in P}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_program_says(name: str, rendered: dict[str, str]) -> None:
    assert (DIRECTORY / name).read_text() == rendered[name], "make reference"


def test_nothing_in_the_directory_is_forgotten() -> None:
    by_hand = {"README.md", "json.md"}
    assert {path.name for path in DIRECTORY.iterdir()} == {*PAGES, *by_hand}


def test_states_kinds_fields_and_queues_are_described() -> None:
    assert set(ledger.RUN_STATES) == set(get_args(RunState))
    assert set(ledger.STEP_STATES) == set(get_args(StepState))
    assert set(ledger.RUN_KINDS) == set(get_args(RunKind))
    assert "| `sealed_at` |" in fields(manifest.schema())
    for name, meanings in manifest.MEANINGS.items():
        definition = {**manifest.schema()["$defs"], "Manifest": manifest.schema()}[name]
        assert set(meanings) == set(definition["properties"]), name
    assert [name for name, queue in tasks.queues().items() if not queue] == []
    assert set(tasks.registered()) >= {*runner.STEPS, "pgfleet.backup", "pgfleet.reconcile"}


def test_every_kind_of_error_has_its_advice_and_its_exit_code_a_meaning() -> None:
    for error in ERRORS.values():
        assert all(advice(error)[1:])
        assert error.exit_code in MEANINGS
    with pytest.raises(ValueError, match="Silent: its docstring needs Cause"):
        advice(type("Silent", (PgfleetError,), {"__doc__": "Something.\n\nCheck: this.\nCure: that."}))


def test_every_message_is_of_a_known_kind() -> None:
    messages = collect()
    assert len(messages) > 300
    assert {message.error for message in messages} <= {*ERRORS, *RECORDED}
    assert set(RECORDED) <= {message.error for message in messages}


def _connection() -> None:
    server = Server(host="db", port=5432, user="backup", password=None)
    raise connection_error("connection to server failed: Connection refused", server, "shop")


@pytest.mark.parametrize(
    "make",
    [
        partial(load, {"DB_PORT": "many"}),
        partial(load, {"PGFLEET_NO_SUCH": "1"}),
        partial(Manifest.from_json, "{}"),
        partial(parse, "restore", {"database": "shop", "backup": "../x"}),
        partial(parse, "backup", {"databases": ["shop"], "more": 1}),
        partial(parse, "other", {}),
        partial(cron.validate, "at noon"),
        partial(question, "q.sql", "SELECT 1"),
        partial(choose, "shop", (17, 0), {}),
        partial(program, "no-such-program"),
        partial(check_name, "../x"),
        partial(Ledger, "mysql://x/y"),
        _connection,
    ],
    ids=lambda make: getattr(make, "func", make).__name__,
)
def test_what_is_really_said_is_on_the_page(make: Callable[[], Any]) -> None:
    with pytest.raises(PgfleetError) as caught:
        make()
    entry = _entry(caught.value)
    assert entry is not None, caught.value.message
    assert f"\n## {entry.error}\n" in (DIRECTORY / "errors.md").read_text()


def _entry(error: PgfleetError) -> Message | None:
    own = (message for message in collect() if message.error == type(error).__name__)
    return next((message for message in own if message.pattern.fullmatch(error.message)), None)


def test_a_message_that_nobody_wrote_is_not_found(tmp_path: Path) -> None:
    assert _entry(ERRORS["ConfigError"]("The moon is in the wrong phase.", "")) is None
    source = 'def f(x):\n    if x:\n        raise ConfigError(f"The {x} is {x.y}.", "Wait.")\n'
    (tmp_path / "moon.py").write_text(source)
    assert collect(tmp_path) == [Message("ConfigError", "The … is ….", "Wait.")]


def test_who_passes_messages_on_is_known() -> None:
    """Sentences that go through a function are found only where the generator knows it."""
    found = set()
    for path in (ROOT / "worker").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                own = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
                found |= {function.name for call in ast.walk(function) if _passes_on(call, own)}
    # as_… give the message of another error, unchanged; _judged that of `_incomparable`
    assert found == {"_problem", "as_restore", "as_download", "_judged"}


def _passes_on(call: ast.AST, names: set[str]) -> bool:
    if not isinstance(call, ast.Call) or not call.args or isinstance(call.args[0], ast.JoinedStr):
        return False
    called = getattr(call.func, "id", getattr(call.func, "attr", ""))
    used = {node.id for node in ast.walk(call.args[0]) if isinstance(node, ast.Name)}
    return called in {*ERRORS, "Problem", "_problem"} and bool(used & names)


def test_one_version() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
